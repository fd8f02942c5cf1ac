"""CMA-ES through our own ask and tell: it maximises, decays the right way, and resumes exactly."""

import numpy as np
import pytest

from controller.evolution import Evolution, generation_seed
from experiment.problem import Problem


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
