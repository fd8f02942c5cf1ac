"""V: the convolutional variational autoencoder (paper, section 2.1 and appendix A.1).

Frames are uint8 outside and float in [0, 1] inside; the model converts them itself, so that the input
pipeline moves bytes. Under the mixed_bfloat16 policy the convolutions are computed in bfloat16; mu, logvar,
the draw of z, the sigmoid and the loss are float32 always.

The convolutions are those of vae/convolutions.py, which says what was done for their speed. A fused Adam
(experiment/training.py) takes an eighth off a training step; XLA did not pay.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from envs.worlds import FRAME
from experiment import arrays
from experiment.backend import keras, layers, ops, tf
from experiment.run import Run
from experiment.schema import Experiment
from vae.convolutions import Conv2D, Conv2DTranspose, PixelDeconv, convolve_bytes

Tensor = Any
DECODED_AT_ONCE = 500


class VAE(keras.Model):
    """Encoder, decoder and loss. 4,446,915 parameters at latent_size 64 (Doom), 4,348,547 at 32 (CarRacing).

    Calling it on frames (B, 64, 64, 3), uint8 or float in [0, 1], gives what the loss is computed from:
    the reconstruction (B, 64, 64, 3), mu and logvar (B, Z).
    """

    def __init__(self, latent_size: int, kl_floor: float = 0.5, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.latent_size, self.kl_floor = latent_size, kl_floor
        self.noise = keras.random.SeedGenerator(seed)

        seeds = itertools.count(100 * seed)

        def kernel() -> dict[str, Any]:
            return {"kernel_initializer": keras.initializers.GlorotUniform(next(seeds))}

        def conv(filters: int) -> layers.Layer:
            return Conv2D(filters, 4, activation="relu", **kernel())

        self.encoder = keras.Sequential(
            [keras.Input(FRAME), conv(32), conv(64), conv(128), conv(256), layers.Flatten()], name="encoder"
        )  # 64 -> 31 -> 14 -> 6 -> 2 pixels a side
        self.mu = layers.Dense(latent_size, dtype="float32", **kernel())
        self.logvar = layers.Dense(latent_size, dtype="float32", **kernel())
        self.decoder = keras.Sequential(
            [
                layers.Dense(1024, **kernel()),  # linear, as in the paper
                layers.Reshape((1, 1, 1024)),
                PixelDeconv(128, 5, activation="relu", **kernel()),
                Conv2DTranspose(64, 5, activation="relu", **kernel()),
                Conv2DTranspose(32, 6, activation="relu", **kernel()),
                Conv2DTranspose(3, 6, **kernel()),  # the sigmoid follows in float32
            ],
            name="decoder",
        )  # 1 -> 5 -> 13 -> 30 -> 64 pixels a side
        self(ops.zeros((1, *FRAME)))  # makes the weights

    def begin_with_colour_of(self, frames: np.ndarray) -> None:
        """Have an untrained decoder draw the mean colour of frames (B, 64, 64, 3) uint8.

        Grey, with which it begins otherwise, is so far from a bright background that the first steps drive the sigmoid
        into its flat end, where what is small and dark is never learnt: Pendulum's frames were still white after 1,300 steps.
        """
        share = np.clip(frames.mean(axis=(0, 1, 2)) / 255, 0.01, 0.99)
        self.decoder.layers[-1].bias.assign(np.log(share / (1 - share)))

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """mu and logvar, each (B, Z) float32, of frames (B, 64, 64, 3), uint8 or float in [0, 1]."""
        first, *others = self.encoder.layers
        features = convolve_bytes(first, frames) if is_bytes(frames) else first(frames)
        for layer in others:
            features = layer(features)  # (B, 1024) in the end
        return self.mu(features), self.logvar(features)

    def see(self, frames: Tensor, normal: Tensor) -> Tensor:
        """z (B, Z) as C and M are given it, drawn with standard normal numbers (B, Z), of frames as above."""
        return draw(*self.encode(frames), normal)

    def decode(self, z: Tensor) -> Tensor:
        """Frames (B, 64, 64, 3) float32 in [0, 1] of latents z (B, Z)."""
        return ops.sigmoid(ops.cast(self.decoder(z), "float32"))

    def picture(self, z: Tensor) -> Tensor:
        """The same as uint8."""
        return ops.cast(ops.round(self.decode(z) * 255), "uint8")

    def pictures(self, z: np.ndarray) -> np.ndarray:
        """The same of any number of latents, as an array."""
        return np.concatenate([self.picture(z[i : i + DECODED_AT_ONCE]) for i in range(0, len(z), DECODED_AT_ONCE)])

    def call(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(frames)
        normal = keras.random.normal(ops.shape(mu), dtype="float32", seed=self.noise)
        return self.decode(draw(mu, logvar, normal)), mu, logvar

    def losses(self, frames: Tensor) -> dict[str, Tensor]:
        """Squared error summed over a frame + max(KL, kl_floor · Z), the mean over the batch, in float32; and its parts.

        The floor ('free bits' for the whole vector, as in the original) is taken of each frame's own KL.
        """
        # As of a batch of any size: of one that TensorFlow knows, it rounds the gradients in another way.
        frames = tf.compat.v1.placeholder_with_default(frames, (None, *FRAME))
        reconstruction, mu, logvar = self(frames)
        squared_error = ops.sum(ops.square(to_unit(frames) - reconstruction), axis=(1, 2, 3))  # (B,)
        kl = ops.sum(kl_divergence(mu, logvar), axis=1)  # (B,)
        loss = ops.mean(squared_error + ops.maximum(kl, self.kl_floor * self.latent_size))
        return {"loss": loss, "squared_error": ops.mean(squared_error), "kl": ops.mean(kl)}


def draw(mu: Tensor, logvar: Tensor, normal: Tensor) -> Tensor:
    """z from N(mu, exp(logvar)), given standard normal numbers; arrays or tensors of one shape, (..., Z)."""
    exp = np.exp if isinstance(mu, np.ndarray) else ops.exp
    return mu + exp(logvar / 2) * normal


def is_bytes(frames: Tensor) -> bool:
    """Whether frames are uint8, from 0 to 255."""
    return bool(keras.backend.standardize_dtype(frames.dtype) == "uint8")


def to_unit(frames: Tensor) -> Tensor:
    """Frames as float32 in [0, 1]: uint8 is divided by 255, floats are taken as they are."""
    if is_bytes(frames):
        return ops.cast(frames, "float32") * (1 / 255)
    return ops.cast(frames, "float32")


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL of N(mu, exp(logvar)) from N(0, 1) for each latent dimension, in nats: (B, Z) to (B, Z)."""
    return -0.5 * (1 + logvar - ops.square(mu) - ops.exp(logvar))


def load_weights(model: VAE, path: Path, damaged: str | None = None) -> None:
    """Load a file of weights into V. Raises Problem if it is missing, damaged or of another network.

    damaged: what to do then, if not to delete it and train again.
    """
    fault = f"is damaged or does not hold a V of these settings, vae.z={model.latent_size}"
    arrays.load_weights(model, path, "python -m vae", fault, damaged)


def load_vae(run: Run, settings: Experiment, damaged: str | None = None) -> VAE:
    """The trained V of a run; Problem as above."""
    model = VAE(settings.vae.z, settings.vae.kl_floor, settings.vae.seed)
    load_weights(model, run.vae_weights, damaged)
    return model
