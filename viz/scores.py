"""How far a predicted frame is from the true one. Frames of any size of at least 11 pixels, grey or RGB."""

from typing import Any, NamedTuple

import numpy as np

from experiment.backend import graph, tf
from viz.frames import to_unit

ROUNDING = 1 / 12 / 255**2
"""The mean squared error that rounding to 8 bits costs. No frame's PSNR counts as better than this: 58.9 dB."""
WINDOW, SIGMA = 11, 1.5
"""SSIM's Gaussian window: pixels a side, and standard deviation (Wang et al. 2004, doi:10.1109/TIP.2003.819861)."""


class Scores(NamedTuple):
    """Of each frame; the shapes are the frames' without the last three axes, float32."""

    mse: np.ndarray  # squared difference of values in [0, 1], the mean over pixels and channels
    psnr: np.ndarray
    """10 log10(1 / mse) in dB, of mse no less than ROUNDING (a copy may be exact, and infinity has no mean)."""
    ssim: np.ndarray
    """Structural similarity for values in [0, 1]: K1 0.01, K2 0.03, an 11 x 11 Gaussian window with sigma 1.5, at all
    places where it lies whole in the picture; the mean over places and channels. 1 is the same picture."""


def score(predicted: np.ndarray, truth: np.ndarray) -> Scores:
    """Score frames (..., h, w, c) against others that broadcast to that shape; uint8, or float in [0, 1]."""
    predicted, truth = to_unit(predicted), to_unit(truth)
    truth = np.broadcast_to(truth, predicted.shape)
    shape, picture = predicted.shape[:-3], predicted.shape[-3:]
    mse = np.square(predicted - truth).mean(axis=(-3, -2, -1))
    psnr = -10 * np.log10(np.maximum(mse, ROUNDING))
    ssim = similarity(predicted.reshape(-1, *picture), truth.reshape(-1, *picture)).numpy().reshape(shape)
    return Scores(mse, psnr, ssim)


@graph(reduce_retracing=True)
def similarity(left: Any, right: Any) -> Any:
    """SSIM of pictures (N, h, w, c) float32 in [0, 1]: (N,)."""
    return tf.image.ssim(left, right, 1.0, filter_size=WINDOW, filter_sigma=SIGMA, k1=0.01, k2=0.03)
