"""controller.h5: the CMA-ES mean and the best candidate, with the policy they belong to."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from controller.evolution import Evolution
from controller.policy import Policy
from experiment.arrays import open_hdf5, written
from experiment.problem import Problem


class Controller(NamedTuple):
    """The CMA-ES mean, what is reported, (D,) float32, after so many generations."""

    mean: np.ndarray
    generation: int

    @property
    def fingerprint(self) -> str:
        """Twelve characters that tell one CMA-ES mean from another."""
        return hashlib.sha256(self.mean.tobytes()).hexdigest()[:12]


def save_controller(path: Path, policy: Policy, evolution: Evolution) -> None:
    """Write where an evolution stands."""
    with written(path, libver="earliest") as (file, _):
        file["mean"], file["best"] = evolution.mean, evolution.best
        file.attrs.update(
            generation=evolution.before + evolution.generation, sigma=evolution.sigma,
            best_generation=evolution.before + evolution.best_generation, best_return=evolution.best_return,
            inputs=" ".join(policy.inputs), bias=policy.bias, actions=policy.actions, hidden=policy.hidden,
        )  # fmt: skip


def load_controller(path: Path, policy: Policy) -> Controller:
    """Read controller.h5. Raises Problem if it is missing, damaged, or belongs to another policy."""
    if not path.exists():
        raise Problem(f"there is no {path}: run `python -m controller` with the same arguments first")
    with open_hdf5(path, "delete it and run `python -m controller` again", fault="is not a controller") as file:
        mean, about = file["mean"][()].astype("float32"), dict(file.attrs)
        hidden = int(about.get("hidden", 0))
        found = (str(about["inputs"]), bool(about["bias"]), int(about["actions"]), hidden, mean.shape)
        expected = (" ".join(policy.inputs), policy.bias, policy.actions, policy.hidden, (policy.size,))
        if found != expected:
            raise Problem(
                f"{path} holds a controller of inputs, bias, actions, hidden, shape = {found}, but the settings make "
                f"{expected}: use the settings it was evolved with, or another folder (--run)"
            )
        return Controller(mean, int(about["generation"]))
