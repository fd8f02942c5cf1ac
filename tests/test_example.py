"""What examples/ shows, as a reader runs it."""

import re

import pytest

from tests.commands import PROJECT, python

EXAMPLE = PROJECT / "examples" / "ppo_in_the_dream.py"


@pytest.mark.needs("stable_baselines3")
def test_a_world_that_has_no_environments_is_refused(tmp_path):
    done = python(EXAMPLE, "breakout", cwd=tmp_path, timeout=600)
    said = "error: there are no environments of breakout by name, expected a run of doom or carracing"
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith(said)


@pytest.mark.needs("stable_baselines3")
def test_another_librarys_agent_learns_in_the_dream_and_plays_the_game(tmp_path):
    options = ["doom", "--steps", "1024", "--dreams", "8", "--episodes", "2"]
    done = python(EXAMPLE, *options, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "\n1,024 dreamed steps in " in done.stdout
    returns = re.findall(r"^(PPO|the run's C|random play) +(\d+) ± \d+ \(mean ± \d+\)$", done.stdout, re.MULTILINE)
    assert len(returns) == 3 and all(int(mean) > 20 for _, mean in returns)
