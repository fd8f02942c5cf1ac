"""The rollout file: recorded episodes in HDF5 shards. This module is its only reader and writer.

A shard holds whole episodes, one after the other:

    frames          uint8 (T, height, width, channels), what the policy saw before each action
    actions         float32 (T,) or (T, A), raw, as the policy chose them (see envs.actions)
    rewards         float32 (T,), terminated and truncated bool (T,): what each action brought
    episode_starts  int64 (episodes,), the row where each episode begins
    episode_seeds   int64 (episodes,), the seed that each was played with (-1: unknown)
    played_lengths  int64 (episodes played,), also of those too short to be kept
    played_returns  float64 (episodes played,), absent in the first shards of Doom

and as attributes `format`, `version`, and whatever the collector says of its origin. Frames are compressed
in chunks of BLOCK (benchmarks/results/compression.json says why so).
"""

import contextlib
import functools
import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import hdf5plugin
import numpy as np

from experiment.arrays import Disk, open_hdf5, written
from experiment.problem import Problem
from extract.ahead import read_ahead

FORMAT = "world-models rollouts"
VERSION = 1
PATTERN = "shard-*.h5"
BLOCK = 32  # frames in one HDF5 chunk: what is read and unpacked at once
POOL = 8192  # frames that shuffled reading holds and draws its batches from (100 MB of 64 x 64 RGB)
AHEAD = 2048  # frames of finished batches waiting for the consumer
FRAME_LIMIT = 1 << 20  # bytes in a frame, many times more than those of any world here
COMPRESSION = hdf5plugin.Zstd(clevel=1)


class Episode(NamedTuple):
    """One episode of T steps; row t is the frame seen, the action then taken, and what that brought."""

    frames: np.ndarray  # (T, height, width, channels) uint8
    actions: np.ndarray  # (T,) or (T, A) float32
    rewards: np.ndarray  # (T,) float32
    terminated: np.ndarray  # (T,) bool, only the last may be true
    truncated: np.ndarray  # (T,) bool, only the last may be true
    seed: int = -1


class Sequences(NamedTuple):
    """Everything recorded except the frames, episodes one after the other (F frames in all)."""

    actions: np.ndarray  # (F,) or (F, A) float32
    rewards: np.ndarray  # (F,) float32
    terminated: np.ndarray  # (F,) bool
    truncated: np.ndarray  # (F,) bool
    lengths: np.ndarray  # (episodes,) int64
    groups: Sequence[int]  # how many of the episodes each iteration recorded


SERIES = Sequences._fields[:4]


def shard_path(folder: Path, index: int) -> Path:
    """Where shard `index` of a rollouts folder is."""
    return folder / f"shard-{index:05d}.h5"


