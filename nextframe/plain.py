"""A plain stack of convolutions at one resolution, without skips or residuals: what the encoder-decoder is compared with."""

from experiment.backend import keras, ops
from experiment.schema import Model
from nextframe.blocks import action_code, change_head, convolution, film, to_patches


def build(frames: keras.KerasTensor, actions: keras.KerasTensor, options: Model) -> keras.KerasTensor:
    """As nextframe.unet.build; 4 · blocks convolutions, each told the actions."""
    code = action_code(actions)
    x = to_patches(frames, options.patch)
    for _ in range(4 * options.blocks):
        x = ops.relu(film(convolution(options.channels)(x), code))
    return change_head(x, options.patch, frames.shape[-1])
