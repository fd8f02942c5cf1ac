"""The game: the same seed and actions give the same episode, whatever happens to its process; nothing is left behind."""

import os
import signal
import time
from pathlib import Path

import cv2
import gymnasium
import numpy as np
import pytest
import vizdoom
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from envs.doom import DoomEnv, DoomVector
from envs.shrink import Shrink
from experiment.problem import Problem
from tests.commands import python

ACTIONS = np.random.default_rng(0).integers(0, 3, (60, 3))


@pytest.fixture
def env():
    env = DoomEnv(render_mode="rgb_array")
    yield env
    env.close()


@pytest.fixture
def vector():
    vector = DoomVector(3, max_steps=60, autoreset_mode=AutoresetMode.DISABLED)
    yield vector
    vector.close()


def play(env: DoomEnv, seed: int, actions: np.ndarray, kill_at: int = -1) -> np.ndarray:
    """The frames of an episode's first steps, (steps + 1, 64, 64, 3); the game is killed before step kill_at."""
    frames = [env.reset(seed=seed)[0]]
    for step, action in enumerate(actions):
        if step == kill_at:
            os.kill(env.vector.games[0].engine.pid, signal.SIGKILL)
        frames.append(env.step(int(action))[0])
    return np.stack(frames)


def test_the_environment_passes_gymnasiums_checker():
    env = gymnasium.make("DoomTakeCover-v0", render_mode="rgb_array")
    check_env(env.unwrapped)
    env.close()


def test_the_same_seed_and_actions_give_the_same_episode(env):
    first = play(env, 5, ACTIONS[:, 0])
    assert (first[11:] != first[10:-1]).any(axis=(1, 2, 3)).all()  # before that the weapon is raised out of sight
    np.testing.assert_array_equal(first, play(env, 5, ACTIONS[:, 0]))
    assert not np.array_equal(first, play(env, 6, ACTIONS[:, 0]))
    np.testing.assert_array_equal(first, play(env, 5, ACTIONS[:, 0], kill_at=31))
    os.kill(env.vector.games[0].engine.pid, signal.SIGKILL)  # and between two episodes
    np.testing.assert_array_equal(first, play(env, 5, ACTIONS[:, 0]))


def test_the_observation_is_the_screen_without_its_status_bar(env):
    start = env.reset(seed=1)[0], env.render()
    assert start[1].shape == (120, 160, 3) and start[1].dtype == np.uint8
    frame = play(env, 1, ACTIONS[:, 0])[-1]
    screen = env.render()
    np.testing.assert_array_equal(frame, cv2.resize(screen[:100], (64, 64), interpolation=cv2.INTER_AREA))
    change = np.abs(screen.astype(int) - start[1]).mean(axis=(1, 2))  # of each row
    assert change[100:].mean() < 3 < change[:100].mean()


def test_the_screen_can_be_the_originals():
    """Larger, red after a hit, and later in the game; the same game for all that."""
    plain, original = DoomEnv(), DoomEnv(screen="640x480", flashes=True, start_tic=14, render_mode="rgb_array")
    frames = play(plain, 3, np.zeros(13, int)), play(original, 3, [])
    screen = original.render()
    assert screen.shape == (480, 640, 3)
    np.testing.assert_array_equal(frames[1][0], cv2.resize(screen[:400], (64, 64), interpolation=cv2.INTER_AREA))
    difference = np.abs(frames[0].astype(int) - frames[1][0].astype(int)).mean(axis=(1, 2, 3))
    assert difference[-1] == difference[2:].min() < 8  # 13 tics on: the same moment, but for aliasing
    hit, (red, before) = False, [frame.astype(int).mean(axis=(0, 1)) for frame in (frames[1][0], frames[1][0])]
    while not hit:
        before = red
        frame, _, dead, _, info = original.step(0)
        red, hit = frame.astype(int).mean(axis=(0, 1)), info["hit"]
    assert not dead and red[0] - red[1] > before[0] - before[1] + 20
    for env in (plain, original):
        env.close()


