"""From C's output to what a world executes and back, for arrays and tensors alike."""

from pathlib import Path

import numpy as np
import pytest

from envs.actions import drive, from_discrete, move, to_discrete, undrive
from envs.worlds import FILES, WORLDS, World, check
from experiment.__main__ import run_pipeline
from experiment.backend import ops
from experiment.config import load_config
from experiment.problem import UsageProblem
from experiment.run import Run
from experiment.schema import LONGEST
from experiment.stage import new_parser
from extract.collect import collect

PROJECT = Path(__file__).parent.parent
NAMES = [name for name in FILES if isinstance(WORLDS[name], World)]  # for the others see test_gymnasium.py


def test_doom_moves_by_the_papers_thresholds():
    raw = np.array([-1, -0.34, -0.33, 0, 0.33, 0.34, 1], np.float32)
    assert move(raw).tolist() == [-1, -1, 0, 0, 0, 1, 1]
    assert to_discrete(move(raw)).tolist() == [1, 1, 0, 0, 0, 2, 2]
    assert move(raw).dtype == np.float32


def test_discrete_actions_are_those_executed():
    assert from_discrete(np.array([0, 1, 2])).tolist() == [0, -1, 1]
    np.testing.assert_array_equal(to_discrete(from_discrete(np.arange(3))), np.arange(3))


def test_a_car_is_driven_as_in_the_paper():
    raw = np.array([[-1, -1, -1], [0.25, 0, 0], [1, 1, 1], [-0.5, 0.5, 0.75]], np.float32)
    expected = [[-1, 0, 0], [0.25, 0.5, 0], [1, 1, 1], [-0.5, 0.75, 0.75]]  # steering, gas, brake
    np.testing.assert_array_equal(drive(raw), expected)
    assert drive(raw).dtype == np.float32
    np.testing.assert_array_equal(drive(raw.reshape(2, 2, 3)), np.reshape(expected, (2, 2, 3)))


def test_undriving_gives_what_is_driven_the_same():
    raw = np.random.default_rng(0).uniform(-1, 1, (100, 3)).astype(np.float32)
    again = undrive(drive(raw))
    np.testing.assert_allclose(drive(again), drive(raw), atol=1e-6)
    np.testing.assert_allclose(again[:, :2], raw[:, :2], atol=1e-6)
    np.testing.assert_array_equal(again[:, 2], raw[:, 2].clip(min=0))  # how far a car is from braking cannot be seen
    assert (raw[:, 2] < 0).any() and again.dtype == np.float32


@pytest.mark.parametrize(("execute", "shape"), [(move, (200,)), (drive, (200, 3))])
def test_tensors_are_executed_as_arrays_are(execute, shape):
    raw = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
    executed = execute(ops.convert_to_tensor(raw), ops)
    assert ops.is_tensor(executed)
    np.testing.assert_array_equal(executed, execute(raw))
    assert len(np.unique(execute(raw))) > 2


@pytest.mark.parametrize("name", NAMES)
def test_worlds_execute_what_their_environments_take(name):
    """Raw to executed to the environment's and all the way back."""
    world = WORLDS[name]
    raw = np.random.default_rng(2).uniform(-1, 1, (50, 3) if world.actions == 3 else 50).astype(np.float32)
    executed = world.execute(raw)
    taken = world.to_env(executed)
    assert all(action in world.action_space for action in taken)
    np.testing.assert_array_equal(world.from_env(taken), executed)
    np.testing.assert_allclose(world.execute(world.unexecute(executed)), executed, atol=1e-6)
    assert all(np.shape(fixed)[1:] == (world.actions,) for fixed in world.fixed.values())


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_refused_that_a_worlds_episodes_and_actions_do_not_allow(name, tmp_path):
    """By the check of all worlds, and before a run or the recording of it begins."""
    world, config = WORLDS[name], PROJECT / "configs" / f"{name}.yaml"
    possible = [f"env.max_steps={world.longest}", f"extract.brownian_centre={[0.0] * world.actions}"]
    check(load_config(config, None, possible))
    wrong = {"extract.brownian_centre=[0,0]": r"extract.brownian_centre=\[0.0, 0.0\]: expected one number"}
    if world.longest < LONGEST:  # else the schema says so
        too_long = f"env.max_steps={world.longest + 1}"
        wrong[too_long] = f"{too_long}: {name} lasts at most {world.longest:,} steps"
    for override, words in wrong.items():
        settings = load_config(config, None, [override])
        for begin in (
            lambda settings: check(settings),
            lambda settings: collect(settings, Run(tmp_path)),
            lambda _, override=override: run_pipeline(arguments(str(config), "--run", str(tmp_path / "run"), override)),
        ):
            with pytest.raises(UsageProblem, match=f"impossible value {words}"):
                begin(settings)
    assert not list(tmp_path.iterdir())


def arguments(*words):
    return new_parser("experiment", "", ()).parse_intermixed_args(words)
