"""Where a generation is tried: in the dream, or in the real world.

An arena is called with P candidates (P, D), the generation's number, and the steps that an episode of the generation before
lasted on average. All candidates meet the same E episodes. It has a name, and the population that it is given.
"""

from typing import NamedTuple

import numpy as np

from controller.evolution import generation_seed
from controller.policy import Policy
from controller.real import RealWorld
from experiment.schema import Experiment
from extract.collect import SEEDS
from rnn.dream import Dream


class Tried(NamedTuple):
    """What a generation reached: returns and lengths in steps, each (P, E), and the step at which episodes were cut."""

    returns: np.ndarray
    lengths: np.ndarray
    longest: int


class InDream:
    """The dream, with the same starts and random numbers for all candidates."""

    name = "dream"

    def __init__(self, settings: Experiment, dream: Dream, policy: Policy):
        self.settings, self.dream, self.policy = settings, dream, policy
        self.population = settings.controller.population

    def cap(self, last_length: float | None) -> int:
        """Steps after which the dreams of a generation are cut.

        With adaptive_cap, in dreams that end, twice what the last generation lasted on average (but at least cap_min,
        also in the first): early candidates die young, and a few that happen to survive would cost most of the time.
        """
        wanted, longest = self.settings.controller, self.settings.dream.max_steps
        if not wanted.adaptive_cap or not self.settings.rnn.predict_done:
            return longest
        return int(np.clip(2 * (last_length or 0), min(wanted.cap_min, longest), longest))

    def __call__(self, candidates: np.ndarray, generation: int, last_length: float | None) -> Tried:
        wanted, longest = self.settings.controller, self.cap(last_length)
        seed, temperature = generation_seed(wanted.seed, generation), self.settings.dream.temperature
        reached = self.dream.rollout(self.policy.act, candidates, wanted.episodes, seed, temperature, longest)
        return Tried(*reached, longest)


class InReal:
    """The real world, with the same seeds (tracks) for all candidates, of those that extraction uses too."""

    name = "real"

    def __init__(self, world: RealWorld):
        self.world, wanted = world, world.settings.controller
        self.population, self.episodes, self.seed = wanted.real_population, wanted.real_episodes, wanted.seed
        self.patience = wanted.patience

    def __call__(self, candidates: np.ndarray, generation: int, last_length: float | None) -> Tried:
        seeds = np.random.default_rng([self.seed, generation]).choice(SEEDS, self.episodes, replace=False)
        parameters, seeds = np.repeat(candidates, self.episodes, axis=0), np.tile(seeds, len(candidates))
        played = self.world.play(parameters, seeds.tolist(), patience=self.patience)
        returns, lengths = (part.reshape(len(candidates), -1) for part in (played.returns, played.lengths))
        return Tried(returns, lengths, self.world.settings.env.max_steps)


Arena = InDream | InReal
