"""Who plays while rollouts are recorded, where networks do: random ones, or the last iteration's agent with noise."""

from collections.abc import Iterator

import numpy as np

from controller.agent import Agent, AgentPlayer, load_agent
from controller.policy import load_controller, policy_from
from envs.episodes import Player
from experiment.hardware import prepare
from experiment.run import Run
from experiment.schema import Experiment
from extract.collect import ShardTask
from extract.policies import brownian
from rnn.model import build_rnn
from vae.model import VAE

NOISE_MEMORY = 10.0  # steps for which the noise on an agent's actions is remembered
RANDOM_SCALE = 0.01  # each random network has a standard deviation of its own, uniform up to this, as in the original


def make_player(run: Run, task: ShardTask, games: int) -> Player:
    """The player of the policies 'networks' and 'agent' for a shard of a run, in whatever process records it."""
    prepare(task.settings.hardware)
    if task.settings.extract.policy == "networks":
        return RandomNetworks(task.settings, games, task.index)
    previous = run.previous
    assert previous is not None, "settings in which the first iteration plays with an agent are refused"
    agent = load_agent(task.settings, previous)
    controller = load_controller(previous.controller, agent.policy)
    return NoisyAgent(agent, games, controller.mean, task.settings.extract.noise)


class RandomNetworks(AgentPlayer):
    """The paper's random policy for CarRacing: V, M and C with random weights (V and M for a shard, C for an episode)."""

    def __init__(self, settings: Experiment, games: int, seed: int):
        policy = policy_from(settings)
        vae, rnn = VAE(settings.vae.z, settings.vae.kl_floor, seed), build_rnn(settings)
        generator = np.random.default_rng([settings.extract.seed, seed])
        for model in (vae, rnn):
            scale = generator.uniform(0, RANDOM_SCALE)
            model.set_weights([generator.standard_cauchy(w.shape) * scale for w in model.get_weights()])
        vae.logvar.set_weights([np.zeros(w.shape) for w in vae.logvar.get_weights()])  # its exponential overflows
        super().__init__(Agent(vae, rnn, policy), games, np.zeros(policy.size))

    def begin(self, games: np.ndarray, episodes: np.ndarray, seeds: np.ndarray) -> None:
        super().begin(games, episodes, seeds)
        for game, seed in zip(games, seeds, strict=True):
            generator = np.random.default_rng([int(seed), 1])
            scale = generator.uniform(0, RANDOM_SCALE)
            self.parameters[game] = generator.standard_cauchy(self.parameters.shape[1]) * scale


class NoisyAgent(AgentPlayer):
    """The agent with smooth noise on what C does, which M is told of."""

    def __init__(self, agent: Agent, games: int, parameters: np.ndarray, noise: float):
        super().__init__(agent, games, parameters)
        self.spread = np.full(agent.policy.actions, noise)
        self.wander: list[Iterator[np.ndarray]] = [iter(())] * games

    def begin(self, games: np.ndarray, episodes: np.ndarray, seeds: np.ndarray) -> None:
        super().begin(games, episodes, seeds)
        for game, seed in zip(games, seeds, strict=True):
            rng = np.random.default_rng([int(seed), 2])
            self.wander[game] = brownian(rng, 0 * self.spread, self.spread, NOISE_MEMORY)

    def act(self, frames: np.ndarray, games: np.ndarray) -> np.ndarray:
        for game in games:
            self.nudge[game] = next(self.wander[game])
        return super().act(frames, games)
