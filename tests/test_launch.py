"""The launch scripts, as far as they can be tried without installing anything: on a copy with a stand-in for pip."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "launch_scripts"
EXPERIMENTS = {"wm_doom.bash": "doom", "carracing.bash": "carracing"}

every_experiment = pytest.mark.parametrize("script, name", EXPERIMENTS.items(), ids=EXPERIMENTS.values())


def bash(*arguments, cwd, **environment):
    command = ["bash", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | environment, timeout=60)


@pytest.mark.parametrize("script", sorted([*SCRIPTS.glob("*.bash"), ROOT / ".ci" / "run"]), ids=lambda path: path.name)
def test_syntax(script):
    assert bash("-n", script, cwd=ROOT).returncode == 0


@every_experiment
def test_help_needs_no_installation(script, name, tmp_path):
    shutil.copytree(SCRIPTS, tmp_path / "launch_scripts")
    done = bash(f"launch_scripts/{script}", "--help", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith(
        f"usage: bash launch_scripts/{script} [quick|laptop|paper] [--run DIR] [key=value ...]"
    )
    for said in ("key=value", f"runs/{name}-quick", f"configs/{name}.yaml", "EXTRAS=", "PYTHON="):
        assert said in done.stdout
    assert not any(f"runs/{other}" in done.stdout for other in EXPERIMENTS.values() if other != name)
    assert not (tmp_path / ".venv").exists()


def assert_mistake(done, said):
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("script", EXPERIMENTS)
@pytest.mark.parametrize(
    "arguments, said",
    [(["swift"], "'swift'"), (["--run"], "--run"), (["--fast"], "'--fast'"), (["quick", "paper"], "two presets")],
)
def test_mistakes_are_one_line(script, arguments, said, tmp_path):
    done = bash(SCRIPTS / script, *arguments, cwd=tmp_path)
    assert_mistake(done, said)
    assert done.stderr.startswith(f"{script}: ")


def test_the_shared_part_does_nothing_alone(tmp_path):
    assert_mistake(bash(SCRIPTS / "experiment.bash", "quick", cwd=tmp_path), "run one of them")


@pytest.fixture
def project(tmp_path):
    """A project whose `python` makes a stand-in environment: its pip notes what it is asked for."""
    folder = tmp_path / "project"
    shutil.copytree(SCRIPTS, folder / "launch_scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    python = tmp_path / "python"
    python.write_text(f"""#!/usr/bin/env bash
case "$*" in
    "-m venv --clear .venv") echo venv >>log; rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip install"*) echo "pip $*" >>log; sleep "${{PIP_SECONDS:-0}}"; exit "${{PIP_EXIT:-0}}" ;;
    "-m experiment"* | "-m nextframe"*) echo "$*" ;;
    "-c import pip") ;;
    *) exec {sys.executable} "$@" ;;
