"""Arenas, where generations of C are tried: the dream (paper, section 4) and the real world (section 3).

An arena is called with P candidates (P, D), the generation's number, and the steps that an episode of the generation
before lasted on average. All candidates meet the same E episodes. An arena says whose settings and policy it is of, how
large a population and how many generations it is given, CMA-ES's first step size where C comes from elsewhere, and the
cap at which episodes are cut.
"""

import numpy as np

from controller.evolution import generation_seed
from controller.policy import Policy
from controller.real import RealWorld
from envs.worlds import dream_steps
from experiment.schema import HELD_OUT, Experiment
from extract.collect import SEEDS
from rnn.dream import Dream, Outcome


class InDream:
    """The dream, with the same starts and random numbers for all candidates."""

    name = "dream"

    def __init__(self, settings: Experiment, dream: Dream, policy: Policy):
        self.settings, self.dream, self.policy = settings, dream, policy
        wanted = settings.controller
        self.population, self.generations, self.sigma = wanted.population, wanted.generations, wanted.sigma

    def cap(self, last_length: float | None) -> int:
        """Steps after which the dreams of a generation are cut.

        With adaptive_cap, in dreams that end, twice what the last generation lasted on average (but at least cap_min,
        also in the first, where C begins at zero): early candidates die young, and a few that happen to survive would
        cost most of the time.
        """
        wanted, longest = self.settings.controller, dream_steps(self.settings)
        ends = self.settings.rnn.predict_done and self.settings.dream.done != "expected"
        if not wanted.adaptive_cap or not ends:
            return longest
        return int(np.clip(2 * (last_length or 0), min(wanted.cap_min, longest), longest))

    def __call__(self, candidates: np.ndarray, generation: int, last_length: float | None) -> Outcome:
        wanted, longest = self.settings.controller, self.cap(last_length)
        seed, dream = generation_seed(wanted.seed, generation), self.settings.dream
        return self.dream.rollout(
            self.policy.act, candidates, wanted.episodes, seed, dream.temperature, longest, dream.done == "expected"
        )

    def dreams(self, controller: np.ndarray, seed: int) -> np.ndarray:
        """The returns (n,) of one controller (D,) in evaluate.dreams whole dreams, which begin and go on by the seed."""
        of, longest = self.settings, dream_steps(self.settings)
        tried = self.dream.rollout(
            self.policy.act, controller[None], of.evaluate.dreams, seed, of.dream.temperature, longest
        )
        return tried.returns[0]

    def trial(self, controller: np.ndarray) -> np.ndarray:
        """The same in dreams that no generation is tried in, nor what is reported."""
        return self.dreams(controller, generation_seed(HELD_OUT - 1, 0))


class InReal:
    """The real world, with the same seeds (tracks) for all candidates, of those that extraction uses too."""

    name = "real"

    def __init__(self, world: RealWorld):
        self.world, self.settings, self.policy = world, world.settings, world.agent.policy
        wanted = world.settings.controller
        self.population, self.episodes, self.seed = wanted.real_population, wanted.real_episodes, wanted.seed
        self.generations, self.sigma, self.patience = wanted.real_generations, wanted.real_sigma, wanted.patience

    def cap(self, last_length: float | None) -> int:
        """Steps after which episodes are cut, those of the real world."""
        return self.settings.env.max_steps

    def __call__(self, candidates: np.ndarray, generation: int, last_length: float | None) -> Outcome:
        seeds = np.random.default_rng([self.seed, generation]).choice(SEEDS, self.episodes, replace=False)
        parameters, seeds = np.repeat(candidates, self.episodes, axis=0), np.tile(seeds, len(candidates))
        played = self.world.play(parameters, seeds.tolist(), patience=self.patience)
        return Outcome(*(part.reshape(len(candidates), -1) for part in (played.returns, played.lengths)))


Arena = InDream | InReal
