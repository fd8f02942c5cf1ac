"""CMA-ES as a maximiser of returns that can be stopped anywhere and go on as if nothing had happened.

Start with `Evolution`: ask() for a population, tell() it the returns, read `mean`. The algorithm itself is
the `cma` package's, with its default settings and the full covariance matrix (paper, appendix A.4).
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import cma
import numpy as np

from experiment.arrays import read_npz, write_npz
from experiment.files import reading
from experiment.problem import Problem

# What is saved of an Evolution beside the state of CMA-ES.
COUNTED = ("generation", "seconds", "steps", "before", "last_length", "restarted")
# The reasons of CMA-ES to stop that lie in its state alone: steps too small or large, or along one axis only. The others look
# at how fitness went, and the number of generations is fixed in advance.
DEGENERATE = {"noeffectaxis", "noeffectcoord", "tolconditioncov", "tolfacupx", "tolx"}
COPIES = (("strategy", "B"), ("strategy", "C"), ("strategy", "D"), ("strategy", "dC"))  # kept in the sampler too
MIRRORS = "strategy.pop_injection_directions"  # directions away from the worst of a population of fewer than 6, (m, D)


class Space(NamedTuple):
    """Where controllers are searched for: CMA-ES evolves numbers x (K,), from 0 on, of which the weights w (D,) are made."""

    origin: np.ndarray  # (D,) float32, w where x is 0
    basis: np.ndarray  # (D, K) float32: w = origin + basis x; or (D,), where K = D: w = origin + basis * x, one by one

    @property
    def size(self) -> int:
        """K."""
        return self.basis.shape[-1]

    def weights(self, numbers: Any) -> np.ndarray:
        """The weights (..., D) float32 that numbers (..., K) stand for."""
        numbers = np.asarray(numbers, "float32")
        return self.origin + (numbers * self.basis if self.basis.ndim == 1 else numbers @ self.basis.T)


def everywhere(size: int) -> Space:
    """All D weights, each by itself, from 0 on."""
    return Space(np.zeros(size, "float32"), np.ones(size, "float32"))


class Evolution:
    """The state of an evolution of D weights.

    space: where they are searched for. sigma: the first step size. population: P. weight_decay: fitness = return -
    weight_decay · mean(w²), so that it always makes large weights worse. diagonal: without the covariances between the
    numbers that are evolved (separable CMA-ES; Ros & Hansen 2008), whose variances are learnt many times as fast.
    """

    def __init__(
        self,
        space: Space,
        sigma: float,
        population: int,
        seed: int,
        weight_decay: float = 0.0,
        diagonal: bool = False,
    ):
        self.space = space
        self.weight_decay = weight_decay
        self.generation = 0  # generations told
        self.seconds = 0.0  # of work, over all the times this evolution was interrupted and resumed
        self.steps = 0  # of all episodes
        self.before = 0  # generations that another evolution had done: see follow
        self.last_length: float | None = None  # steps that an episode of the last generation lasted on average
        self.generator = np.random.default_rng(seed)
        self.restarted = 0  # the generation after which it last began anew: see restart_if_degenerate
        self.made_with = {
            "size": space.size, "sigma": sigma, "population": population, "seed": seed, "weight_decay": weight_decay,
            "diagonal": diagonal,
        }  # fmt: skip
        self.strategy = self.begin(np.zeros(space.size))
        self.asked: list[np.ndarray] = []

    def begin(self, mean: np.ndarray) -> cma.CMAEvolutionStrategy:
        """A new search around numbers (K,), which draws from this evolution's random numbers."""
        options = {
            "popsize": self.made_with["population"],
            "randn": lambda *shape: self.generator.standard_normal(shape),
            "CMA_diagonal": self.made_with["diagonal"],
            "conditioncov_alleviate": 0,  # above a condition of 1e8 it would put other objects into its state
            "seed": np.nan, "verbose": -9, "verb_log": 0,
            "signals_filename": "",  # a file in the working folder that `stop` would take options from
        }  # fmt: skip
        return cma.CMAEvolutionStrategy(mean, self.made_with["sigma"], options)

    def restart_if_degenerate(self) -> str:
        """Begin anew around the mean with the first step size if CMA-ES cannot go on: says why not, '' if it can.

        Called before `ask`, and not after `tell`: what is saved is always the state after a generation.
        """
        reasons = sorted(DEGENERATE & self.strategy.stop().keys()) if self.generation else []
        if reasons:
            self.strategy, self.restarted = self.begin(self.strategy.mean), self.generation
        return ", ".join(reasons)

    def ask(self) -> np.ndarray:
        """The next population, (P, D) float32."""
        self.asked = self.strategy.ask()
        return self.space.weights(self.asked)

    def tell(self, returns: np.ndarray) -> None:
        """Take in the returns (P,) of the population that was asked for. Raises Problem if one is not finite."""
        returns = np.asarray(returns, "float64")
        if spoilt := np.sum(~np.isfinite(returns)):
            raise Problem(f"generation {self.generation + 1}: {spoilt} returns are not finite; check V and M for NaN")
        fitness = returns - self.weight_decay * np.mean(np.square(self.space.weights(self.asked)), axis=1)  # (P,)
        self.strategy.tell(self.asked, list(-fitness))  # cma minimises
        self.generation += 1

    def follow(self, other: "Evolution") -> None:
        """Count generations, steps and seconds on from those of another evolution."""
        self.before = other.before + other.generation
        self.steps, self.seconds = other.steps, other.seconds

    @property
    def mean(self) -> np.ndarray:
        """The mean of the search distribution, (D,) float32: the controller that is reported."""
        return self.space.weights(self.strategy.mean)

    @property
    def sigma(self) -> float:
        """The root mean square of the search distribution's standard deviations."""
        return float(np.sqrt(np.mean(np.square(self.strategy.stds))))

    def save(self, path: Path) -> None:
        """Write everything that going on needs, once there has been a generation: numbers and arrays, and nothing else."""
        about = {
            "made_with": self.made_with,
            "counted": {name: getattr(self, name) for name in COUNTED},
            "normal": self.generator.bit_generator.state,
        }
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        write_npz(path, {"about": text, **self.space._asdict(), **state_of(self.strategy)})

    @staticmethod
    def load(path: Path) -> "Evolution":
        """Go on from a saved state. Raises Problem if the file is damaged or of another version of `cma`."""
        remedy = "delete it to evolve from generation 1 again"
        with reading(path, remedy, "is damaged or of another version of cma"):
            state = read_npz(path, remedy)
            about = json.loads(state.pop("about").tobytes())
            made_with, counted = about["made_with"], about["counted"]
            if not all(isinstance(value, int | float | None) for value in (*made_with.values(), *counted.values())):
                raise ValueError("something that is no number")  # cma would evaluate text
            size, population = made_with["size"], made_with["population"]
            learnt = state["scaling.scaling" if made_with["diagonal"] else "sampler.C"]
            if state["strategy.ary"].shape != (population, size) or set(learnt.shape) != {size}:
                raise ValueError("it does not hold the arrays that it declares")
            state.pop("best", None)  # of an earlier version, as is the lack of a space and of "restarted"
            known = everywhere(size)._asdict()
            space = Space(*(state.pop(name, array).astype("float32") for name, array in known.items()))
            if space.origin.shape != space.basis.shape[:1] or space.size != size or space.basis.ndim > 2:
                raise ValueError(f"a basis {space.basis.shape}")
            evolution = Evolution(space, **{name: value for name, value in made_with.items() if name != "size"})
            counted.setdefault("restarted", 0)
            restore(evolution.strategy, counted["generation"] - counted["restarted"], state)
            for name in COUNTED:
                setattr(evolution, name, counted[name])
            evolution.generator.bit_generator.state = about["normal"]
            return evolution


