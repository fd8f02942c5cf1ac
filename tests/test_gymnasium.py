"""Worlds that nobody has seen: any environment of Gymnasium that shows pixels, here a tiny one of this file."""

import json
import re
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from envs.worlds import world_of
from experiment.backend import ops
from experiment.config import load_config
from experiment.problem import Problem
from experiment.run import Run
from gallery.stepping import read_action
from play.messages import axes_of
from tests.commands import command_here, python

CONFIG = Path(__file__).parent.parent / "configs" / "gymnasium.yaml"
TINY = f"{__name__}:Tiny-v0"
SPACES = {
    "choice": gymnasium.spaces.Discrete(3, start=-1),
    "choices": gymnasium.spaces.MultiDiscrete([3, 2]),
    "choice_list": gymnasium.spaces.MultiDiscrete([3]),
    "number": gymnasium.spaces.Box(-2, 2, (1,)),
    "numbers": gymnasium.spaces.Box(np.array([[0, -4]], np.float32), np.array([[1, 4]], np.float32)),
    "endless": gymnasium.spaces.Box(-np.inf, np.inf, (1,)),
    "both": gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)}),
}


class Tiny(gymnasium.Env):
    """A square on a line of 80 x 100 pixels, its place 0 to 9. The first number of an action moves it; at 9 the episode ends.

    The reward is the sum of the action. space: of SPACES. seen: whether the picture is the observation, too. loads: seconds
    that its first step takes longer than the others.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(
        self,
        render_mode: str | None = None,
        space: str = "choice",
        seen: bool = False,
        blank: bool = False,
        loads: float = 0,
    ):
        self.render_mode, self.seen, self.blank, self.loads = render_mode, seen, blank, loads
        self.action_space = SPACES[space]
        picture = gymnasium.spaces.Box(0, 255, (80, 100, 3), np.uint8)
        self.observation_space = picture if seen else gymnasium.spaces.Discrete(10)

    def observe(self):
        return self.render() if self.seen else self.place

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(5))
        return self.observe(), {}

    def step(self, action):
        assert action in self.action_space, action
        time.sleep(self.loads)
        self.loads = 0
        self.place = int(np.clip(self.place + np.sign(np.ravel(action)[0]), 0, 9))
        return self.observe(), float(np.sum(action)), self.place == 9, False, {}

    def render(self):
        if self.blank:
            return None
        picture = np.full((80, 100, 3), 30, np.uint8)
        picture[:, 10 * self.place : 10 * self.place + 10, 0] = 200
        return picture


gymnasium.register("Tiny-v0", entry_point=Tiny, max_episode_steps=30)


def settings(*overrides: str):
    return load_config(CONFIG, "quick", [f"env.id={TINY}", *overrides])


@pytest.mark.parametrize(
    ("space", "actions", "env_shape"),
    [("choice", 3, ()), ("choices", 5, (2,)), ("choice_list", 3, (1,)), ("number", 1, (1,)), ("numbers", 2, (1, 2))],
)
def test_actions_go_to_the_environment_and_back(space, actions, env_shape):
    world = world_of(settings(f"env.kwargs={{space: {space}}}"))
    assert world.actions == actions
    raw = np.random.default_rng(0).uniform(-1, 1, (50, actions) if actions > 1 else 50).astype(np.float32)
    executed = world.execute(raw)
    assert executed.shape == raw.shape and executed.dtype == np.float32
    np.testing.assert_allclose(world.execute(ops.convert_to_tensor(raw), ops), executed, atol=1e-6)
    taken = world.to_env(executed)
    assert taken.shape == (50, *env_shape) and all(action in world.action_space for action in taken)
    np.testing.assert_allclose(world.from_env(taken), executed, atol=1e-6)
    np.testing.assert_allclose(world.execute(world.unexecute(executed)), executed, atol=1e-6)
    if space.startswith("choice"):  # a random policy chooses everything as often
        assert set(np.unique(executed)) == {0, 1} and executed.any(axis=0).all()
    else:
        assert (
            executed.min() < 0.9 * world.action_space.low.min() and executed.max() > 0.9 * world.action_space.high.max()
        )


@pytest.mark.parametrize(
    ("space", "typed", "wrong", "said"),
    [
        ("choice", "2", "3", "write 0 (0), 1 (1), 2 (2) or recorded"),
        ("choices", "2 1", "2 2", "write whole numbers, (0 to 2) (0 to 1), or recorded"),
        ("choice_list", "1", "1.5", "write whole numbers, (0 to 2), or recorded"),
        ("numbers", "0.5 -3", "0.5", "write 0 (0 to 1) 1 (-4 to 4) or recorded"),
    ],
)
def test_actions_can_be_typed(space, typed, wrong, said):
    world = world_of(settings(f"env.kwargs={{space: {space}}}"))
    taken = world.to_env(world.execute(read_action(typed, world)[None]))[0]
    np.testing.assert_allclose(np.ravel(taken), [float(word) for word in typed.split()], atol=1e-6)
    with pytest.raises(Problem, match=re.escape(f"'{wrong}' is no action: {said}")):
        read_action(wrong, world)


@pytest.mark.parametrize("seen", ["true", "false"])
def test_games_are_those_of_the_environment_cropped_and_shrunk(seen):
    """Also where several of its steps are one, and the action's number does not begin at 0."""
    wanted = settings(f"env.kwargs={{seen: {seen}}}", "env.crop=[0, 16, 20, 16]", "env.skip=2")
    world = world_of(wanted)
    vector, plain = world.open(wanted.env, 2), gymnasium.make(TINY, render_mode="rgb_array")
    frames, _ = vector.reset(seed=[3, 4])
    plain.reset(seed=4)
    for action in (1, 2, 0, 2, 2, 2, 2, 2, 2):
        cropped = plain.render()[:64, 20:84]
        np.testing.assert_array_equal(frames[1], cropped)
        frames, rewards, terminated, truncated, _ = vector.step(np.array([1, action]))
        expected = 0.0
        for _ in range(2):
            _, reward, ended, cut, _ = plain.step(action - 1)
            expected += reward
            if ended:
                break
        assert (rewards[1], terminated[1], truncated[1]) == (expected, ended, cut)
        if ended:
            break
    assert ended and rewards[0] == 0 and not terminated[0]
    for _ in range(15 - vector.steps[0]):
        assert not truncated[0]
        _, _, terminated, truncated, _ = vector.step(np.array([1, 0]))
    assert truncated[0] and not terminated[0], "the environment's own limit, 30 steps of its own"
    vector.close()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["env.id="], "env.id is empty"),
        (["env.id=Nothing-v0"], "env.id=Nothing-v0 cannot be opened: NameNotFound"),
        (["env.id=no_such_module:Nothing-v0"], "cannot be opened: ModuleNotFoundError"),
        (["env.kwargs={speed: 3}"], "cannot be opened: .*speed"),
        (["env.kwargs={blank: true}"], "shows no pixels"),
        (["env.view=observation"], "shows no pixels"),
        (["env.kwargs={space: endless}"], "actions that C cannot choose, Box"),
        (["env.kwargs={space: both}"], "actions that C cannot choose, Dict"),
        (["env.crop=[40, 40, 0, 0]"], "env.crop=.* shows 80 x 100 pixels"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(overrides, words):
    with pytest.raises(Problem, match=words) as caught:
        world_of(settings(*overrides))
    assert "\n" not in caught.value.line() and caught.value.exit_code == 2


def test_what_a_world_loads_in_its_first_step_is_not_taken_for_its_speed():
    loads = world_of(settings("env.kwargs={loads: 1}")).rates.extract
    assert loads > world_of(settings()).rates.extract / 10  # 2 steps a second otherwise, of thousands


def test_nothing_that_lies_in_a_run_folder_is_executed(tmp_path, monkeypatch):
    (tmp_path / "somebodys").mkdir()
    (tmp_path / "somebodys" / "code.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Problem, match="somebodys is a folder, not a module"):
        world_of(settings("env.id=somebodys.code:World-v0"))


SIZES = """
env.id=tiny:Tiny-v0 env.games=4 extract.steps=200 extract.shard_steps=100 data.val_ratio=0.25
hardware.precision=float32 vae.z=4 vae.steps=10 vae.batch=8 rnn.hidden=8 rnn.steps=10 rnn.streams=2 rnn.window=10
rnn.epochs=1 rnn.check_episodes=2 controller.population=4 controller.episodes=2 controller.generations=2
controller.trial_every=2 controller.trial_episodes=2 controller.real_generations=1 controller.real_population=4
controller.real_episodes=1 evaluate.episodes=3 evaluate.dreams=3 evaluate.random_episodes=3
evaluate.random_controllers=3 evaluate.temperatures=[1.0] openloop.windows=2 openloop.context=2 openloop.horizon=3
openloop.dreams=2 openloop.resamples=10 workers.processes=1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the whole pipeline was run, as a user runs it; the world's module lies there, too."""
    path = tmp_path_factory.mktemp("own")
    (path / "tiny.py").write_text(Path(__file__).read_text().split("\n\ndef settings")[0])
    ended = python(
        "-m", "experiment", CONFIG, "--preset", "quick", "--run", "run", *SIZES.split(), cwd=path, timeout=600
    )
    assert ended.returncode == 0, ended.stderr
    assert "dimensions active\n" in ended.stdout  # and nothing of details, which an unknown world has none of
    return path


def test_the_whole_pipeline_runs_in_it(folder):
    results = json.loads((folder / "run" / "results.json").read_text())["evaluations"]
    assert results["dream"]["max_steps"] == 30  # the environment's own limit, not dream.max_steps
    assert results["game"]["n"] == results["random"]["n"] == results["random_controllers"]["n"] == 3
    assert (folder / "run" / "videos" / "game.mp4").exists()


@pytest.mark.filterwarnings("ignore:.*Overriding environment")  # which another test of this process registered, too
def test_so_do_open_loop_and_sweep(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    assert command_here("openloop", "run") == 0
    config = (folder / "run" / "config.yaml").read_text()
    assert command_here("controller.sweep", "run/config.yaml", "--run", "run", "evaluate.episodes=2") == 0
    swept = json.loads((folder / "run" / "results.json").read_text())["evaluations"]["sweep"]
    assert {one["game"]["n"] for one in swept.values()} == {2}
    assert (folder / "run" / "config.yaml").read_text() == config  # which says how the run's own agent is evaluated
    assert (folder / "run" / "metrics" / "openloop.csv").exists()


@pytest.mark.filterwarnings("ignore:.*Overriding environment")  # which another test of this process registered, too
def test_it_can_be_played(folder, monkeypatch):
    from play.models import load_models

    monkeypatch.syspath_prepend(folder)
    models = load_models(Run(folder / "run"))
    assert not models.missing and [axis.high for axis in axes_of(models.world)] == [2]
    for name in ("dream", "real"):
        scene = models.open(name)
        scene.begin(0)
        raw = models.raw(np.array([2.0]))
        assert models.played(raw) == [2] and scene.step(raw, 1.0)[0] != 0
        assert scene.advice.shape == (3,) and scene.pictures[0].shape[2] == 3
        scene.close()