def test_hits_are_told(vector):
    """Every death is a hit, and a hit need not be one: with each step, in one game or many, for the same episode."""
    vector.max_steps = 2100
    vector.reset(seed=[3, 4, 5])
    env, told = DoomEnv(), []
    env.reset(seed=3)
    while True:
        told.append(bool(vector.step(np.zeros(3, int))[-1]["hit"][0]))
        _, _, dead, _, about = env.step(0)
        assert told[-1] == about["hit"]
        if dead:
            break
    env.close()
    assert told[-1] and sum(told) > 1 and not any(told[:30])
    assert not vector.step(np.zeros(3, int))[-1]["hit"].any()  # a game that is over hurts no more


def test_an_idle_player_dies_and_a_long_episode_is_cut(env, vector):
    env.reset(seed=3)
    steps, terminated = 0, False
    while not terminated:
        _, reward, terminated, truncated, _ = env.step(0)
        steps += 1
        assert reward == 1 and not truncated and steps < 1000
    assert steps > 60  # so that the vector's cut below is no death
    vector.reset(seed=3)
    for step in range(60):
        _, rewards, dead, truncated, _ = vector.step(np.zeros(3, int))
        assert not dead.any() and (truncated == (step == 59)).all() and (rewards == 1).all()
    frames, rewards, dead, truncated, _ = vector.step(np.zeros(3, int))
    assert truncated.all() and not rewards.any()
    mask = np.array([False, True, False])
    fresh, info = vector.reset(seed=[7, 8, 9], options={"reset_mask": mask})
    np.testing.assert_array_equal(fresh[~mask], frames[~mask])
    assert info["seed"].tolist() == [3, 8, 5]
    _, rewards, _, truncated, _ = vector.step(np.zeros(3, int))
    assert rewards.tolist() == [0, 1, 0] and truncated.tolist() == [True, False, True]


def test_many_games_side_by_side_are_the_same_as_one_by_one(env, vector):
    frames = [vector.reset(seed=20)[0]]
    for step, actions in enumerate(ACTIONS[:40]):
        if step == 25:
            os.kill(vector.games[1].engine.pid, signal.SIGKILL)
        frames.append(vector.step(actions)[0])
    for i in range(3):
        np.testing.assert_array_equal(np.stack(frames)[:, i], play(env, 20 + i, ACTIONS[:40, i]))


@pytest.mark.parametrize(
    ("mode", "cut", "unrewarded"),
    [
        ("NextStep", [15, 31], [16, 32]),
        ("SameStep", [15, 30], []),
        ("Disabled", list(range(15, 33)), list(range(16, 33))),
    ],
)
def test_a_game_that_is_over_begins_another_episode_as_gymnasiums_do(mode, cut, unrewarded):
    options = {} if mode == "NextStep" else {"autoreset_mode": mode}  # that is Gymnasium's default
    games = gymnasium.make_vec("envs:DoomTakeCover-v0", num_envs=2, max_steps=15, **options)
    assert games.metadata["autoreset_mode"] is AutoresetMode(mode)
    first, _ = games.reset(seed=[3, 4])
    frames, rewards, _, truncated, infos = zip(*(games.step(np.zeros(2, int)) for _ in range(32)), strict=True)
    games.close()
    assert [step for step, ended in enumerate(truncated, 1) if ended.all()] == cut
    assert [step for step, reward in enumerate(rewards, 1) if not reward.any()] == unrewarded
    assert [step for step, info in enumerate(infos, 1) if "final_obs" in info] == (
        [15, 30] if mode == "SameStep" else []
    )
    begun = frames[14] if mode == "SameStep" else frames[15]
    assert np.array_equal(begun, first) == (mode != "Disabled")  # Doom's first picture is the same for all seeds
    if mode == "SameStep":
        last = np.stack(infos[14]["final_obs"].tolist())
        assert infos[14]["_final_obs"].all() and (last != begun).any(axis=(1, 2, 3)).all()


