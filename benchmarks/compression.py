"""Which compression rollouts are kept with: size, writing and reading, on real frames.

    python -m benchmarks.compression [RUN] [--output FILE]

Takes frames from RUN's rollouts, or records some. Speeds are per second of processor time, so that they say
what compression takes away from the game and the training beside it, and hold on a busy machine. Prints a table
and writes it as JSON. What is wanted: reading in order far above the 26,000 frames/s that V encodes, shuffled reading
(every 4th frame) far above the 1,400 that V trains on, writing that costs the game (8,000 tics/s on two cores) little;
then the smallest.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hdf5plugin
import numpy as np

from experiment.files import write_json
from experiment.schema import Experiment, Extract
from experiment.stage import guard
from extract.rollouts import Episode, Rollouts, new_shard, shard_path

RESULTS = Path(__file__).parent / "results" / "compression.json"
FRAMES = 10_000
SHARDS = 4
BATCH, STRIDE = 100, 4
READ = 512

CANDIDATES: dict[str, Mapping[str, Any]] = {
    "none": {},
    "gzip-1": {"compression": "gzip", "compression_opts": 1},
    "lzf": {"compression": "lzf"},
    "LZ4": hdf5plugin.LZ4(),
    "Zstd-1": hdf5plugin.Zstd(clevel=1),
    "Zstd-3": hdf5plugin.Zstd(clevel=3),
    "Blosc2 LZ4-5": hdf5plugin.Blosc2(cname="lz4", clevel=5, filters=hdf5plugin.Blosc2.NOFILTER),
    "Blosc2 LZ4-5 bitshuffle": hdf5plugin.Blosc2(cname="lz4", clevel=5, filters=hdf5plugin.Blosc2.BITSHUFFLE),
    "Blosc2 Zstd-1": hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.NOFILTER),
}
BLOCKS = (1, 16, 32, 64)


def main() -> None:
    """Measure every candidate with every block size."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compression",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", nargs="?", type=Path, help="a run folder with rollouts of Doom")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="where the JSON goes (benchmarks/results/compression.json)"
    )
    arguments = parser.parse_args()
    episodes = list(recorded(arguments.run) if arguments.run else played())
    rows = []
    print(
        f"{'compression':26}{'block':>6}{'ratio':>7}{'write MB/s':>12}{'frames/s':>10}{'in order':>10}{'shuffled':>10}   (per CPU second)"
    )
    for name, block in itertools.product(CANDIDATES, BLOCKS):
        row = {"compression": name, "block": block, **measure(episodes, CANDIDATES[name], block)}
        rows.append(row)
        print(
            f"{name:26}{block:6}{row['ratio']:7.2f}{row['write_mb_per_s']:12,.0f}{row['write_frames_per_s']:10,.0f}"
            f"{row['in_order_frames_per_s']:10,.0f}{row['shuffled_frames_per_s']:10,.0f}",
            flush=True,
        )
    write_json(
        arguments.output,
        {"frames": int(sum(len(e.frames) for e in episodes)), "batch": BATCH, "stride": STRIDE, "rows": rows},
    )
    print(f"written to {arguments.output}")


def recorded(run: Path) -> Iterator[Episode]:
    """Episodes of a run, about FRAMES frames."""
    rollouts = Rollouts(run / "rollouts")
    for index in range(np.searchsorted(np.cumsum(rollouts.lengths), FRAMES) + 1):
        yield rollouts.episode(index)


def played() -> Iterator[Episode]:
    """Episodes of the random policy played now, about FRAMES frames."""
    from extract.collect import ShardTask, record, without_networks

    with tempfile.TemporaryDirectory() as folder:
        settings = Experiment(extract=Extract(episodes=FRAMES // 300))
        record(ShardTask(shard_path(Path(folder) / "rollouts", 0), 0, 1, settings, without_networks))
        yield from recorded(Path(folder))


def measure(episodes: list[Episode], compression: Mapping[str, Any], block: int) -> dict[str, float]:
    """Write the episodes into some shards and read them back both ways."""
    frames = sum(len(episode.frames) for episode in episodes)
    raw = sum(episode.frames.nbytes for episode in episodes)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        for index in range(SHARDS):
            with new_shard(shard_path(Path(folder), index), {}, block, compression) as shard:
                for episode in episodes[index::SHARDS]:
                    shard.append(episode)
        writing = time.process_time() - began
        stored = sum(path.stat().st_size for path in Path(folder).iterdir())
        rollouts = Rollouts(Path(folder))
        began = time.process_time()
        for first in range(0, frames, READ):  # as vae.encode reads
            rollouts.read_range(first, min(first + READ, frames))
        in_order = time.process_time() - began
        batches = rollouts.batches(np.arange(rollouts.episodes), BATCH, STRIDE)
        count = frames // BATCH // 2
        began = time.process_time()
        for _ in itertools.islice(batches, count):
            pass
        shuffled = time.process_time() - began
        batches.close()
    return {
        "ratio": round(raw / stored, 2),
        "write_mb_per_s": round(raw / 1e6 / writing),
        "write_frames_per_s": round(frames / writing),
        "in_order_frames_per_s": round(frames / in_order),
        "shuffled_frames_per_s": round(count * BATCH / shuffled),
    }


if __name__ == "__main__":
    sys.exit(guard(main))
