"""The agent: V, M and C playing many real games at once (paper, section 2.4).

In every step V encodes all frames in one batch, C acts on the sampled z and M's state, and M takes one LSTM
step; the games step together. What an episode gives depends on its seed and the weights alone: the noise of
z is drawn from a generator of its own, and on a CPU with AVX-512 a row's numbers are the same in any batch (of two or
more; a lone row is computed twice, because a product with one row is rounded differently) where Z and H are multiples
of 16: functions of that many numbers at once are rounded differently from functions of one. On other CPUs the last bit
may differ.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from controller.policy import Policy, policy_from
from envs.episodes import Moment
from experiment.backend import graph, tf
from experiment.run import Run
from experiment.schema import Experiment
from rnn.model import build_rnn, load_rnn
from rnn.stepping import Followed, in_pairs
from vae.model import VAE, load_vae

Tensor = Any


def load_agent(settings: Experiment, run: Run) -> "Agent":
    """The agent of a run's V and M."""
    return Agent(load_vae(run, settings), load_rnn(run, settings), policy_from(settings))


Weights = list[list[np.ndarray]]  # those of V and of M


def agent_with(settings: Experiment, weights: Weights) -> "Agent":
    """The agent whose `weights` these are."""
    vae, rnn = VAE(settings.vae.z, settings.vae.kl_floor), build_rnn(settings)
    vae.set_weights(weights[0])
    rnn.set_weights(weights[1])
    return Agent(vae, rnn, policy_from(settings))


class Agent:
    """V, M and C as one compiled step.

    vae: encodes. rnn: M, which is left out where C sees nothing of it. policy: C.
    """

    def __init__(self, vae: Any, rnn: Any, policy: Policy):
        self.vae, self.rnn, self.policy = vae, rnn, policy
        shapes = (policy.latent_size,), (policy.size,), (policy.actions,), (), (rnn.hidden,), (rnn.hidden,)
        signature = [tf.TensorSpec((None, 64, 64, 3), tf.uint8), *(tf.TensorSpec((None, *shape)) for shape in shapes)]
        # The graph itself: finding it again for every step's arguments takes a millisecond.
        self._compiled = graph(self._step).get_concrete_function(*signature)

    def weights(self) -> Weights:
        """Those of V and M."""
        return [self.vae.get_weights(), self.rnn.get_weights()]

    def _step(
        self, frames: Tensor, noise: Tensor, parameters: Tensor, nudge: Tensor, restart: Tensor, h: Tensor, c: Tensor
    ) -> Any:
        z = self.vae.see(frames, noise)  # (N, Z)
        raw = self.policy.act(parameters, z, h, c)  # (N,) or (N, A)
        raw = tf.clip_by_value(raw + tf.reshape(nudge, tf.shape(raw)), -1, 1)
        if self.policy.remembers:
            h, c = self.rnn.observe(z, raw, restart, h, c)
        return raw, z, h, c

    def step(self, *arguments: np.ndarray) -> tuple[np.ndarray, ...]:
        """See N frames and act: step(frames, noise, parameters, nudge, restart, h, c).

        frames (N, 64, 64, 3) uint8; noise (N, Z), standard normal, for the draw of z; parameters (N, D);
        nudge (N, A), added to what C does; restart (N,), 1 in an episode's first step, where h and c must be zero;
        h and c (N, H) from the step before.
        Returns the raw actions (N,) or (N, A), z (N, Z), and M's next h and c (N, H).
        """
        return in_pairs(self._compiled, *arguments)


class Recording(NamedTuple):
    """T steps of an episode as the agent lived them: what it saw, what it did then, and what that brought."""

    frames: np.ndarray  # (T, 64, 64, 3) uint8
    z: np.ndarray  # (T, Z) float32, as it was drawn
    h: np.ndarray  # (T, H) float32, M's state that C saw beside z
    c: np.ndarray  # (T, H)
    raw: np.ndarray  # (T,) or (T, A) float32
    rewards: np.ndarray  # (T,)


class AgentPlayer:
    """The agent in as many games as there are (see envs.episodes.Player).

    parameters: (D,), one controller for all episodes, or (n, D), one for each.
    """

    def __init__(self, agent: Agent, games: int, parameters: np.ndarray):
        self.agent, self.controllers = agent, np.asarray(parameters, "float32")
        self.parameters = np.zeros((games, agent.policy.size), "float32")  # of each game
        self.nudge = np.zeros((games, agent.policy.actions), "float32")
        self.followed = Followed(games, agent.policy.latent_size, agent.rnn.hidden)
        self.seen: tuple[np.ndarray, ...] = ()  # z (N, Z), h and c (N, H) that C saw last, in the N games then running

    def begin(self, games: np.ndarray, episodes: np.ndarray, seeds: np.ndarray) -> None:
        self.parameters[games] = self.controllers[episodes] if self.controllers.ndim == 2 else self.controllers
        self.followed.begin(games, seeds)

    def act(self, frames: np.ndarray, games: np.ndarray) -> np.ndarray:
        _, h, c = self.followed.state
        before = [part[games] for part in (self.parameters, self.nudge, self.followed.restart, h, c)]
        raw, *state = self.agent.step(frames, self.followed.noise(games), *before)
        self.followed.keep(games, *state)
        self.seen = state[0], *before[-2:]
        return raw


def recorded(played: Iterable[Moment], player: AgentPlayer, episodes: int) -> list[Recording]:
    """All episodes of what a player plays."""
    tapes: list[list[tuple[Any, ...]]] = [[] for _ in range(episodes)]
    for moment in played:
        steps = zip(moment.frames, *player.seen, moment.raw, moment.rewards, strict=True)
        for episode, step in zip(moment.episodes, steps, strict=True):
            tapes[episode].append(step)
    return [Recording(*map(np.stack, zip(*tape, strict=True))) for tape in tapes]
