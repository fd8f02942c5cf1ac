"""M's training data: episodes of latents, laid end to end in parallel streams and cut into windows.

Each of B streams plays episode after episode. A batch is the next T steps of all streams, so that M's state
can be carried from batch to batch and is emptied only where an episode begins. Everything follows from the
seed and the batch's number: a run that goes on at batch n sees what it would have seen.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn.model import MDNRNN
from vae.latents import Latents
from vae.model import draw


class Batch(NamedTuple):
    """T steps of B streams, time-major, float32. What `series` describes as (T, B) is padded with restarts, masked."""

    inputs: Any  # (T, B, I): z[t], a[t] and, where M predicts done, restart[t]
    keep: Any  # (T, B): 0 on an episode's first step, where M's state is emptied; else 1
    z: Any  # (T, B, Z): z[t+1], what is to be predicted; within a batch, the same draw as the next step's input
    z_mask: Any  # (T, B): 0 on an episode's last step, which has no z[t+1], and on padding; else 1
    done: Any  # (T, B): 1 where the episode ended by itself at t; else 0
    done_mask: Any  # (T, B): 0 where the episode was cut at t, and on padding; else 1
    reward: Any  # (T, B): what the action at t brought, within rnn.reward_limits
    reward_mask: Any  # (T, B): 0 on padding; else 1


class Series:
    """Latents as batches for M.

    model: M, which says what its inputs are. reward_limits: the lowest and the highest that it is to learn.
    """

    def __init__(self, latents: Latents, model: MDNRNN, reward_limits: Sequence[float]):
        self.latents, self.model = latents, model
        low, high = reward_limits
        self.rewards = latents.rewards.clip(low, high)
        self.starts = latents.episode_starts
        self.ends = self.starts + latents.lengths  # (episodes,), exclusive
        self.first, self.last = np.zeros(latents.frames, bool), np.zeros(latents.frames, bool)  # of an episode
        self.first[self.starts], self.last[self.ends - 1] = True, True

    def training(self, episodes: np.ndarray, streams: int, window: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches from number `start` on: pass after pass over the episodes, each in a new order."""
        orders = (np.random.default_rng([seed, number]).permutation(episodes) for number in itertools.count())
        windows = self.windows(itertools.chain.from_iterable(orders), streams, window)
        for number, frames in enumerate(itertools.islice(windows, start, None), start):
            yield self.batch(frames, np.random.default_rng([seed, number, 1]))

    def validation(self, episodes: np.ndarray, streams: int, window: int) -> Iterator[Batch]:
        """Every step of the episodes once, the same draw of latents each time; the streams' ends are padded."""
        for number, frames in enumerate(self.windows(iter(episodes), streams, window)):
            yield self.batch(frames, np.random.default_rng([number, 2]))

    def windows(self, episodes: Iterator[int], streams: int, window: int) -> Iterator[np.ndarray]:
        """Frame numbers (T, B): each stream takes the next episode when its own is over; -1 when there is none left."""
        at, end = np.zeros(streams, int), np.zeros(streams, int)
        while True:
            frames = np.full((window, streams), -1)
            for stream in range(streams):
                filled = 0
                while filled < window:
                    if at[stream] == end[stream]:
                        episode = next(episodes, None)
                        if episode is None:
                            break
                        at[stream], end[stream] = self.starts[episode], self.ends[episode]
                    steps = min(window - filled, end[stream] - at[stream])
                    frames[filled : filled + steps, stream] = np.arange(at[stream], at[stream] + steps)
                    at[stream] += steps
                    filled += steps
            if frames.max() < 0:
                return
            yield frames

    def batch(self, frames: np.ndarray, random: np.random.Generator) -> Batch:
        """The batch of the given frames (T, B), its latents drawn anew: z = mu + exp(logvar / 2) · noise."""
        real = frames >= 0
        following = np.where(real[-1], frames[-1] + 1, -1).clip(max=len(self.first) - 1)  # (B,)
        shown = np.concatenate([frames, following[None]])  # (T+1, B)
        mu, logvar = self.latents.mu[shown].astype(np.float32), self.latents.logvar[shown].astype(np.float32)
        z = draw(mu, logvar, random.standard_normal(mu.shape, np.float32))  # (T+1, B, Z)
        restart = (self.first[frames] | ~real).astype(np.float32)
        inputs = self.model.inputs(z[:-1], self.latents.actions[frames], restart, xp=np)
        return Batch(
            inputs=inputs.astype(np.float32, copy=False),
            keep=1 - restart,
            z=z[1:],
            z_mask=(real & ~self.last[frames]).astype(np.float32),
            done=(real & self.latents.terminated[frames]).astype(np.float32),
            done_mask=(real & ~self.latents.truncated[frames]).astype(np.float32),
            reward=np.where(real, self.rewards[frames], 0).astype(np.float32),
            reward_mask=real.astype(np.float32),
        )
