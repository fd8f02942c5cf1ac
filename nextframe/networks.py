"""The architectures, by the name that model.name gives them, and what they are made of.

Inside, a picture is (B, h, w, channels): channels last is what CPUs are fast at. Convolutions work on patches of p x p
pixels instead of pixels: (B, H / p, W / p, ...), so that they are few and wide, which is what matrix units (AMX, tensor
cores) and caches want. Shape and size of a batch are named as in the docstring of NextFrame.
"""

from typing import Any

from experiment.backend import keras, layers, ops
from experiment.schema import Model

Tensor = Any


def unet(frames: Tensor, actions: Tensor, options: Model) -> Tensor:
    """An encoder-decoder with one level of half resolution and a skip connection.

    From frames (B, K, H, W, C) in [0, 1] and actions (B, K, A) to the change of the last frame, (B, H, W, C).
    84 x 84 pixels are 21 x 21 patches of 4 x 4, then 11 x 11 places of twice the channels, where a block sees most of
    the picture, then 21 x 21 again. Every block is told the actions.
    """
    code = action_code(actions)
    x = convolution(options.channels)(to_patches(frames, options.patch))
    for _ in range(options.blocks):
        x = residual(x, code)
    fine = x
    x = convolution(2 * options.channels, strides=2)(fine)
    for _ in range(2 * options.blocks):
        x = residual(x, code)
    x = from_patches(Dense(4 * options.channels)(x), 2)[:, : fine.shape[1], : fine.shape[2]]
    x = x + fine
    for _ in range(options.blocks):
        x = residual(x, code)
    return change_head(x, options.patch, frames.shape[-1])


def plain(frames: Tensor, actions: Tensor, options: Model) -> Tensor:
    """What the U-Net is compared with: 4 · blocks convolutions at one resolution, without skips or residuals."""
    code = action_code(actions)
    x = to_patches(frames, options.patch)
    for _ in range(4 * options.blocks):
        x = ops.relu(film(convolution(options.channels)(x), code))
    return change_head(x, options.patch, frames.shape[-1])


ARCHITECTURES = {"unet": unet, "plain": plain}
"""Another is a function here, and a name in experiment.schema.Architecture."""


def to_patches(frames: Tensor, patch: int) -> Tensor:
    """K frames (B, K, H, W, C) as one picture of patches, (B, H / p, W / p, p·p·K·C), in the precision of products."""
    _, k, height, width, channels = frames.shape
    frames = ops.cast(frames, keras.config.dtype_policy().compute_dtype)
    x = ops.reshape(frames, (-1, k, height // patch, patch, width // patch, patch, channels))
    x = ops.transpose(x, (0, 2, 4, 3, 5, 1, 6))  # (B, H / p, W / p, p, p, K, C)
    return ops.reshape(x, (-1, height // patch, width // patch, patch * patch * k * channels))


def from_patches(x: Tensor, patch: int) -> Tensor:
    """The other way for one picture: (B, h, w, p·p·C) to (B, h·p, w·p, C)."""
    _, height, width, depth = x.shape
    channels = depth // patch**2
    x = ops.reshape(x, (-1, height, width, patch, patch, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (B, h, p, w, p, C)
    return ops.reshape(x, (-1, height * patch, width * patch, channels))


def convolution(channels: int, **options: Any) -> layers.Layer:
    """A 3 x 3 convolution that keeps the picture's size, unless strides say otherwise."""
    return layers.Conv2D(channels, 3, padding="same", kernel_initializer="he_normal", **options)


class Dense(layers.Dense):
    """keras.layers.Dense, but for the bias's gradient, which is summed in float32; vae/convolutions.py says why."""

    def call(self, inputs: Tensor) -> Tensor:
        return self.activation(ops.matmul(inputs, self.kernel) + self.bias)


def action_code(actions: Tensor) -> Tensor:
    """The K actions of a window (B, K, A) as one vector (B, 64) that all blocks are told."""
    return Dense(64, activation="relu")(layers.Flatten()(actions))


def film(x: Tensor, code: Tensor) -> Tensor:
    """Scale and shift every channel as the actions say (FiLM, Perez et al. 2018): (1 + gamma) x + beta."""
    channels = x.shape[-1]
    gamma, beta = ops.split(Dense(2 * channels)(code), 2, axis=-1)  # (B, channels) each
    return x * (1 + ops.expand_dims(gamma, (1, 2))) + ops.expand_dims(beta, (1, 2))


def residual(x: Tensor, code: Tensor) -> Tensor:
    """A residual block, told the actions in its middle: x + conv(relu(film(conv(x))))."""
    channels = x.shape[-1]
    inner = ops.relu(film(convolution(channels)(x), code))
    return x + layers.Conv2D(channels, 3, padding="same")(inner)


def change_head(x: Tensor, patch: int, channels: int) -> Tensor:
    """The change to the last frame, (B, H, W, channels) float32; zero before any training."""
    x = layers.Conv2D(patch * patch * channels, 1, kernel_initializer="zeros", dtype="float32")(x)
    return from_patches(x, patch)
