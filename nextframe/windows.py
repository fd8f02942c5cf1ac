"""Windows: L frames in a row of one episode, with the L - 1 actions between them, cut from the rollouts when read."""

from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from experiment.problem import Problem
from extract.ahead import read_ahead
from extract.rollouts import Rollouts

POOL = 8192
"""Windows that shuffled reading mixes: those of some 256 places, whose frames it holds (70 MB of 84 x 84 grey)."""
AHEAD = 64 << 20  # bytes of finished batches that wait for the consumer, at most


class Clips(NamedTuple):
    """B windows."""

    frames: np.ndarray  # (B, L, height, width, channels) uint8; float32 in [0, 1] where some were predicted
    actions: np.ndarray  # (B, L - 1) or (B, L - 1, A) float32, raw; number t was taken after seeing frame t


class Windows:
    """All windows of `length` frames of some episodes; none goes over an episode's end.

    No frames are kept: what is in memory is 10 bytes a recorded step (actions and the like) and, while shuffled batches
    are read, about POOL frames and AHEAD bytes, however much is recorded.
    Raises Problem if no episode is long enough, or a recorded action is not a number.
    what: whose episodes these are, for the message.
    """

    def __init__(self, rollouts: Rollouts, episode_ids: np.ndarray, length: int, what: str = "training"):
        self.rollouts, self.length = rollouts, length
        self.actions = rollouts.actions  # (F,) or (F, A)
        lengths, starts = rollouts.lengths[episode_ids], rollouts.starts[episode_ids]
        if lengths.max(initial=0) < length:
            raise Problem(
                f"a window has {length} frames, but the longest {what} episode has {lengths.max(initial=0)}: lower "
                "model.context, train.unroll or train.video_steps, or record longer episodes"
            )
        fitting = lengths >= length
        ends = starts + lengths - length + 1
        self.starts = np.concatenate([np.arange(*part) for part in zip(starts[fitting], ends[fitting], strict=True)])
        """The numbers of the frames that windows begin with, ascending, (windows,) int64."""

    def __len__(self) -> int:
        return len(self.starts)

    def spread(self, number: int) -> np.ndarray:
        """The starts of so many windows, evenly spread over all; fewer if there are not so many."""
        return self.starts[np.linspace(0, len(self) - 1, min(number, len(self))).astype(int)]

    def read(self, starts: np.ndarray) -> Clips:
        """The windows that begin with these frames; every frame is read once, however many windows share it."""
        return self._cut(starts, *self._frames(starts))

    def _frames(self, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of all frames of these windows, ascending, and the frames."""
        numbers = np.unique(starts[:, None] + np.arange(self.length))
        return numbers, self.rollouts.read(numbers)

    def _cut(self, starts: np.ndarray, numbers: np.ndarray, frames: np.ndarray) -> Clips:
        """Windows out of frames that hold them all."""
        rows = np.searchsorted(numbers, starts)[:, None] + np.arange(self.length)  # (B, L)
        return Clips(frames[rows], self.actions[starts[:, None] + np.arange(self.length - 1)])

    def batches(self, batch: int, seed: int = 0, start_batch: int = 0) -> Generator[Clips, None, None]:
        """Endless shuffled batches, read ahead in a thread; each pass over the data has every window once.

        The same arguments give the same batches, and start_batch=k goes on with the k-th at once.
        """
        size = batch * self.length * int(np.prod(self.rollouts.frame_shape))
        return read_ahead(self._batches(batch, seed, start_batch), depth=max(2, min(64, AHEAD // size)))

    def _batches(self, batch: int, seed: int, start_batch: int) -> Generator[Clips, None, None]:
        number, skip = divmod(start_batch * batch, len(self))
        parts: list[Clips] = []  # of the batch that is being put together
        missing = batch
        while True:
            order = self.order(seed, number)
            for first in range(skip // POOL * POOL, len(order), POOL):
                pool = order[max(first, skip) : first + POOL]
                frames = self._frames(pool)
                while len(pool):
                    parts.append(self._cut(pool[:missing], *frames))
                    missing, pool = missing - len(pool[:missing]), pool[missing:]
                    if not missing:
                        yield parts[0] if len(parts) == 1 else Clips(*map(np.concatenate, zip(*parts, strict=True)))
                        parts, missing = [], batch
            number, skip = number + 1, 0

    def order(self, seed: int, number: int) -> np.ndarray:
        """The starts of all windows in the order of pass `number`: places in all shards are mixed, see Rollouts.mixed."""
        return self.rollouts.mixed(self.starts, np.random.default_rng((seed, number)), POOL)