esac
""")
    python.chmod(0o755)
    return folder


def log(project):
    path = project / "log"
    return path.read_text().splitlines() if path.exists() else []


def setup(project, extras="", **environment):
    python = str(project.parent / "python")
    return bash("launch_scripts/setup.bash", extras, cwd=project, **{"PYTHON": python} | environment)


def test_setup_installs_once(project):
    assert setup(project, "dev").returncode == 0
    assert [line.split()[0] for line in log(project)] == ["venv", "pip"]
    assert log(project)[1].endswith("-c constraints.txt -e .[dev]")
    began = time.monotonic()
    assert setup(project, "dev").returncode == 0
    assert setup(project).returncode == 0  # no extras: a part of what is there
    assert time.monotonic() - began < 1
    assert len(log(project)) == 2
    assert setup(project, "ray,notebooks").returncode == 0
    assert log(project)[2].endswith("-e .[ray,notebooks]")
    (project / "constraints.txt").write_text("numpy==2.4.6\n")
    assert setup(project).returncode == 0
    assert len(log(project)) == 4


def installations(project):
    """What pip was asked for, one after the other: '.' or '.[extras]'."""
    return [line.split()[-1] for line in log(project) if line.startswith("pip")]


def test_extras_are_added_one_after_the_other(project):
    for extras in ("play", "notebooks", "play", "", "notebooks,play"):
        assert setup(project, extras).returncode == 0
    assert installations(project) == [".[play]", ".[notebooks]"]
    (project / "constraints.txt").write_text("numpy==2.4.6\n")  # none of them is as it should be now
    for extras in ("notebooks", "", "play"):
        assert setup(project, extras).returncode == 0
    assert installations(project)[2:] == [".[notebooks]", ".[play]"]


@pytest.mark.parametrize("before", [False, True], ids=["the first", "an extra"])
def test_setup_starts_afresh_after_being_killed(project, before):
    if before:
        assert setup(project).returncode == 0
    earlier = log(project)
    environment = os.environ | {"PYTHON": str(project.parent / "python"), "PIP_SECONDS": "60"}
    process = subprocess.Popen(
        ["bash", "launch_scripts/setup.bash", "ray"],
        cwd=project,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    while not any(line.startswith("pip") for line in log(project)[len(earlier) :]):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, 9)
    process.wait()
    assert setup(project).returncode == 0
    expected = [*(["pip"] if before else ["venv", "pip"]), "venv", "pip"]
    assert [line.split()[0] for line in log(project)[len(earlier) :]] == expected


def test_setup_says_that_pip_failed_and_keeps_the_environment(project):
    done = setup(project, PIP_EXIT="1")
    assert done.returncode == 1
    assert "pip could not install" in done.stderr and len(done.stderr.splitlines()) == 1
    assert setup(project).returncode == 0
    assert [line.split()[0] for line in log(project)] == ["venv", "pip", "pip"]


def test_an_extra_that_fails_leaves_the_rest_in_use(project):
    assert setup(project, "play").returncode == 0
    assert setup(project, "ray", PIP_EXIT="1").returncode == 1
    for extras in ("", "play"):  # as without a network: pip would fail
        assert setup(project, extras, PIP_EXIT="1").returncode == 0
    assert setup(project, "ray").returncode == 0
    assert installations(project) == [".[play]", ".[ray]", ".[ray]"]


def test_other_versions_that_fail_are_tried_again(project):
    pinned = (project / "constraints.txt").read_text()
    assert setup(project).returncode == 0
    (project / "constraints.txt").write_text("numpy==2.4.6\n")
    assert setup(project, PIP_EXIT="1").returncode == 1
    assert setup(project, PIP_EXIT="1").returncode == 1
    (project / "constraints.txt").write_text(pinned)  # pip may have got half-way through them
    assert setup(project).returncode == 0
    assert installations(project) == ["."] * 4


def test_two_setups_at_once_install_once(project):
    if not shutil.which("flock"):
        pytest.skip("flock is missing")
    environment = os.environ | {"PYTHON": str(project.parent / "python"), "PIP_SECONDS": "0.5"}
    command = ["bash", "launch_scripts/setup.bash"]
    both = [subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(30) for process in both] == [0, 0]
    assert [line.split()[0] for line in log(project)] == ["venv", "pip"]


def test_setup_without_python(project):
    done = setup(project, PYTHON="/nowhere/python3")
    assert done.returncode == 1
    assert "/nowhere/python3 is missing" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.fixture
def command(project, tmp_path):
    """command(script, *arguments): what a script becomes when it is started elsewhere."""
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()

    def run(script, *arguments, **environment):
        python = str(project.parent / "python")
        path = project / "launch_scripts" / script
        done = bash(path, *arguments, cwd=elsewhere, **{"PYTHON": python, "EXTRAS": ""} | environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    return run


@every_experiment
def test_arguments_are_passed_on(script, name, command, tmp_path):
    start = f"-m experiment configs/{name}.yaml"
    assert command(script) == f"{start} --preset laptop --run runs/{name}"
    assert command(script, "quick") == f"{start} --preset quick --run runs/{name}-quick"
    expected = f"{start} --preset paper --run {tmp_path}/else where/my run vae.steps=3 rnn.steps=4"
    assert command(script, "paper", "vae.steps=3", "--run", "my run", "rnn.steps=4") == expected
    assert command(script, f"--run={tmp_path}/run", "quick") == f"{start} --preset quick --run {tmp_path}/run"


@every_experiment
def test_a_run_to_begin_with_is_meant_from_where_the_user_is(script, name, command, project, tmp_path):
    (project / "pretrained" / "doom").mkdir(parents=True)
    (tmp_path / "else where" / "mine").mkdir()
    here = f"{tmp_path}/else where"
    for given, meant in (
        *(("doom", "doom"), ("mine", f"{here}/mine"), ("dom", "dom"), ("", "")),
        *(("runs/x", f"{here}/runs/x"), ("../mine", f"{here}/../mine"), ("/runs/x", "/runs/x"), ("~/x", "~/x")),
    ):
        assert command(script, f"begin={given}").endswith(f" --run runs/{name} begin={meant}")


@every_experiment
def test_extras_are_installed(script, name, command, project):
    command(script, "quick", EXTRAS="gpu,ray")
    assert log(project)[-1].endswith("-e .[gpu,ray]")


def test_a_script_may_take_one_word_more(command, project):
    (project / "launch_scripts" / "other.bash").write_text("""
set -euo pipefail
usage() { echo help; }
source "$(dirname "${BASH_SOURCE[0]}")/experiment.bash"
read_arguments "breakout coinrun" "$@"
launch nextframe "${word:-breakout}"
""")
    assert command("other.bash") == "-m nextframe configs/breakout.yaml --preset laptop --run runs/breakout"
    expected = "-m nextframe configs/coinrun.yaml --preset quick --run runs/coinrun-quick a.b=1"
    assert command("other.bash", "coinrun", "quick", "a.b=1") == command("other.bash", "quick", "a.b=1", "coinrun")
    assert command("other.bash", "coinrun", "a.b=1", "quick") == expected
    script = project / "launch_scripts" / "other.bash"
    assert_mistake(bash(script, "breakout", "coinrun", cwd=project), "'breakout' and 'coinrun'")
    assert_mistake(bash(script, "pong", cwd=project), "'pong': choose quick, laptop or paper, and breakout or coinrun")


def test_the_next_frame_model_may_be_of_either_game(command):
    start = "-m experiment configs/{0}.yaml --preset {1} --run runs/{2}"
    assert command("nextframe.bash") == start.format("breakout", "laptop", "breakout")
    assert command("nextframe.bash", "quick", "coinrun") == start.format("coinrun", "quick", "coinrun-quick")
    assert command("nextframe.bash", "breakout", "paper", "a.b=1") == (
        start.format("breakout", "paper", "breakout-paper") + " a.b=1"
    )


def test_the_next_frame_models_help_and_mistakes(tmp_path):
    script = SCRIPTS / "nextframe.bash"
    done = bash(script, "--help", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith("usage: bash launch_scripts/nextframe.bash [quick|laptop|paper] [breakout|coinrun] ")
    assert_mistake(bash(script, "breakout", "coinrun", cwd=tmp_path), "'breakout' and 'coinrun'")
    assert_mistake(bash(script, "pong", cwd=tmp_path), "breakout or coinrun")