def split_episodes(groups: Sequence[int], val_ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Divide episode numbers into training and validation, both ascending; whole episodes, never windows.

    groups: how many episodes each iteration recorded. Each is divided by itself, so that what was held out once stays
    held out when others are added. Raises Problem if either side would be empty.
    """
    training, validation, first = [], [], 0
    for episodes in groups:
        held_out = round(episodes * val_ratio)
        if not 0 < held_out < episodes:
            raise Problem(
                f"data.val_ratio={val_ratio} of {episodes} episodes leaves {held_out} for validation and "
                f"{episodes - held_out} for training: record more episodes or change data.val_ratio"
            )
        shuffled = first + np.random.default_rng(0).permutation(episodes)
        training.append(np.sort(shuffled[held_out:]))
        validation.append(np.sort(shuffled[:held_out]))
        first += episodes
    return np.concatenate(training), np.concatenate(validation)


@contextlib.contextmanager
def new_shard(
    path: Path, attributes: Mapping[str, Any], compression: Mapping[str, Any] = COMPRESSION
) -> Iterator["ShardWriter"]:
    """A shard to append episodes to; the file appears under its name when the block ends well.

    Raises Problem when the disk is full; nothing is left behind then.
    """
    # The cache holds the chunk that one episode ends in and the next one begins in.
    with written(path, rdcc_nbytes=16 << 20) as (file, disk):
        shard = ShardWriter(file, disk, compression)
        yield shard
        shard.finish(attributes)


class ShardWriter:
    """What new_shard gives: appends episodes, and notes the lengths of all that were played."""

    def __init__(self, file: h5py.File, disk: Disk, compression: Mapping[str, Any]):
        self.file, self.disk, self.compression = file, disk, compression
        self.played_lengths: list[int] = []  # the caller may add those of all episodes played, kept or not
        self.played_returns: list[float] = []  # likewise
        self.starts: list[int] = []
        self.seeds: list[int] = []
        self.rows = 0

    def append(self, episode: Episode) -> None:
        """Add an episode after those already there. All must have the same frame and action shapes."""
        first, last = self.rows, self.rows + len(episode.actions)
        for name in ("frames", *SERIES):
            values, frames = np.asarray(getattr(episode, name)), name == "frames"
            if name not in self.file:
                row, options = values.shape[1:], self.compression if frames else {}
                kind = np.uint8 if frames else bool if values.dtype == bool else np.float32
                chunks = (BLOCK if frames else 8192, *row)
                self.file.create_dataset(name, (0, *row), kind, maxshape=(None, *row), chunks=chunks, **options)
            self.file[name].resize(last, axis=0)
            self.file[name][first:last] = values
        self.starts.append(first)
        self.seeds.append(episode.seed)
        self.rows = last
        self.disk.check()

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Write what describes the episodes."""
        if not self.starts:
            raise ValueError("a shard needs at least one episode")
        lengths = np.diff([*self.starts, self.rows])
        self.file["episode_starts"] = np.asarray(self.starts, np.int64)
        self.file["episode_seeds"] = np.asarray(self.seeds, np.int64)
        self.file["played_lengths"] = np.asarray(self.played_lengths or lengths, np.int64)
        returns = self.played_returns or np.add.reduceat(self.file["rewards"][:], self.starts)
        self.file["played_returns"] = np.asarray(returns, np.float64)
        self.file.attrs.update({**attributes, "format": FORMAT, "version": VERSION})


class Shard(NamedTuple):
    """What is known of a shard without its frames."""

    path: Path
    lengths: np.ndarray  # (episodes,) int64
    seeds: np.ndarray  # (episodes,) int64
    played_lengths: np.ndarray  # (episodes played,) int64
    played_returns: np.ndarray  # (episodes played,) float64
    frame_shape: tuple[int, ...]
    block: int  # frames in a chunk
    attributes: dict[str, Any]


@contextlib.contextmanager
def _opened(path: Path, compressed: Sequence[str] | None = None) -> Iterator[h5py.File]:
    """A shard opened for reading. Raises Problem, naming it, if it cannot be read or is something else.

    compressed: see open_hdf5; what a shard declares is checked once, by read_shard.
    """
    remedy = "delete it and run `python -m extract` again"
    with open_hdf5(path, remedy, compressed) as file:
        if file.attrs.get("format") != FORMAT:
            raise Problem(f"{path} is an HDF5 file but not a rollout shard: move it away or {remedy}")
        if (version := file.attrs.get("version")) != VERSION:
            raise Problem(f"{path} has rollout format version {version}, this program reads {VERSION}: {remedy}")
        yield file


def read_shard(path: Path) -> Shard:
    """What a shard holds, checked. Raises Problem if it is empty, truncated, foreign or inconsistent."""
    with _opened(path, compressed=("frames",)) as file:
        starts, frames, rows = file["episode_starts"][:], file["frames"], len(file["frames"])
        lengths = np.diff(np.append(starts, rows))
        lists = {name: len(file[name]) for name in SERIES}
        if not len(starts) or starts[0] != 0 or (lengths <= 0).any() or set(lists.values()) != {rows}:
            raise ValueError(f"{rows} frames, {len(starts)} episodes, {lists} do not fit together")
        height, width, channels = shape = frames.shape[1:]
        if frames.dtype != np.uint8 or channels not in (1, 3) or height * width * channels > FRAME_LIMIT:
            raise ValueError(f"frames of {shape}, {frames.dtype}")
        about = dict(file.attrs)
        int(about.get("actions", 0))  # it is asked for later
        seeds, played = file["episode_seeds"][:], file["played_lengths"][:]
        # The first shards, all of Doom, had no returns: there they are the lengths.
        returns = file["played_returns"][:] if "played_returns" in file else played.astype(np.float64)
        if seeds.shape != starts.shape or played.shape != returns.shape or not len(played):
            raise ValueError(f"{len(starts)} episodes, {len(seeds)} seeds, {len(played)} played do not fit together")
        return Shard(path, lengths, seeds, played, returns, shape, frames.chunks[0], about)


class Rollouts:
    """All shards of some folders as one list of episodes and one long numbering of frames.

    No file stays open and no frames stay in memory: what is read is read when it is asked for.
    Raises Problem if there are none, or naming the shard that cannot be used.
    """

    def __init__(self, *folders: Path):
        self.shards: list[Shard] = []
        self.groups: list[int] = []  # episodes of each folder
        for folder in folders:
            paths = sorted(Path(folder).glob(PATTERN))
            if not paths:
                raise Problem(f"{folder} has no rollouts: run `python -m extract` first")
            shards = [read_shard(path) for path in paths]
            self.shards += shards
            self.groups.append(sum(len(shard.lengths) for shard in shards))
        shapes = {shard.frame_shape: shard.path for shard in self.shards}
        if len(shapes) > 1:
            described = " but ".join(f"{path} has frames of {shape}" for shape, path in shapes.items())
            raise Problem(f"{described}: keep only shards of one kind in a folder")
        self.frame_shape, self.block = self.shards[0].frame_shape, self.shards[0].block
        self.lengths = np.concatenate([shard.lengths for shard in self.shards])  # (episodes,)
        self.starts = np.cumsum(self.lengths) - self.lengths  # (episodes,)
        self.episodes = len(self.lengths)
        self.frames = int(self.lengths.sum())
        shard_frames = [int(shard.lengths.sum()) for shard in self.shards]
        self._shard_starts = np.cumsum([0, *shard_frames])  # (shards + 1,)

    def split(self, val_ratio: float) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation episodes: see split_episodes.

        Where every shard says, with an attribute `held_out`, that it has nothing that was trained on: none, and all.
        """
        if all(shard.attributes.get("held_out", False) for shard in self.shards):
            return np.arange(0), np.arange(self.episodes)
        return split_episodes(self.groups, val_ratio)

    def sequences(self) -> Sequences:
        """Everything but the frames, in memory (about 10 bytes a frame)."""
        parts = []
        for shard in self.shards:
            with _opened(shard.path) as file:
                parts.append([file[name][:] for name in SERIES])
        series = {name: np.concatenate(each) for name, each in zip(SERIES, zip(*parts, strict=True), strict=True)}
        return Sequences(**series, lengths=self.lengths, groups=self.groups)

    @functools.cached_property
    def actions(self) -> np.ndarray:
        """The raw actions of all frames, (F,) or (F, A) float32, read once. Raises Problem, naming a shard, if one is no number."""
        actions = self.sequences().actions
        spoilt = np.flatnonzero(~np.isfinite(actions.reshape(len(actions), -1)).all(axis=1))  # of (F, A)
        if len(spoilt):
            number, _, _ = self._place(spoilt[0], spoilt[0])
            raise Problem(
                f"{self.shards[number].path} has recorded actions that are not numbers: delete it and run "
                "`python -m extract` again"
            )
        return actions

    def episode(self, index: int) -> Episode:
        """One whole episode."""
        number, first, last = self._place(self.starts[index], self.starts[index] + self.lengths[index])
        seed = int(np.concatenate([shard.seeds for shard in self.shards])[index])
        with _opened(self.shards[number].path) as file:
            return Episode(**{name: file[name][first:last] for name in ("frames", *SERIES)}, seed=seed)

    def _place(self, first: int, last: int) -> tuple[int, int, int]:
        """The shard that frames first..last-1 (in the numbering of all) are in, and their rows there."""
        number = int(np.searchsorted(self._shard_starts, first, side="right")) - 1
        offset = int(self._shard_starts[number])
        return number, int(first) - offset, int(last) - offset

    def read_range(self, first: int, last: int) -> np.ndarray:
        """Frames first..last-1 of all, (last - first, height, width, channels) uint8."""
        result = np.empty((last - first, *self.frame_shape), np.uint8)
        done = 0
        while done < len(result):
            number, begin, end = self._place(first + done, last)
            with _opened(self.shards[number].path) as file:
                end = min(end, len(file["frames"]))
                file["frames"].read_direct(result, np.s_[begin:end], np.s_[done : done + end - begin])
            done += end - begin
        return result

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Any frames by their numbers, in that order: (len(indices), height, width, channels) uint8.

        Every block that holds some of them is read once, every file opened once.
        """
        indices = np.asarray(indices)
        result = np.empty((len(indices), *self.frame_shape), np.uint8)
        order = np.argsort(indices, kind="stable")
        ascending = indices[order]
        bounds = np.searchsorted(ascending, self._shard_starts)  # where each shard's part begins
        for shard, offset, begin, end in zip(self.shards, self._shard_starts, bounds, bounds[1:], strict=False):
            if begin == end:
                continue
            rows, places = ascending[begin:end] - offset, order[begin:end]
            cuts = np.flatnonzero(np.diff(rows // self.block)) + 1  # where another block begins
            with _opened(shard.path) as file:
                for wanted, targets in zip(np.split(rows, cuts), np.split(places, cuts), strict=True):
                    result[targets] = file["frames"][wanted[0] : wanted[-1] + 1][wanted - wanted[0]]
        return result

    def batches(
        self, episode_ids: np.ndarray, batch: int, stride: int = 1, seed: int = 0, start_batch: int = 0
    ) -> Generator[np.ndarray, None, None]:
        """Endless shuffled batches of every `stride`-th frame of some episodes, read ahead in a thread.

        Yields (batch, height, width, channels) uint8. The same arguments give the same batches, and
        start_batch=k goes on with the k-th at once. Memory: POOL + AHEAD frames, however many there are.
        """
        if len(episode_ids) == 0:
            raise ValueError("no episodes to draw batches from")
        return read_ahead(
            self._batches(np.asarray(episode_ids), batch, stride, seed, start_batch), max(2, AHEAD // batch)
        )

    def _batches(
        self, episode_ids: np.ndarray, batch: int, stride: int, seed: int, start_batch: int
    ) -> Generator[np.ndarray, None, None]:
        skip = start_batch * batch
        rest = np.empty((0, *self.frame_shape), np.uint8)
        for number in itertools.count():
            order = self.pass_order(episode_ids, stride, seed, number)
            for first in range(min(skip, len(order)) // POOL * POOL, len(order), POOL):
                pool = self.read(order[max(first, skip) : first + POOL])
                while len(rest) + len(pool) >= batch:
                    take = batch - len(rest)
                    yield np.concatenate([rest, pool[:take]])
                    rest, pool = rest[:0], pool[take:]
                rest = np.concatenate([rest, pool])
            skip = max(0, skip - len(order))

    def pass_order(self, episode_ids: np.ndarray, stride: int, seed: int, number: int) -> np.ndarray:
        """The numbers of the frames of pass `number` over the data, in the order in which they are given out.

        Blocks of neighbouring frames are shuffled, then the frames within each POOL of consecutive blocks,
        so that a batch mixes hundreds of places while files are read in large pieces. Each pass begins
        one frame further into the episodes, so that `stride` passes see every frame.
        """
        offset = number % stride
        chosen = np.concatenate(
            [np.arange(self.starts[i] + offset, self.starts[i] + self.lengths[i], stride) for i in episode_ids]
        )
        return self.mixed(chosen, np.random.default_rng((seed, number)), POOL)

    def mixed(self, numbers: np.ndarray, rng: np.random.Generator, pool: int) -> np.ndarray:
        """Frame numbers in an order that is random, and yet reads large pieces: see pass_order."""
        shards = np.searchsorted(self._shard_starts, numbers, side="right") - 1
        blocks, block = np.unique(
            (numbers - self._shard_starts[shards]) // self.block + shards * self.frames, return_inverse=True
        )
        order = numbers[np.argsort(rng.permutation(len(blocks))[block], kind="stable")]
        for first in range(0, len(order), pool):
            rng.shuffle(order[first : first + pool])
        return order
