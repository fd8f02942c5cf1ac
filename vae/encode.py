"""`python -m vae.encode`: every recorded frame to its latent mu and logvar.

Shard by shard: what is done of a killed run is not done again, nor, where V is the same, what an earlier iteration did.
"""

import itertools
import shutil
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiment.arrays import read_npz, write_npz
from experiment.files import checksum, reading
from experiment.hardware import prepare, thread_count
from experiment.problem import Problem
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import Stage, main
from extract.ahead import in_threads
from extract.rollouts import Rollouts
from vae.latents import Latents, write_latents

BATCHES = 2  # batches whose frames are read at once: to open a shard takes as long as to read some hundred frames
STAGE = Stage(
    name="vae.encode",
    sections=("env", "extract", "data", "begin", "vae"),
    needs=("extract", "vae"),
    makes=("latents",),
    text="""
    Encode every recorded frame with V, so that M can be trained without looking at frames again.
    Reads the rollouts and vae.weights.h5.

    Writes latents.h5 in the run folder: mu and logvar (float16) of each frame, with the actions,
    rewards, endings and episode starts. An interrupted run goes on with the shard it was at. Where V
    stays as it is (repeat.vae_steps=0), only what this iteration recorded is encoded.
    """,
)


def run(settings: Experiment, run: Run) -> dict[str, Any]:
    """Encode all shards of a run and write its latents.h5. Returns throughput, of this process."""
    from experiment.backend import graph, tf
    from vae.model import load_vae

    prepare(settings.hardware, run)
    model = load_vae(run, settings)
    rollouts, before = Rollouts(*run.all_rollouts), encoded_before(run)
    encode = graph(model.encode, input_signature=[tf.TensorSpec((None, *rollouts.frame_shape), tf.uint8)])

    # Named after the weights, so that parts made with others are never taken for these.
    folder = run.checkpoints / f"vae.encode-{checksum(run.vae_weights):08x}"
    lengths = np.array([shard.lengths.sum() for shard in rollouts.shards])
    starts, size = np.cumsum(lengths) - lengths, settings.hardware.encode_batch
    known = len(before[0]) if before else 0
    shards = {  # the first frame of each that is new, and how many it has
        folder / f"{number:05d}.npz": (start, length)
        for number, (start, length) in enumerate(zip(starts, lengths, strict=True))
        if start >= known
    }
    step = BATCHES * size
    ranges = {  # of each shard still to do, the first and last frame of what is read at once
        path: [(first, min(first + step, start + length)) for first in range(start, start + length, step)]
        for path, (start, length) in shards.items()
        if not is_whole(path, length, settings.vae.z)
    }
    todo = sum(last - first for parts in ranges.values() for first, last in parts)

    began = time.monotonic()
    with (
        Progress("encoding", rollouts.frames, "frames", done=rollouts.frames - todo) as bar,
        closing(encode_ranges(encode, rollouts, itertools.chain(*ranges.values()), size)) as encoded,
    ):
        for path, parts in ranges.items():
            done = []
            for part in itertools.islice(encoded, len(parts)):
                done.append(part)
                bar.update(len(part[0]))
            mu, logvar = (np.concatenate(series) for series in zip(*done, strict=True))
            write_npz(path, {"mu": mu, "logvar": logvar})
    seconds = time.monotonic() - began
    every = itertools.chain([before] if before else [], map(load_part, shards))
    write_latents(run.latents, every, rollouts.sequences())
    for leftover in run.checkpoints.glob("vae.encode-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return {"frames": int(todo), "frames_per_second": round(todo / max(seconds, 1e-9))}


def encoded_before(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    """mu and logvar, (n, Z) float16 each, of what earlier iterations recorded, if it is there and V is the same; else None."""
    if (last := run.previous) is None or not last.latents.exists():
        return None
    if checksum(last.vae_weights) != checksum(run.vae_weights):
        return None
    latents = Latents.load(last.latents)
    return latents.mu, latents.logvar


def encode_ranges(
    encode: Callable[[np.ndarray], Any], rollouts: Rollouts, ranges: Iterable[tuple[int, int]], size: int
) -> Generator[tuple[np.ndarray, ...], None, None]:
    """mu and logvar, (n, Z) float16 each, of ranges of frames, each given by its first and last + 1, in their order.

    encode is given `size` frames at a time, the last of a range perhaps fewer. Several ranges are read and encoded at
    once: while one waits for its frames, or for the slower core's half of a product, others compute (a fifth faster
    than reading ahead of one that computes).
    """

    def encode_range(first: int, last: int) -> tuple[np.ndarray, ...]:
        frames = rollouts.read_range(first, last)
        batches = [encode(frames[i : i + size]) for i in range(0, len(frames), size)]
        return tuple(
            np.concatenate([part.numpy() for part in parts]).astype(np.float16) for parts in zip(*batches, strict=True)
        )

    streams = thread_count() + 1
    return in_threads((partial(encode_range, *each) for each in ranges), 2 * streams, streams)


def is_whole(path: Path, frames: int, latent_size: int) -> bool:
    """Whether what an interrupted encoding left of a shard is there, and nothing of it is damaged; else it is done again."""
    try:
        return path.exists() and [part.shape for part in load_part(path)] == 2 * [(frames, latent_size)]
    except Problem:
        return False


def load_part(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """mu and logvar, (n, Z) float16 each, of one shard. Raises Problem if they are damaged."""
    remedy = "delete it and run `python -m vae.encode` again"
    with reading(path, remedy):
        part = read_npz(path, remedy)
        return part["mu"], part["logvar"]


if __name__ == "__main__":
    main(STAGE, run)
