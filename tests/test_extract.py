"""Extraction as a user runs it: whole, spread over workers, killed and run again, and with bad input."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from envs.actions import move, to_discrete
from envs.episodes import moments
from envs.worlds import WORLDS
from experiment.cluster import Cluster
from experiment.config import load_config
from experiment.files import write_json
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment, Extract
from extract.__main__ import run as record
from extract.__main__ import show
from extract.collect import SEEDS, collect, episodes, plan
from extract.recorded import manifest
from extract.rollouts import Rollouts, shard_path
from tests.commands import command_here, python
from tests.fake import FakeGames, fake_world, length, write_shard
from tests.test_episodes import Witness

CONFIG = Path(__file__).parent.parent / "configs" / "doom.yaml"
TINY = [
    "extract.episodes=5",
    "extract.shard_episodes=2",
    "extract.min_steps=60",
    "env.max_steps=80",
    "data.val_ratio=0.4",
]


def tiny(*overrides: str) -> Experiment:
    return load_config(CONFIG, "quick", [*TINY, "workers.processes=1", *overrides])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run with rollouts that one worker has recorded without interruption. Not to be changed."""
    run = Run(tmp_path_factory.mktemp("recorded"))
    collect(tiny(), run)
    return run


def contents(run: Run) -> dict[str, dict[str, bytes]]:
    """The bytes of everything in every shard."""
    result = {}
    for path in sorted(run.rollouts.iterdir()):
        with h5py.File(path) as file:
            result[path.name] = {name: file[name][()].tobytes() for name in file} | {
                "": repr(sorted(file.attrs.items()))
            }
    return result


def test_who_does_not_look_is_recorded_like_one_who_does(recorded, tmp_path, monkeypatch):
    monkeypatch.setitem(WORLDS, "doom", replace(WORLDS["doom"], blind=None))
    collect(tiny(), Run(tmp_path))
    assert contents(Run(tmp_path)) == contents(recorded)


