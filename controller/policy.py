"""C: a = tanh(W x [+ b]), one linear layer on what V and M give (paper, section 2.3), or two with tanh between.

A controller is a row of D numbers, so a population is a matrix (N, D): every row of a batch is played by
its own controller, in one product.
"""

import hashlib
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.worlds import world_of
from experiment.arrays import needed, open_hdf5
from experiment.backend import tf
from experiment.problem import Problem
from experiment.schema import Experiment

Tensor = Any


@dataclass(frozen=True)
class Policy:
    """What C sees and how many numbers it has.

    inputs: which of z (latent_size), h and c (memory each), in the order they are concatenated.
    hidden: tanh units between input and output, 0 for none.
    The row of a controller is, layer by layer, W in row-major order (outputs, inputs), then the bias (outputs) if there
    is one: 1,088 numbers for Doom's [z c h], 867 for CarRacing's [z h] with 3 actions and a bias.
    """

    inputs: tuple[str, ...]
    bias: bool
    latent_size: int
    memory: int
    actions: int = 1
    hidden: int = 0

    @property
    def remembers(self) -> bool:
        """Whether C sees anything of M."""
        return self.inputs != ("z",)

    @property
    def features(self) -> int:
        """X, the length of what C sees."""
        return sum(self.latent_size if name == "z" else self.memory for name in self.inputs)

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of every layer."""
        sizes = [self.features, self.hidden, self.actions] if self.hidden else [self.features, self.actions]
        return list(itertools.pairwise(sizes))

    @property
    def size(self) -> int:
        """D, the parameters of one controller."""
        return sum(outputs * (inputs + int(self.bias)) for inputs, outputs in self.layers)

    def seeing(self, latents: np.ndarray) -> np.ndarray:
        """1 for every one of the D numbers but the weights of latents that are not to be seen. latents: (Z,) bool."""
        seen = np.concatenate([latents if name == "z" else np.ones(self.memory, bool) for name in self.inputs])
        free, outputs = np.ones(self.size, "float32"), self.layers[0][1]
        free[: outputs * len(seen)] = np.tile(seen, outputs)
        return free

    def basis(self, directions: dict[str, np.ndarray]) -> np.ndarray:
        """(D, K) float32: weights of what C sees along `directions`, (X_i, k_i) of some of the inputs, and all others by themselves."""
        sizes = {name: self.latent_size if name == "z" else self.memory for name in self.inputs}
        blocks = [directions.get(name, np.eye(size, dtype="float32")) for name, size in sizes.items()]
        (_, outputs), *_ = self.layers
        return block_diagonal([*blocks * outputs, np.eye(self.size - outputs * self.features, dtype="float32")])

    def act(self, parameters: Tensor, z: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """The raw actions of N controllers, each seeing its own row.

        parameters (N, D), z (N, Z), h and c (N, H), all float32. Returns (N,) for one action, else (N, A),
        in [-1, 1]; the world says what they mean (`envs.actions`). Traceable by tf.function.
        """
        known = {"z": z, "h": h, "c": c}
        seen = [known[name] for name in self.inputs]
        first = 0
        for inputs, outputs in self.layers:
            last = first + inputs * outputs
            rows = tf.split(parameters[:, first:last], outputs, axis=1)  # (N, inputs) for every output
            total = tf.stack([weighted(row, seen) for row in rows], axis=1)  # (N, outputs)
            first = last
            if self.bias:
                total += parameters[:, last : last + outputs]
                first += outputs
            seen = [tf.tanh(total)]
        return seen[0][:, 0] if self.actions == 1 else seen[0]


def block_diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    """One matrix with these (m, n) along its diagonal, and zeros elsewhere."""
    matrix = np.zeros(np.sum([block.shape for block in blocks], axis=0), "float32")
    row = column = 0
    for block in blocks:
        matrix[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return matrix


def weighted(weights: Tensor, seen: list[Tensor]) -> Tensor:
    """The sums (N,) of weights (N, X) times what is seen, parts (N, X_i) one beside the other.

    Sums over many lanes first: XLA adds up a single row one number after the other, and concatenates slowly.
    """
    sizes = [part.shape[1] for part in seen]
    lanes = math.gcd(*sizes)
    products = [w * part for w, part in zip(tf.split(weights, sizes, axis=1), seen, strict=True)]  # (N, X_i) each
    partial = [tf.reduce_sum(tf.reshape(p, (-1, p.shape[1] // lanes, lanes)), axis=1) for p in products]
    return tf.reduce_sum(tf.add_n(partial), axis=1)


def policy_from(settings: Experiment) -> Policy:
    """The policy that an Experiment's settings describe."""
    c, actions = settings.controller, world_of(settings).actions
    return Policy(tuple(c.inputs), c.bias, settings.vae.z, settings.rnn.hidden, actions, c.hidden)


class Controller(NamedTuple):
    """The CMA-ES mean, what is reported, (D,) float32, after so many generations."""

    mean: np.ndarray
    generation: int

    @property
    def described(self) -> dict[str, Any]:
        """What a record says of it: twelve characters that tell one CMA-ES mean from another, and the generation."""
        return {"controller": hashlib.sha256(self.mean.tobytes()).hexdigest()[:12], "generation": self.generation}


def load_controller(path: Path, policy: Policy) -> Controller:
    """Read controller.h5. Raises Problem if it is missing, damaged, or belongs to another policy."""
    needed(path, "python -m controller")
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
