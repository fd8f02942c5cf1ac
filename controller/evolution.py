"""CMA-ES as a maximiser of returns that can be stopped anywhere and go on as if nothing had happened.

Start with `Evolution`: ask() for a population, tell() it the returns, read `mean`. The algorithm itself is
the `cma` package's, with its default settings and the full covariance matrix (paper, appendix A.4).
"""

import pickle
from pathlib import Path

import cma
import numpy as np

from experiment.files import atomic
from experiment.problem import Problem


class Normal:
    """Standard normal numbers for CMA-ES from a generator of its own, which is saved with the rest."""

    def __init__(self, seed: int):
        self.generator = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> np.ndarray:
        return self.generator.standard_normal(shape)


class Evolution:
    """The state of an evolution of D numbers.

    size: D. sigma: the first step size. population: P. weight_decay: fitness = return - weight_decay · mean(w²),
    so that it always makes large weights worse. x0: where to begin, (D,); zeros if not given. diagonal: without the
    covariances between weights (separable CMA-ES; Ros & Hansen 2008), whose variances are learnt many times as fast.
    """

    def __init__(
        self,
        size: int,
        sigma: float,
        population: int,
        seed: int,
        weight_decay: float = 0.0,
        x0: np.ndarray | None = None,
        diagonal: bool = False,
    ):
        self.weight_decay = weight_decay
        self.generation = 0  # generations told
        self.best = np.zeros(size, "float32")  # the candidate of the highest fitness so far
        self.best_return, self.best_fitness, self.best_generation = -np.inf, -np.inf, 0
        self.seconds = 0.0  # of work, over all the times this evolution was interrupted and resumed
        self.steps = 0  # of all episodes
        self.before, self.steps_before, self.seconds_before = 0, 0, 0.0  # what another evolution had done: see follow
        self.last_length: float | None = None  # steps that an episode of the last generation lasted on average
        options = {"popsize": population, "randn": Normal(seed), "seed": np.nan, "verbose": -9, "verb_log": 0}
        options["CMA_diagonal"] = diagonal
        self.strategy = cma.CMAEvolutionStrategy(np.zeros(size) if x0 is None else x0, sigma, options)
        self.asked: list[np.ndarray] = []

    def ask(self) -> np.ndarray:
        """The next population, (P, D) float32."""
        self.asked = self.strategy.ask()
        return np.asarray(self.asked, "float32")

    def tell(self, returns: np.ndarray) -> None:
        """Take in the returns (P,) of the population that was asked for. Raises Problem if one is not finite."""
        returns = np.asarray(returns, "float64")
        if not np.isfinite(returns).all():
            raise Problem(
                f"generation {self.generation + 1}: {np.sum(~np.isfinite(returns))} returns are not finite; check V and M for NaN"
            )
        fitness = returns - self.weight_decay * np.mean(np.square(self.asked), axis=1)  # (P,)
        self.strategy.tell(self.asked, list(-fitness))  # cma minimises
        self.generation += 1
        top = int(np.argmax(fitness))
        if fitness[top] > self.best_fitness:
            self.best, self.best_generation = np.asarray(self.asked[top], "float32"), self.generation
            self.best_return, self.best_fitness = float(returns[top]), float(fitness[top])

    def follow(self, other: "Evolution") -> None:
        """Count generations, steps and seconds on from those of another evolution."""
        self.before = other.before + other.generation
        self.steps = self.steps_before = other.steps
        self.seconds = self.seconds_before = other.seconds

    @property
    def mean(self) -> np.ndarray:
        """The mean of the search distribution, (D,) float32: the controller that is reported."""
        return np.asarray(self.strategy.mean, "float32")

    @property
    def sigma(self) -> float:
        """The root mean square of the search distribution's standard deviations."""
        return float(self.strategy.sigma * np.sqrt(np.mean(self.strategy.sm.variances)))

    def save(self, path: Path) -> None:
        """Write everything that going on needs.

        This is a pickle, which holds for this one file: CMA-ES in the `cma` package keeps its state in some forty
        attributes of several objects, and only its own pickle gives the identical continuation. It is read by
        the run that wrote it and never shared: the weights are in controller.h5.
        """
        with atomic(path) as temporary:
            temporary.write_bytes(pickle.dumps(self, protocol=pickle.HIGHEST_PROTOCOL))

    @staticmethod
    def load(path: Path) -> "Evolution":
        """Go on from a saved state. Raises Problem if the file is damaged or of another version of `cma`."""
        try:
            evolution = pickle.loads(path.read_bytes())
        except Exception as error:  # a pickle can fail in any way
            raise Problem(f"{path} cannot be read ({error}): delete it to evolve from generation 1 again") from error
        if not isinstance(evolution, Evolution):
            raise Problem(f"{path} is not the state of an evolution: delete it to evolve from generation 1 again")
        return evolution


def generation_seed(seed: int, generation: int) -> int:
    """The seed of a generation's dreams: 31 bits that look unrelated from one generation to the next."""
    return int(np.random.SeedSequence([seed, generation]).generate_state(1)[0] >> 1)
