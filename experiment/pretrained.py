"""What is shipped: run folders in pretrained/, small enough to be kept with the code, and found by name."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from experiment.arrays import open_hdf5
from experiment.files import atomic
from experiment.hdf5 import written
from experiment.problem import UsageProblem
from experiment.run import PRETRAINED, Run


def shipped(name: str) -> Run | None:
    """What is shipped under a name, if there is such a thing."""
    run = Run(PRETRAINED / name)
    return run if run.path.parent == PRETRAINED and run.config.exists() else None  # not PRETRAINED / "/runs/doom"


def is_shipped(run: Run) -> bool:
    """Whether a run folder is one of those."""
    return run.path.resolve().is_relative_to(PRETRAINED.resolve())


def find_run(name: Path | str) -> Run:
    """What is shipped under a name, or the run folder there; see Run.latest. Raises UsageProblem if there is none."""
    run = shipped(str(name)) or Run(name)
    if not run.config.exists():
        names = sorted(path.parent.name for path in PRETRAINED.glob("*/config.yaml"))
        raise UsageProblem(
            f"{name} is neither shipped ({', '.join(names) or 'nothing is'}) nor a run folder such as runs/doom"
        )
    return run.latest()


def size_of(folder: Path) -> float:
    """All files in a folder, in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def copy_metrics(run: Run, shipped: Run, names: Sequence[str]) -> None:
    """Copy metrics/NAME.csv, those of the names that there are."""
    for name in names:
        if (path := run.metrics / f"{name}.csv").exists():
            with atomic(shipped.metrics / path.name) as temporary:
                shutil.copyfile(path, temporary)


def copy_half(source: Path, target: Path) -> None:
    """Copy an HDF5 file of weights, its float32 arrays as float16."""
    with open_hdf5(source, "finish the run first") as old, written(target, libver="earliest") as (new, _):

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values = item[()]
                new.create_dataset(name, data=values.astype("float16") if values.dtype == np.float32 else values)
            else:
                new.require_group(name)
            new[name].attrs.update(item.attrs)

        old.visititems(copy)
        new.attrs.update(old.attrs)