def test_a_game_that_cannot_live_is_a_problem(env, monkeypatch):
    def die(game):
        raise vizdoom.ViZDoomUnexpectedExitException("gone")

    monkeypatch.setattr("envs.doom.Engine", die)
    with pytest.raises(Problem, match=r"3 times in a row \(gone\)"):
        env.reset(seed=0)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into Linux's /proc")
def test_a_game_is_out_of_ctrl_cs_reach(env):
    """From its first moment on: what starts it would crash this program if it were interrupted."""
    env.reset(seed=1)
    status = Path(f"/proc/{env.vector.games[0].engine.pid}/status").read_text()
    blocked = next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1]
    assert int(blocked, 16) >> (signal.SIGINT - 1) & 1
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_games_started_by_many_threads_at_once_all_start():
    vectors = [DoomVector(6, threads=6) for _ in range(2)]
    for vector in vectors:
        frames, _ = vector.reset(seed=[0] * 6)
        assert (frames == frames[0]).all() and frames.any()
        vector.close()


@pytest.mark.parametrize(("source", "target"), [((25, 40), (16, 16)), ((21, 24), (16, 16)), ((9, 7), (3, 5))])
def test_shrinking_is_the_mean_over_areas(source, target):
    image = np.random.default_rng(0).integers(0, 256, (*source, 3)).astype(np.uint8)
    fine = (
        image.astype(float).repeat(target[0], axis=0).repeat(target[1], axis=1)
    )  # each pixel of either, in whole cells
    cells = fine.reshape(target[0], source[0], target[1], source[1], 3)
    out = np.empty((*target, 3), np.uint8)
    Shrink(source, target)(image, out)
    assert np.abs(out - cells.mean(axis=(1, 3))).max() < 0.501


PARENT = """
import os, signal, sys
from envs.doom import DoomVector
vector = DoomVector(2)
vector.reset(seed=0)
engines = [game.engine for game in vector.games]
print(*(f"{engine.pid}:{engine.game.get_instance_id()}" for engine in engines), flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "crashed":
    raise SystemError("a bug")
if sys.argv[1] == "closed":
    vector.close()
"""


def gone(process: str) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="looks into Linux's /proc and /dev/shm")
@pytest.mark.parametrize("end", ["closed", "forgotten", "crashed", "killed"])
def test_nothing_is_left_behind(tmp_path, end):
    working, temporary = tmp_path / "working", tmp_path / "temporary"
    working.mkdir()
    temporary.mkdir()
    parent = python("-c", PARENT, end, cwd=working, TMPDIR=str(temporary))
    games = [word.split(":") for word in parent.stdout.split()]
    assert len(games) == 2, parent.stderr

    def left() -> list[Path]:
        memory = [path for _, instance in games for path in Path("/dev/shm").glob(f"ViZDoom*{instance}")]
        alive = [Path(f"/proc/{process}") for process, _ in games if not gone(process)]
        return [*working.iterdir(), *temporary.iterdir(), *memory, *alive]

    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:  # what is killed is cleaned up by another process, in a moment
        time.sleep(0.02)
    assert not left()


LIMITED = """
import resource
from envs.doom import DoomVector
from experiment.problem import Problem
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
vector = DoomVector(20, threads=2)
try:
    vector.reset(seed=0)
except Problem as problem:
    print(problem.line())
vector.close()
"""


def test_too_many_games_for_the_open_files_that_are_allowed_are_one_line(tmp_path):
    done = python("-c", LIMITED, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("error: no more games can be started here (Too many open files)"), done.stderr
    assert done.stdout.count("\n") == 1 and "ulimit -n" in done.stdout and done.stderr == ""
    assert not list(tmp_path.iterdir())
