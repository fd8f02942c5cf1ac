"""`python -m vae.encode`: every recorded frame to its latent mu and logvar.

Shard by shard: what is done of a killed run is not done again.
"""

import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import Stage, main

STAGE = Stage(
    name="vae.encode",
    sections=("env", "extract", "data", "vae"),
    needs=("extract", "vae"),
    makes=("latents",),
    text="""
    Encode every recorded frame with V, so that M can be trained without looking at frames again.
    Reads the rollouts and vae.weights.h5.

    Writes latents.h5 in the run folder: mu and logvar (float16) of each frame, with the actions,
    rewards, endings and episode starts. An interrupted run goes on with the shard it was at.
    """,
)


def run(settings: Experiment, run: Run) -> dict[str, Any]:
    """Encode all shards of a run and write its latents.h5. Returns throughput, of this process."""
    import numpy as np
    import tensorflow as tf

    from experiment.hardware import prepare
    from experiment.progress import Progress
    from extract.ahead import read_ahead
    from extract.rollouts import Rollouts
    from vae.latents import write_latents
    from vae.model import load_vae

    prepare(settings.hardware)
    model = load_vae(run, settings)
    rollouts = Rollouts(run.rollouts)
    encode = tf.function(model.encode, input_signature=[tf.TensorSpec((None, *rollouts.frame_shape), tf.uint8)])

    # Named after the weights, so that parts made with others are never taken for these.
    folder = run.checkpoints / f"vae.encode-{zlib.crc32(run.vae_weights.read_bytes()):08x}"
    paths = [folder / f"{shard.path.stem}.npz" for shard in rollouts.shards]
    ends = np.cumsum([shard.lengths.sum() for shard in rollouts.shards])  # (shards,)
    starts = ends - [shard.lengths.sum() for shard in rollouts.shards]
    missing = [shard for shard, path in enumerate(paths) if not path.exists()]
    todo = int(sum(ends[shard] - starts[shard] for shard in missing))

    def batches() -> Iterator[tuple[int, np.ndarray]]:
        for shard in missing:
            for first in range(starts[shard], ends[shard], settings.encode.batch):
                yield shard, rollouts.read_range(first, min(first + settings.encode.batch, ends[shard]))

    began = time.monotonic()
    with Progress("encoding", rollouts.frames, "frames", done=rollouts.frames - todo) as bar:
        mus, logvars, rows = [], [], 0
        for shard, frames in read_ahead(batches(), depth=4):
            mu, logvar = encode(frames)
            mus.append(mu.numpy().astype(np.float16))
            logvars.append(logvar.numpy().astype(np.float16))
            rows += len(frames)
            bar.update(len(frames))
            if rows == ends[shard] - starts[shard]:
                save_part(paths[shard], np.concatenate(mus), np.concatenate(logvars))
                mus, logvars, rows = [], [], 0
    seconds = time.monotonic() - began
    write_latents(run.latents, (load_part(path) for path in paths), rollouts.sequences())
    for leftover in run.checkpoints.glob("vae.encode-*"):
        shutil.rmtree(leftover)
    return {"frames": todo, "frames_per_second": round(todo / max(seconds, 1e-9))}


def save_part(path: Path, mu: Any, logvar: Any) -> None:
    """Write what has been encoded of one shard, atomically."""
    import numpy as np

    from experiment.files import atomic

    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, mu=mu, logvar=logvar)


def load_part(path: Path) -> tuple[Any, Any]:
    """mu and logvar, (n, Z) float16 each, of one shard."""
    import numpy as np

    with np.load(path) as part:
        return part["mu"], part["logvar"]


if __name__ == "__main__":
    main(STAGE, run)