def parts_of(strategy: cma.CMAEvolutionStrategy) -> dict[str, Any]:
    """The objects in which CMA-ES keeps what it has learnt, by the names that they are saved under."""
    return {
        "strategy": strategy,
        "sampler": strategy.sm,
        "scaling": strategy.sigma_vec,
        "step_size": strategy.adapt_sigma,
    }


def state_of(strategy: cma.CMAEvolutionStrategy) -> dict[str, np.ndarray]:
    """All that `ask` and `tell` read: every number and array in those objects, and what small populations begin with."""
    state = {
        f"{part}.{name}": np.asarray(value)
        for part, holder in parts_of(strategy).items()
        for name, value in vars(holder).items()
        if isinstance(value, int | float | np.number | np.ndarray) and np.asarray(value).dtype.kind in "biuf"
        if (part, name) not in COPIES
    }
    return {**state, MIRRORS: np.reshape(strategy.pop_injection_directions, (-1, strategy.N))}


def restore(strategy: cma.CMAEvolutionStrategy, generation: int, state: dict[str, np.ndarray]) -> None:
    """Put a state into a new strategy. Raises ValueError if it is not one of as many generations.

    The new one is sent through up to three generations first: then it has everything that is to be there, and its form.
    """
    for _ in range(min(generation, 3)):
        strategy.tell(strategy.ask(), range(strategy.popsize))
    mirrors = state.pop(MIRRORS)
    expected, parts = state_of(strategy), parts_of(strategy)
    del expected[MIRRORS]
    for key, value in state.items():
        like = expected.pop(key)
        finite = np.isfinite(value).all() or not np.isfinite(like).all()
        if not finite or (value.shape, value.dtype.kind) != (like.shape, like.dtype.kind):
            raise ValueError(f"{key} {value.shape} {value.dtype}")
        part, _, name = key.partition(".")
        setattr(parts[part], name, value if value.ndim else value.item())
    if expected:
        raise ValueError(f"no {', '.join(expected)}")
    if mirrors.shape[1:] != (strategy.N,) or len(mirrors) > strategy.popsize:
        raise ValueError(f"{MIRRORS} {mirrors.shape}")
    strategy.pop_injection_directions = list(mirrors)
    strategy._indices_of_selective_mirrors = range(len(mirrors))
    strategy._updateBDfromSM()


def generation_seed(seed: int, generation: int) -> int:
    """The seed of a generation's dreams: 31 bits that look unrelated from one generation to the next."""
    return int(np.random.SeedSequence([seed, generation]).generate_state(1)[0] >> 1)
