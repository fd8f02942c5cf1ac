"""The agent: V, M and C playing many real games at once (paper, section 2.4).

In every tic V encodes all frames in one batch, C acts on the sampled z and M's state, and M takes one LSTM
step; the games step together. What an episode gives depends on its seed and the weights alone: the noise of
z is drawn from a generator of its own, and on a CPU a row's numbers are the same in any batch (of two or more;
a lone row is computed twice, because a product with one row is rounded differently).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from controller.policy import LinearPolicy
from rnn.dream import execute

Tensor = Any


class Agent:
    """V, M and C as one compiled step.

    vae: encodes. rnn: M. policy: C. action: what M is given, 'executed' (as the game does it) or the 'raw' tanh.
    """

    def __init__(self, vae: Any, rnn: Any, policy: LinearPolicy, action: Literal["executed", "raw"] = "executed"):
        self.vae, self.rnn, self.policy, self.action = vae, rnn, policy, action

        def rows(*shape: int, dtype: Any = tf.float32) -> tf.TensorSpec:
            return tf.TensorSpec((None, *shape), dtype)

        signature = [rows(64, 64, 3, dtype=tf.uint8), rows(policy.latent_size), rows(policy.size), rows()]
        self._compiled = tf.function(self._step, input_signature=[*signature, rows(rnn.hidden), rows(rnn.hidden)])

    def _step(self, frames: Tensor, noise: Tensor, parameters: Tensor, restart: Tensor, h: Tensor, c: Tensor) -> Any:
        h, c = h * (1 - restart[:, None]), c * (1 - restart[:, None])
        mu, logvar = self.vae.encode(frames)
        z = mu + tf.exp(logvar / 2) * noise  # (N, Z): C and M see the sampled z
        raw = self.policy.act(parameters, z, h, c)  # (N,) or (N, A)
        seen = tf.reshape(execute(raw) if self.action == "executed" else raw, (-1, self.policy.actions))  # (N, A)
        inputs = tf.concat([z, seen, restart[:, None]] if self.rnn.predict_done else [z, seen], axis=1)  # (N, I)
        return (raw, z, *self.rnn.step(inputs, h, c))

    def step(self, *arguments: np.ndarray) -> tuple[np.ndarray, ...]:
        """See N frames and act: step(frames, noise, parameters, restart, h, c).

        frames (N, 64, 64, 3) uint8; noise (N, Z), standard normal, for the draw of z; parameters (N, D);
        restart (N,), 1 in an episode's first step, where h and c count as zero; h and c (N, H) from the step before.
        Returns the raw actions (N,) or (N, A), z (N, Z), and M's next h and c (N, H).
        """
        if len(arguments[0]) == 1:
            arguments = tuple(np.repeat(each, 2, axis=0) for each in arguments)
            return tuple(result.numpy()[:1] for result in self._compiled(*arguments))
        return tuple(result.numpy() for result in self._compiled(*arguments))


class World(Protocol):
    """A Gymnasium vector environment that starts a game again when told to, by options={"reset_mask": (games,)}."""

    num_envs: int

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]: ...

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]: ...

    def close(self) -> None: ...


class Player(Protocol):
    """Who plays. Games are numbered as in the world, episodes as in the list of seeds."""

    def begin(self, games: np.ndarray, episodes: np.ndarray) -> None:
        """These games are about to start these episodes."""

    def act(self, frames: np.ndarray, games: np.ndarray) -> np.ndarray:
        """Raw actions (N,) or (N, A) for the frames (N, 64, 64, 3) of N games that are running."""


class Recording(NamedTuple):
    """One episode as the agent saw it: frames (T, 64, 64, 3) uint8, z (T, Z), raw actions (T,) or (T, A)."""

    frames: np.ndarray
    z: np.ndarray
    raw: np.ndarray


class AgentPlayer:
    """The agent in as many games as there are, with a noise and an M state of its own for each.

    parameters: (D,), one controller for all episodes, or (n, D), one for each. seeds: n, of the noise of z.
    record: the indices of episodes to keep whole, for `recording`.
    """

    def __init__(
        self, agent: Agent, games: int, parameters: np.ndarray, seeds: Sequence[int], record: Sequence[int] = ()
    ):
        self.agent, self.seeds = agent, seeds
        self.parameters = np.broadcast_to(np.asarray(parameters, "float32"), (len(seeds), agent.policy.size))
        self.episode = np.zeros(games, "int64")
        self.noise = [np.random.default_rng(0)] * games
        self.restart = np.ones(games, "float32")
        self.h, self.c = np.zeros((2, games, agent.rnn.hidden), "float32")
        self.tapes: dict[int, list[tuple[np.ndarray, ...]]] = {episode: [] for episode in record}

    def begin(self, games: np.ndarray, episodes: np.ndarray) -> None:
        self.episode[games], self.restart[games] = episodes, 1
        for game, episode in zip(games, episodes, strict=True):
            self.noise[game] = np.random.default_rng(self.seeds[episode])

    def act(self, frames: np.ndarray, games: np.ndarray) -> np.ndarray:
        size = self.agent.policy.latent_size
        noise = np.stack([self.noise[game].standard_normal(size, "float32") for game in games])  # (N, Z)
        parameters = self.parameters[self.episode[games]]
        raw, z, self.h[games], self.c[games] = self.agent.step(
            frames, noise, parameters, self.restart[games], self.h[games], self.c[games]
        )
        self.restart[games] = 0
        for row, episode in enumerate(self.episode[games]) if self.tapes else ():
            if episode in self.tapes:
                self.tapes[episode].append((frames[row].copy(), z[row], raw[row]))
        return raw

    def recording(self, episode: int) -> Recording:
        """An episode that was to be recorded."""
        return Recording(*(np.stack(part) for part in zip(*self.tapes[episode], strict=True)))


class RandomPlayer:
    """The paper's random policy: left, stay or right, drawn anew every tic by a generator of each episode's own."""

    def __init__(self, games: int, seeds: Sequence[int]):
        self.seeds = seeds
        self.generators = [np.random.default_rng(0)] * games

    def begin(self, games: np.ndarray, episodes: np.ndarray) -> None:
        for game, episode in zip(games, episodes, strict=True):
            self.generators[game] = np.random.default_rng(self.seeds[episode])

    def act(self, frames: np.ndarray, games: np.ndarray) -> np.ndarray:
        return np.array([self.generators[game].integers(-1, 2) for game in games], "float32")


class Played(NamedTuple):
    """What n episodes gave: returns (n,) float64 and lengths (n,) in steps."""

    returns: np.ndarray
    lengths: np.ndarray


def play(
    world: World,
    player: Player,
    seeds: Sequence[int],
    to_action: Callable[[np.ndarray], Any],
    progress: Callable[[int], Any] | None = None,
) -> Played:
    """Play one episode per seed to its end, as many side by side as the world has games.

    world: with at most as many games as seeds, unless all of its games were begun before.
    seeds: n, of the worlds. to_action: from raw actions to what the world's step takes.
    progress: called with the number of episodes that just ended.
    A game that has ended starts the next seed at once; when none is left, its row leaves the batch.
    """
    games = world.num_envs
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), "int64")
    begun = 0
    episode = np.full(games, -1)  # which episode each game plays, -1 for none
    while begun < len(seeds) or (episode >= 0).any():
        idle = np.flatnonzero(episode < 0)[: len(seeds) - begun]
        if len(idle):
            episode[idle] = begun + np.arange(len(idle))
            begun += len(idle)
            player.begin(idle, episode[idle])
            frames = start(world, idle, [seeds[index] for index in episode[idle]])
        live = np.flatnonzero(episode >= 0)  # (N,)
        acted = player.act(frames[live], live)
        raw = np.zeros((games, *acted.shape[1:]), "float32")
        raw[live] = acted
        frames, rewards, terminated, truncated, _ = world.step(to_action(raw))
        returns[episode[live]] += rewards[live]
        lengths[episode[live]] += 1
        ended = live[(terminated | truncated)[live]]
        episode[ended] = -1
        if progress is not None and len(ended):
            progress(len(ended))
    return Played(returns, lengths)


def start(world: World, games: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
    """Start these games with these seeds and return the frames of all games, (games, 64, 64, 3) uint8."""
    mask = np.isin(np.arange(world.num_envs), games)
    all_seeds: list[int | None] = [None] * world.num_envs
    for game, seed in zip(games, seeds, strict=True):
        all_seeds[game] = int(seed)
    return world.reset(seed=all_seeds, options={"reset_mask": mask})[0]
