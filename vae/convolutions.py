"""V's convolutions, all with strides of 2: Keras's, computed faster, and with the right gradient of the bias.

On two cores with AMX the first transposed convolution as a matrix product halves V's training step. The kernels' gradients of
small images, as convolutions, and the last transposed convolution by blocks take a seventh off the rest (docs/speed.md).

Keras adds a bias by an operation whose gradient TensorFlow sums in bfloat16, where after some hundreds of numbers nothing is
added any more: of the last layer's sums, over 400,000 numbers a batch, 6 % were left. That of `+` is summed in float32.

Classes are named like Keras's, because files of weights name a layer by its class.
"""

from typing import Any

from experiment.backend import layers, ops, tf

Tensor = Any
SMALL = 14  # pixels a side, up to which the kernel's gradient is faster as a convolution
FEW = 8  # filters, up to which a transposed convolution is faster by blocks


class Conv2D(layers.Conv2D):
    """keras.layers.Conv2D with strides of 2, from images (B, n, n, C) to (B, m, m, filters), m = (n - size) // 2 + 1."""

    def __init__(self, filters: int, size: int, **options: Any):
        super().__init__(filters, size, strides=2, **options)

    def call(self, inputs: Tensor) -> Tensor:
        return self.activation(self.convolution_op(inputs, self.kernel) + self.bias)

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """What comes of images, without the bias."""
        if inputs.shape[1] > SMALL:
            return super().convolution_op(inputs, kernel)
        return halve(inputs, tf.cast(tf.identity(kernel), inputs.dtype))


class Conv2DTranspose(layers.Conv2DTranspose):
    """keras.layers.Conv2DTranspose with strides of 2, from images (B, n, n, C) to (B, m, m, filters), m = 2n - 2 + size."""

    def __init__(self, filters: int, size: int, **options: Any):
        super().__init__(filters, size, strides=2, **options)

    def call(self, inputs: Tensor) -> Tensor:
        return self.activation(self.by_blocks(inputs) if self.filters <= FEW else self.spread(inputs) + self.bias)

    def spread(self, images: Tensor) -> Tensor:
        """What comes of images, without the bias."""
        if images.shape[1] > SMALL // 2:
            return ops.conv_transpose(images, self.kernel, strides=2)
        return double(images, tf.cast(tf.identity(self.kernel), images.dtype))

    def by_blocks(self, images: Tensor) -> Tensor:
        """What comes of images, with the bias, for an even size: a convolution makes blocks of 2 x 2 pixels at once.

        Pixel 2n + a of a row, or column, is the sum over i of image pixel n - i times number 2i + a of the kernel.
        """
        size = self.kernel_size[0] // 2  # in blocks
        kernel = ops.reshape(self.kernel, (size, 2, size, 2, self.filters, -1))[::-1, :, ::-1]
        kernel = ops.reshape(ops.transpose(kernel, (0, 2, 5, 1, 3, 4)), (size, size, -1, 4 * self.filters))
        # Padded beforehand: the gradient of a convolution that pads its images itself takes seventy times as long.
        around = [size - 1, size - 1]
        blocks = ops.conv(ops.pad(images, [[0, 0], around, around, [0, 0]]), kernel) + ops.tile(self.bias, 4)
        return tf.nn.depth_to_space(blocks, 2)


class PixelDeconv(Conv2DTranspose):
    """The same for images of one pixel, computed as what it is: a single matrix product."""

    def spread(self, images: Tensor) -> Tensor:
        return ops.einsum("bc,hwfc->bhwf", ops.squeeze(images, axis=(1, 2)), self.kernel)


@tf.custom_gradient
def halve(images: Tensor, kernel: Tensor) -> Any:
    """A convolution with strides of 2, whose kernel's gradient is computed as another convolution.

    kernel: no variable, which tf.custom_gradient does not take.
    """

    def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
        by_images = tf.nn.conv2d_transpose(upstream, kernel, tf.shape(images), 2, "VALID")
        return by_images, kernel_gradient(images, upstream, kernel.shape[0])

    return tf.nn.conv2d(images, kernel, 2, "VALID"), gradient


@tf.custom_gradient
def double(images: Tensor, kernel: Tensor) -> Any:
    """The same for a transposed convolution."""
    side = 2 * images.shape[1] - 2 + kernel.shape[0]

    def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
        by_images = tf.nn.conv2d(upstream, kernel, 2, "VALID")
        return by_images, kernel_gradient(upstream, images, kernel.shape[0])

    shape = tf.shape(images)[0], side, side, kernel.shape[2]
    return tf.nn.conv2d_transpose(images, kernel, shape, 2, "VALID"), gradient


def kernel_gradient(fine: Tensor, coarse: Tensor, size: int) -> Tensor:
    """The gradient of the kernel (size, size, C, F) between images (B, n, n, C) and (B, m, m, F), one of them an upstream one.

    It is a convolution in which the batch takes the place of the channels. TensorFlow's own takes two to eight times as
    long for small images in bfloat16 with AMX.
    """
    seen = 2 * coarse.shape[1] - 2 + size  # of each row and column
    fine, coarse = tf.transpose(fine[:, :seen, :seen], (3, 1, 2, 0)), tf.transpose(coarse, (1, 2, 0, 3))
    return tf.transpose(tf.nn.conv2d(fine, coarse, 1, "VALID", dilations=2), (1, 2, 0, 3))


def convolve_bytes(layer: Conv2D, frames: Tensor) -> Tensor:
    """What a convolution makes of uint8 frames divided by 255.

    Divided is the kernel, 1,536 numbers, and not each frame: an eighth more frames are encoded in a second.
    """
    kernel, bias = (ops.cast(part, layer.compute_dtype) for part in (layer.kernel / 255, layer.bias))
    frames = ops.cast(frames, layer.compute_dtype)  # bfloat16 holds bytes as they are
    return layer.activation(layer.convolution_op(frames, kernel) + bias)
