"""A run for other tools: its rollouts opened as one file, and its weights with a model card."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from envs.worlds import world_of
from experiment.arrays import open_hdf5, written
from experiment.files import atomic
from experiment.problem import UsageProblem
from experiment.run import Run
from extract.rollouts import Rollouts
from openloop.predictor import trained_stages

COLUMNS = {"pixels": "frames", "action": "actions", "reward": "rewards", "terminated": "terminated", "truncated": "truncated"}  # fmt: skip
"""What stable-worldmodel calls the series of our shards. Actions are as they were chosen; see extract.rollouts."""
VARIABLES = ("kernel", "bias", "output_kernel", "output_bias")  # of a layer, in Keras's order; M is one layer
CARD = """---
license: mit
library_name: keras
tags: [world-models, {world}]
---

# {title}: {models}

A world model (Ha & Schmidhuber 2018, arXiv:1803.10122) of `{environment}`, trained by the project World Models.
{scores}
One safetensors file for each network, in the layouts of Keras and NumPy: convolutions (height, width, in, out), transposed
ones (height, width, out, in), dense layers (in, out). V's `dense` gives mu, `dense_1` logvar. M's LSTM has its gates in
the order i, j, f, o, and adds 1 to f's. C is the CMA-ES mean, `mean`, W in row-major order. The settings that the networks
were made with:

```yaml
{settings}```
"""


def link_rollouts(run: Run, path: Path) -> Rollouts:
    """Write one HDF5 file that shows all rollouts of a run in stable-worldmodel's layout; nothing is copied.

    pixels uint8 (T, h, w, c), action float32 (T, A), reward, terminated and truncated (T,), ep_len and ep_offset int64
    (episodes,). The shards are looked for from the file's folder. Returns what it shows. Raises Problem if there is nothing,
    UsageProblem if the file is there already.
    """
    rollouts = Rollouts(*run.all_rollouts)
    refuse_old(path)
    with written(path) as (file, _):
        for column, series in COLUMNS.items():
            sources = [source(shard.path, series, path.parent) for shard in rollouts.shards]
            rest = sources[0].shape[1:]
            flat = column == "action" and not rest  # one number in each: (T,) to (T, 1)
            layout = h5py.VirtualLayout((rollouts.frames, 1) if flat else (rollouts.frames, *rest), sources[0].dtype)
            first = 0
            for each in sources:
                rows = slice(first, first + each.shape[0])
                layout[(rows, 0) if flat else rows] = each
                first = rows.stop
            file.create_virtual_dataset(column, layout)
        file["ep_len"], file["ep_offset"] = rollouts.lengths, rollouts.starts
    return rollouts


def source(shard: Path, series: str, folder: Path) -> h5py.VirtualSource:
    """A series of a shard, for a file in that folder."""
    with open_hdf5(shard, "delete it and run `python -m extract` again", compressed=None) as file:
        return h5py.VirtualSource(os.path.relpath(shard, folder), series, file[series].shape, file[series].dtype)


def write_safetensors(run: Run, folder: Path) -> list[Path]:
    """Write what a run has trained as safetensors, and README.md, a model card; returns the files.

    Raises UsageProblem if the package is missing or one of the files is there already, Problem if nothing is trained.
    """
    try:
        from safetensors.numpy import save
    except ImportError:
        raise UsageProblem("safetensors is missing: bash launch_scripts/setup.bash safetensors") from None
    weights = {stage: run.weights(stage) for stage in trained_stages(run)}
    if run.controller.exists():
        weights["controller"] = run.controller
    files = [*(folder / f"{name}.safetensors" for name in weights), folder / "README.md"]
    refuse_old(*files)
    for (name, source), target in zip(weights.items(), files, strict=False):
        with open_hdf5(source, "finish the run first") as file, atomic(target) as temporary:
            temporary.write_bytes(save(arrays_of(file), metadata={"model": name}))
    with atomic(files[-1]) as temporary:
        temporary.write_text(card(run, list(weights)), encoding="utf-8")
    return files


def refuse_old(*paths: Path) -> None:
    """Raise UsageProblem for the first of these that is there: it may be anything, a shard or another project's README."""
    if there := next((path for path in paths if os.path.lexists(path)), None):
        raise UsageProblem(f"{there} is there already: delete it, or name another place")


def arrays_of(file: h5py.File) -> dict[str, np.ndarray]:
    """The arrays in a file of weights, by names such as encoder.conv2d_1.kernel, without the optimiser's."""
    found: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            *layers, last = (part for part in name.split("/") if part not in ("layers", "vars"))
            found[".".join([*layers, VARIABLES[int(last)] if last.isdecimal() else last])] = item[()]

    file.visititems(keep)
    return found


def card(run: Run, models: list[str]) -> str:
    """The model card."""
    settings, text = run.settings(()), run.config.read_text(encoding="utf-8")
    world = world_of(settings)
    with run.reading_results():
        scores = [
            f"- {name}: {record['mean']:,.1f} ± {record['std']:,.1f} ({world.score}, {record['n']} episodes)"
            for name, record in run.read_results().get("evaluations", {}).items()
            if name in ("game", "dream", "random")
        ]
    return CARD.format(
        world=settings.env.name, title=run.title, models=", ".join(models), environment=world.environment,
        scores="".join(["\n", *(line + "\n" for line in scores)]), settings=text,
    )  # fmt: skip
