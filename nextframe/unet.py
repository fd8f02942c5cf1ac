"""The default architecture: an encoder-decoder with one level of half resolution and a skip connection."""

from experiment.backend import keras, layers
from experiment.schema import Model
from nextframe.blocks import action_code, change_head, convolution, from_patches, residual, to_patches


def build(frames: keras.KerasTensor, actions: keras.KerasTensor, options: Model) -> keras.KerasTensor:
    """From frames (B, K, H, W, C) in [0, 1] and actions (B, K, A) to the change of the last frame, (B, H, W, C).

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
    x = from_patches(layers.Dense(4 * options.channels)(x), 2)[:, : fine.shape[1], : fine.shape[2]]
    x = x + fine
    for _ in range(options.blocks):
        x = residual(x, code)
    return change_head(x, options.patch, frames.shape[-1])
