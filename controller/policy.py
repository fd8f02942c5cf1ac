"""C: a = tanh(W x [+ b]), one linear layer on what V and M give (paper, section 2.3).

A controller is a row of D numbers, so a population is a matrix (N, D): every row of a batch is played by
its own controller, in one product.
"""

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from experiment.problem import Problem

Tensor = Any


@dataclass(frozen=True)
class LinearPolicy:
    """What C sees and how many numbers it has.

    inputs: which of z (latent_size), h and c (hidden each), in the order they are concatenated.
    The row of a controller is W in row-major order (actions, X), then the bias (actions) if there is one:
    1,088 numbers for Doom's [z c h], 867 for CarRacing's [z h] with 3 actions and a bias.
    """

    inputs: tuple[str, ...]
    bias: bool
    latent_size: int
    hidden: int
    actions: int = 1

    def __post_init__(self) -> None:
        unknown = [name for name in self.inputs if name not in ("z", "h", "c")]
        if unknown or not self.inputs or len(set(self.inputs)) < len(self.inputs):
            raise Problem(f"controller.inputs is {list(self.inputs)}: expected some of z, h and c, each once")

    @property
    def features(self) -> int:
        """X, the length of what C sees."""
        return sum(self.latent_size if name == "z" else self.hidden for name in self.inputs)

    @property
    def size(self) -> int:
        """D, the parameters of one controller."""
        return self.actions * (self.features + int(self.bias))

    def act(self, parameters: Tensor, z: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """The raw actions of N controllers, each seeing its own row.

        parameters (N, D), z (N, Z), h and c (N, H), all float32. Returns (N,) for one action, else (N, A),
        in [-1, 1]; the world says what they mean (`envs.doom.execute`). Traceable by tf.function.
        """
        seen = {"z": z, "h": h, "c": c}
        if self.actions == 1:
            # Sums over many lanes first: XLA adds up a single row one number after the other, and concatenates slowly.
            lanes = math.gcd(self.latent_size, self.hidden)
            sizes = [seen[name].shape[1] for name in self.inputs]
            weights = tf.split(parameters[:, : self.features], sizes, axis=1)
            products = [w * seen[name] for w, name in zip(weights, self.inputs, strict=True)]  # (N, Z or H) each
            partial = [tf.reduce_sum(tf.reshape(p, (-1, p.shape[1] // lanes, lanes)), axis=1) for p in products]
            total = tf.reduce_sum(tf.add_n(partial), axis=1)  # (N,)
            return tf.tanh(total + parameters[:, -1] if self.bias else total)
        x = tf.concat([seen[name] for name in self.inputs], axis=1)  # (N, X)
        weights = tf.reshape(
            parameters[:, : self.actions * self.features], (-1, self.actions, self.features)
        )  # (N, A, X)
        total = tf.linalg.matvec(weights, x)  # (N, A)
        return tf.tanh(total + parameters[:, self.actions * self.features :] if self.bias else total)


def policy_from(settings: Any, actions: int = 1) -> LinearPolicy:
    """The policy that an Experiment's settings describe."""
    c = settings.controller
    return LinearPolicy(tuple(c.inputs), c.bias, settings.vae.z, settings.rnn.hidden, actions)
