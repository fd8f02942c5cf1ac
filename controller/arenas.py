"""Where a generation is tried: in the dream, or in the real world."""

from typing import NamedTuple, Protocol

import numpy as np

from controller.evolution import generation_seed
from controller.policy import Policy
from controller.real import RealWorld
from extract.collect import SEEDS
from rnn.dream import Dream


class Tried(NamedTuple):
    """What a generation reached: returns and lengths in steps, each (P, E)."""

    returns: np.ndarray
    lengths: np.ndarray


class Arena(Protocol):
    """Tries a whole generation at once."""

    name: str
    """'dream' or 'real'."""
    max_steps: int

    def __call__(self, candidates: np.ndarray, episodes: int, generation: int, longest: int) -> Tried:
        """P candidates (P, D) in E episodes each, of at most `longest` steps; all in the same ones."""


class InDream:
    """The dream, with the same starts and random numbers for all candidates."""

    name = "dream"

    def __init__(self, dream: Dream, policy: Policy, temperature: float, max_steps: int, seed: int):
        self.dream, self.policy, self.temperature = dream, policy, temperature
        self.max_steps, self.seed = max_steps, seed

    def __call__(self, candidates: np.ndarray, episodes: int, generation: int, longest: int) -> Tried:
        seed = generation_seed(self.seed, generation)
        return Tried(*self.dream.rollout(self.policy.act, candidates, episodes, seed, self.temperature, longest))


class InReal:
    """The real world, with the same seeds (tracks) for all candidates, of those that extraction uses too."""

    name = "real"

    def __init__(self, world: RealWorld, seed: int):
        self.world, self.seed, self.max_steps = world, seed, world.settings.env.max_steps

    def __call__(self, candidates: np.ndarray, episodes: int, generation: int, longest: int) -> Tried:
        generator = np.random.default_rng([self.seed, generation])
        seeds = generator.choice(SEEDS, episodes, replace=False)
        played = self.world.play(np.repeat(candidates, episodes, axis=0), np.tile(seeds, len(candidates)).tolist())
        returns, lengths = (part.reshape(len(candidates), episodes) for part in (played.returns, played.lengths))
        return Tried(returns, lengths)