def test_a_policy_that_does_not_look_needs_no_tensorflow(tmp_path):
    code = (
        "import atexit, sys; from extract.__main__ import STAGE, main, run; "
        "atexit.register(lambda: print([name for name in ('numpy', 'tensorflow', 'keras') if name in sys.modules])); "
        "main(STAGE, run)"
    )
    done = python("-c", code, CONFIG, "--run", tmp_path / "run", *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['numpy']"
    assert "cores" in Run(tmp_path / "run").read_results()["machine"]


def test_episodes_are_recorded_as_asked(recorded):
    rollouts = Rollouts(recorded.rollouts)
    assert [len(shard.lengths) for shard in rollouts.shards] == [2, 2, 1]
    assert rollouts.frame_shape == (64, 64, 3)
    assert (rollouts.lengths > 60).all() and (rollouts.lengths <= 80).all()
    seeds = [rollouts.episode(i).seed for i in range(5)]
    assert len(set(seeds)) == 5 and max(seeds) < SEEDS
    for i in range(5):
        episode = rollouts.episode(i)
        assert (np.abs(episode.actions) <= 1).all() and (episode.rewards == 1).all()
        assert not (episode.terminated | episode.truncated)[:-1].any()
        assert episode.terminated[-1] or (episode.truncated[-1] and len(episode.actions) == 80)
        assert episode.frames[20:].std(axis=0).max() > 5  # the world moves


def test_the_recorded_actions_and_seed_give_the_recorded_frames(recorded):
    from envs.doom import DoomEnv

    episode = Rollouts(recorded.rollouts).episode(3)
    env = DoomEnv(max_steps=80)
    frames = [env.reset(seed=episode.seed)[0]] + [env.step(int(to_discrete(move(a))))[0] for a in episode.actions[:-1]]
    env.close()
    np.testing.assert_array_equal(np.stack(frames), episode.frames)


def test_the_result_does_not_depend_on_the_workers(recorded, tmp_path):
    run = Run(tmp_path)
    collect(tiny("workers.processes=2"), run)
    assert contents(run) == contents(recorded)


def test_workers_in_another_folder_write_where_the_run_is(recorded, tmp_path, monkeypatch):
    """As those of a Ray cluster; what they write elsewhere all the same is not called recorded."""

    class Elsewhere(Cluster):
        def run(self, tasks):
            for index, task in enumerate(tasks):
                with contextlib.chdir(elsewhere):
                    yield index, self.function(task)

    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr("experiment.cluster.Cluster", Elsewhere)
    monkeypatch.chdir(tmp_path)
    settings = tiny("workers.backend=ray")
    record(settings, Run("run"))
    assert contents(Run(tmp_path / "run")) == contents(recorded)
    with pytest.raises(Problem, match=r"other/rollouts/shard-00000.h5 was recorded, but is not here: .*shared disk"):
        collect(settings, Run("other"))


def test_the_controller_that_plays_is_to_be_finished(tmp_path, capsys):
    first = Run(tmp_path)
    first.config.touch()
    write_json(first.record("controller"), {"complete": False, "settings": {}})
    assert command_here(*COMMAND[2:], "--run", first.at(2).path, "iterations=2") == 1
    said = f"error: {tmp_path} has no complete 'controller' yet, which iteration 2 plays with"
    assert capsys.readouterr().err.startswith(said) and not first.at(2).rollouts.exists()


def test_another_seed_gives_other_episodes(recorded, tmp_path):
    run = Run(tmp_path)
    collect(tiny("extract.seed=2", "extract.episodes=2", "data.val_ratio=0.5"), run)
    assert not set(Rollouts(run.rollouts).shards[0].seeds) & set(Rollouts(recorded.rollouts).shards[0].seeds)


def test_short_episodes_are_replaced_but_counted(tmp_path, capsys):
    run = Run(tmp_path)
    figures = collect(tiny("extract.episodes=8", "extract.min_steps=220", "env.max_steps=230"), run)
    shards = Rollouts(run.rollouts).shards
    assert figures["episodes"] == 8 and figures["played"] == sum(len(shard.played_lengths) for shard in shards) > 3
    for shard in shards:
        kept = shard.played_lengths[shard.played_lengths > 220]
        np.testing.assert_array_equal(kept, shard.lengths)
        np.testing.assert_array_equal(shard.played_returns, shard.played_lengths)  # a reward of 1 a tic
    lengths = np.concatenate([shard.played_lengths for shard in shards])
    assert figures["return_mean"] == pytest.approx(lengths.mean(), abs=0.05)
    assert f"survival in tics {lengths.mean():.0f} ± {lengths.std():.0f} in" in capsys.readouterr().out


COMMAND = [sys.executable, "-m", "extract", str(CONFIG), "--preset", "quick", "workers.processes=2"]


def test_killed_and_run_again_ends_the_same(tmp_path, capfd):
    # Large enough that the workers, which notice within half a second, cannot finish it all before they end.
    larger = ["extract.episodes=80", "extract.shard_episodes=10", "env.max_steps=300"]
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    collect(tiny(*larger), whole)
    command = [*COMMAND, "--run", str(run.path), *TINY, *larger]
    parent = subprocess.Popen(command, cwd=CONFIG.parent.parent, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(run.rollouts.glob("shard-*")):
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while Path("/proc").exists() and processes_of_session(parent.pid):
        assert time.monotonic() < deadline, "workers or games outlive the command"
        time.sleep(0.02)
    finished = {path: path.stat().st_mtime_ns for path in run.rollouts.glob("shard-*")}
    assert 0 < len(finished) < 8
    assert command_here(*command[2:]) == 0
    assert contents(run) == contents(whole)
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    assert "the paper's random policy: 210 ± 108" in capfd.readouterr().out


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into Linux's /proc")
def test_nothing_goes_on_after_ctrl_c(tmp_path):
    """Neither workers, nor shards that are begun or next, nor games; the terminal sends SIGINT to all of the command."""
    run, temporary = Run(tmp_path / "run"), tmp_path / "temporary"
    temporary.mkdir()
    larger = ["extract.episodes=200", "extract.shard_episodes=20", "env.max_steps=300"]
    command = subprocess.Popen(
        [*COMMAND, "--run", str(run.path), *TINY, *larger],
        cwd=CONFIG.parent.parent,
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(run.rollouts.glob("shard-*")):
        assert command.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(command.pid, signal.SIGINT)
    assert command.stderr is not None and "interrupted" in command.stderr.readline() + command.stderr.readline()
    shards = len(list(run.rollouts.glob("shard-*")))
    deadline = time.monotonic() + 5
    while processes_of_session(command.pid) or list(temporary.iterdir()):  # a game has a folder there while it runs
        assert time.monotonic() < deadline, "workers or games go on"
        time.sleep(0.02)
    assert command.wait() == 130 and command.stderr.read() == ""
    assert 0 < shards == len(list(run.rollouts.glob("shard-*"))) < 10


def processes_of_session(session: int) -> list[int]:
    """Processes that a command started in a session of its own has left."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def copied(recorded: Run, folder: Path) -> Run:
    """A run with copies of the recorded shards."""
    run = Run(folder)
    shutil.copytree(recorded.rollouts, run.rollouts)
    return run


def test_a_deleted_shard_is_recorded_again_and_no_other(recorded, tmp_path):
    run = copied(recorded, tmp_path)
    shard_path(run.rollouts, 1).unlink()
    before = shard_path(run.rollouts, 0).stat().st_mtime_ns
    collect(tiny(), run)
    assert contents(run) == contents(recorded)
    assert shard_path(run.rollouts, 0).stat().st_mtime_ns == before


def test_a_damaged_shard_is_named_by_the_command(recorded, tmp_path):
    run = copied(recorded, tmp_path)
    os.truncate(shard_path(run.rollouts, 1), 5000)
    done = python(*COMMAND[1:], "--run", run.path, *TINY)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "shard-00001.h5 is damaged" in done.stderr and "delete it" in done.stderr


def test_what_is_shown_is_of_every_iteration(recorded, tmp_path, capsys):
    run = copied(recorded, tmp_path)
    run.at(2).path.mkdir(parents=True)
    max(copied(recorded, run.at(2).path).rollouts.iterdir()).unlink()
    run.at(2).controller.touch()
    show(["--show", str(run.path)])
    shown = capsys.readouterr().out.rstrip("\n").split("\n---\n")
    assert shown == [manifest(run.rollouts), manifest(run.at(2).rollouts)] and shown[0] != shown[1]


def test_who_stops_reading_what_is_shown_sees_no_traceback(recorded):
    """As in `python -m extract --show RUN | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND[:3], "--show", str(recorded.path)],
        cwd=CONFIG.parent.parent,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_shards_of_other_settings_are_refused(recorded, tmp_path):
    run = copied(recorded, tmp_path)
    with pytest.raises(Problem, match=r"shard-00000.h5 was recorded with extract.seed=1, not 7"):
        collect(tiny("extract.seed=7"), run)
    write_shard(shard_path(run.rollouts, 9), [Rollouts(run.rollouts).episode(0)], {})
    with pytest.raises(Problem, match=r"shard-00009.h5 is not one of this run's 3 shards"):
        collect(tiny(), run)


def test_episodes_that_are_hardly_ever_kept_are_a_problem(tmp_path, monkeypatch):
    monkeypatch.setitem(WORLDS, "doom", fake_world())  # whose episodes have 7 steps at most
    run = Run(tmp_path)
    with pytest.raises(Problem, match=r"only 0 of 100 episodes lasted longer than extract\.min_steps=60"):
        collect(tiny(), run)
    assert not list(run.rollouts.iterdir())


@pytest.mark.parametrize("games", [1, 2, 4])
def test_episodes_come_in_the_order_of_their_seeds(games):
    """However long each lasts beside the others, with everything that happened in it."""
    seeds = np.array([6, 0, 7, 13, 1, 14, 3, 5])  # 7, 1, 1, 7, 2, 1, 4 and 6 steps
    recorded = list(episodes(moments(fake_world(), FakeGames(games), Witness(games), iter(seeds.tolist())), seeds))
    assert [episode.seed for episode in recorded] == seeds.tolist()
    for episode in recorded:
        steps = np.arange(length(episode.seed))
        last = steps == steps[-1]
        np.testing.assert_array_equal(
            episode.frames[:, 0, 0], np.stack([0 * steps + episode.seed, steps, 0 * steps + episode.seed], 1)
        )
        np.testing.assert_allclose(episode.actions, np.where(steps % 2, 0.9, -0.9))
        np.testing.assert_array_equal(episode.rewards, episode.seed % 10 + np.where(steps % 2, 2, 1))
        np.testing.assert_array_equal(episode.terminated, last & (episode.seed % 2 == 0))
        np.testing.assert_array_equal(episode.truncated, last & (episode.seed % 2 == 1))


def test_an_episode_is_given_as_soon_as_it_and_those_before_it_are_over():
    """So that no more of them are held in memory than have to be."""
    vector = FakeGames(2)
    recorded = episodes(moments(fake_world(), vector, Witness(2), iter([6, 0, 7, 13])), np.array([6, 0, 7, 13]))
    next(recorded)
    assert vector.step_number.tolist() == [7, 5]  # seed 13 was begun beside 6, in step 3


@pytest.mark.parametrize("name", ["doom", "carracing"])
def test_the_result_does_not_depend_on_how_many_games_are_played_side_by_side(tmp_path, monkeypatch, name):
    settings = tiny("extract.min_steps=3", "extract.episodes=9", "extract.shard_episodes=5", f"env.name={name}")
    runs = []
    for games in (1, 3):
        monkeypatch.setitem(WORLDS, name, fake_world(name, recorded=games))
        runs.append(Run(tmp_path / str(games)))
        collect(settings, runs[-1])
    assert contents(runs[0]) == contents(runs[1])
    rollouts = Rollouts(runs[0].rollouts)
    assert (rollouts.lengths > 3).all() and rollouts.episodes == 9
    actions = rollouts.sequences().actions
    assert actions.shape == ((rollouts.frames,) if name == "doom" else (rollouts.frames, 3))


def test_episodes_are_cut_short_where_extraction_is_to(tmp_path, monkeypatch):
    monkeypatch.setitem(WORLDS, "doom", fake_world())
    run = Run(tmp_path)
    figures = collect(tiny("extract.min_steps=3", "extract.max_steps=5", "extract.episodes=20"), run)
    rollouts = Rollouts(run.rollouts)
    assert set(rollouts.lengths.tolist()) == {4, 5}
    assert figures["tics"] == sum(int(shard.played_lengths.sum()) for shard in rollouts.shards)
    for index in range(20):
        episode = rollouts.episode(index)
        cut = length(episode.seed) > 5 or episode.seed % 2 == 1
        assert (episode.truncated[-1], episode.terminated[-1]) == (cut, not cut)


def test_two_shards_never_share_a_seed():
    tasks = plan(replace(tiny(), extract=Extract(episodes=500, shard_episodes=100)), Path("nowhere"))
    seeds = np.concatenate([task.seeds() for task in tasks])
    assert len(tasks) == 5 and len(set(seeds.tolist())) == len(seeds) == SEEDS
