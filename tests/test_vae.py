"""V: its size, its loss, and the layers that are computed in another way than Keras does."""

import keras
import numpy as np
import pytest

from vae.model import VAE, PixelDeconv


@pytest.mark.parametrize(("latent_size", "parameters"), [(64, 4_446_915), (32, 4_348_547)])
def test_has_the_published_number_of_parameters(latent_size, parameters):
    assert VAE(latent_size).count_params() == parameters


def test_loss_is_the_papers_with_the_floor_under_each_frames_kl():
    rng = np.random.default_rng(0)
    vae = VAE(4, kl_floor=0.5)
    frames = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    reconstruction = rng.random((3, 64, 64, 3), dtype=np.float32)
    mu = np.array(
        [[0, 0, 0, 0], [3, 0, 0, 0], [0.1, 0, 0, 0]], np.float32
    )  # KL 0, 4.5, 0.005: two below the floor of 2
    logvar = np.zeros((3, 4), np.float32)
    squared_error = np.square(frames / 255.0 - reconstruction).sum(axis=(1, 2, 3))
    expected = (squared_error + [2, 4.5, 2]).mean()
    loss = vae.compute_loss(keras.ops.convert_to_tensor(frames), None, (reconstruction, mu, logvar))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_pixel_deconv_equals_keras_transposed_convolution():
    x = np.random.default_rng(0).normal(size=(2, 1, 1, 16)).astype(np.float32)
    fast, plain = (
        PixelDeconv(8, 5, strides=2, activation="relu"),
        keras.layers.Conv2DTranspose(8, 5, strides=2, activation="relu"),
    )
    fast.build(x.shape)
    plain.build(x.shape)
    plain.set_weights([fast.kernel, np.arange(-4, 4)])
    fast.bias.assign(plain.bias)
    np.testing.assert_allclose(fast(x), plain(x), atol=1e-5)
