"""CMA-ES through our own ask and tell: it maximises, decays the right way, and resumes exactly."""

import dataclasses

import numpy as np
import pytest

from controller.evolution import Evolution, generation_seed
from controller.policy import LinearPolicy
from controller.training import cap, evolve
from controller.weights import load_controller, save_controller
from experiment.metrics import read_metrics
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Controller, Experiment
from experiment.schema import Dream as DreamSettings


def sphere(population: np.ndarray) -> np.ndarray:
    """A return that is highest, 100, where every number is 0.5."""
    return 100 - np.sum(np.square(population - 0.5), axis=1)


def test_finds_the_top_of_a_sphere():
    evolution = Evolution(size=20, sigma=0.1, population=16, seed=3)
    for _ in range(150):
        evolution.tell(sphere(evolution.ask()))
    np.testing.assert_allclose(evolution.mean, 0.5, atol=0.01)
    assert sphere(evolution.best[None])[0] == pytest.approx(evolution.best_return, abs=1e-4)
    assert evolution.best_return > 99.99
    assert evolution.sigma < 0.01


def test_weight_decay_makes_weights_small():
    """With a decay of D/2, the top of -(w - 0.5)² - w²/2 is at 1/3 (with the wrong sign it would be at 1)."""
    evolution = Evolution(size=20, sigma=0.1, population=16, seed=3, weight_decay=10.0)
    for _ in range(150):
        evolution.tell(sphere(evolution.ask()))
    np.testing.assert_allclose(evolution.mean, 1 / 3, atol=0.01)


@pytest.mark.parametrize("stop", [1, 7])
def test_a_saved_state_goes_on_to_the_identical_end(tmp_path, stop):
    straight = Evolution(size=12, sigma=0.1, population=8, seed=5)
    for _ in range(20):
        straight.tell(sphere(straight.ask()))
    broken = Evolution(size=12, sigma=0.1, population=8, seed=5)
    for _ in range(stop):
        broken.tell(sphere(broken.ask()))
    broken.save(tmp_path / "evolution.pickle")
    broken.tell(sphere(broken.ask()))  # a generation that is lost
    np.random.seed(0)  # noqa: NPY002 (the state must not depend on it)
    resumed = Evolution.load(tmp_path / "evolution.pickle")
    for _ in range(20 - stop):
        resumed.tell(sphere(resumed.ask()))
    np.testing.assert_array_equal(resumed.mean, straight.mean)
    assert (resumed.generation, resumed.sigma, resumed.best_return) == (20, straight.sigma, straight.best_return)


def test_the_seed_decides():
    first, same, other = (Evolution(5, 0.1, 4, seed).ask() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    assert len({generation_seed(seed, generation) for seed in range(20) for generation in range(50)}) == 1000


def test_faults_are_one_line(tmp_path):
    evolution = Evolution(3, 0.1, 4, seed=0)
    evolution.ask()
    with pytest.raises(Problem, match="generation 1: 1 returns are not finite"):
        evolution.tell(np.array([1.0, np.nan, 2.0, 3.0]))
    evolution.save(tmp_path / "state")
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:100])
    with pytest.raises(Problem, match="cannot be read"):
        Evolution.load(tmp_path / "state")


@pytest.fixture(scope="module")
def dream():
    """A dream of a small M that was never trained, whose done logit is moved so that dreams last some steps."""
    import keras

    from rnn.dream import Dream, Starts
    from rnn.model import MDNRNN

    keras.utils.set_random_seed(1)
    model = MDNRNN(latent_size=4, action_size=1, hidden=8, mixtures=2, predict_done=True)
    rng = np.random.default_rng(0)
    model.kernel.assign(rng.normal(size=model.kernel.shape))
    model.output_kernel.assign(rng.normal(size=model.output_kernel.shape))
    model.output_bias.assign([*np.zeros(model.mixture_size), -1.2])
    return Dream(model, Starts(rng.normal(size=(5, 4)).astype("float32"), np.full((5, 4), -2, "float32")))


POLICY = LinearPolicy(("z", "c", "h"), bias=False, latent_size=4, hidden=8)
SETTINGS = dataclasses.replace(
    Experiment(),
    dream=DreamSettings(temperature=1.2, max_steps=90),
    controller=Controller(population=6, episodes=3, generations=5, sigma=0.5, cap_min=20, trial_every=2, seed=4),
)


def trial(parameters):
    """Something to call in place of the real game."""
    return np.array([parameters[0], parameters[1]])


def test_the_batched_fitness_is_that_of_single_dreams(dream):
    """One call for a whole generation gives what one call for each candidate gives."""
    population = Evolution(POLICY.size, 0.5, 6, seed=1).ask()
    together = dream.rollout(POLICY.act, population, 3, seed=9, temperature=1.2, max_steps=90)
    alone = [
        dream.rollout(POLICY.act, candidate[None], 3, seed=9, temperature=1.2, max_steps=90)[0]
        for candidate in population
    ]
    assert together.shape == (6, 3)
    assert len(np.unique(together)) > 3
    np.testing.assert_array_equal(together, alone)


def test_evolving_stopped_and_resumed_comes_to_the_same_end(dream, tmp_path):
    straight, broken = Run(tmp_path / "straight"), Run(tmp_path / "broken")
    evolve(SETTINGS, straight, dream, POLICY, trial)

    def killed(parameters):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # at the first trial, in generation 2
        evolve(SETTINGS, broken, dream, POLICY, killed)
    assert Evolution.load(broken.checkpoints / "evolution.pickle").generation == 1
    evolve(SETTINGS, broken, dream, POLICY, trial)
    ends = [load_controller(run.controller, POLICY) for run in (straight, broken)]
    np.testing.assert_array_equal(ends[0].mean, ends[1].mean)
    np.testing.assert_array_equal(ends[0].best, ends[1].best)
    assert ends[0].generation == 5
    assert np.any(ends[0].mean != 0)
    for name, generations in (("controller.csv", [1, 2, 3, 4, 5]), ("controller_real.csv", [2, 4])):
        tables = [read_metrics(run.metrics / name) for run in (straight, broken)]
        assert list(tables[0]["step"]) == generations
        for column in set(tables[0]) - {"seconds", "elapsed", "steps_per_second"}:
            np.testing.assert_array_equal(tables[0][column], tables[1][column])
    assert evolve(SETTINGS, straight, dream, POLICY, killed)["generations"] == 5  # nothing is left to do


def test_the_cap_grows_with_what_was_reached():
    assert [cap(SETTINGS, mean) for mean in (None, 5.0, 30.0, 80.0)] == [20, 20, 60, 90]
    uncapped = dataclasses.replace(SETTINGS, controller=Controller(adaptive_cap=False))
    assert cap(uncapped, 5.0) == 90


def test_weights_of_another_shape_are_refused(tmp_path):
    evolution = Evolution(POLICY.size, 0.1, 4, seed=0)
    save_controller(tmp_path / "controller.h5", POLICY, evolution)
    assert load_controller(tmp_path / "controller.h5", POLICY).mean.shape == (20,)
    with pytest.raises(Problem, match=r"controller\.h5 holds a controller of .*\(20,\)"):
        load_controller(tmp_path / "controller.h5", LinearPolicy(("z", "h"), False, 4, 8))
    (tmp_path / "foreign.h5").write_bytes(b"something else")
    with pytest.raises(Problem, match=r"foreign\.h5 is not a controller"):
        load_controller(tmp_path / "foreign.h5", POLICY)
    with pytest.raises(Problem, match=r"there is no .*none\.h5"):
        load_controller(tmp_path / "none.h5", POLICY)
