"""The mixture of Gaussians that M predicts: splitting, likelihood, sampling. Pure functions on tensors.

One mixture of K Gaussians for every latent dimension (not one for the whole vector). Everywhere in this
project the layout is (..., K, Z): Z is the fast axis, so that sums over K are vectorised over Z.
"""

import math
from typing import Any, NamedTuple

from experiment.backend import ops

Tensor = Any


class Mixture(NamedTuple):
    """log_mix, mean, log_std, each (..., K, Z); exp(log_mix) sums to 1 over K."""

    log_mix: Tensor
    mean: Tensor
    log_std: Tensor


def split_mixture(outputs: Tensor, mixtures: int, normalised: bool = True) -> Mixture:
    """M's raw outputs (N, 3·K·Z), ordered (3, K, Z), as a Mixture with parts (N, K, Z).

    normalised: False leaves log_mix short of a constant over K, which `sample` does not mind.
    """
    outputs = ops.reshape(outputs, (-1, 3, mixtures, outputs.shape[-1] // (3 * mixtures)))  # (N, 3, K, Z)
    logits, mean, log_std = outputs[:, 0], outputs[:, 1], outputs[:, 2]  # each (N, K, Z)
    log_mix = logits - ops.logsumexp(logits, axis=1, keepdims=True) if normalised else logits
    return Mixture(log_mix, mean, log_std)


def log_likelihood(mixture: Mixture, z: Tensor) -> Tensor:
    """log p(z) of each latent dimension, in nats (paper, appendix A.2; Bishop 1994).

    mixture: parts (N, K, Z). z: (N, Z). Returns (N, Z).
    """
    standard = (z[:, None, :] - mixture.mean) * ops.exp(-mixture.log_std)  # (N, K, Z)
    log_normal = -0.5 * ops.square(standard) - mixture.log_std - 0.5 * math.log(2 * math.pi)
    return ops.logsumexp(mixture.log_mix + log_normal, axis=1)


def at_temperature(mixture: Mixture, temperature: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What z is drawn from at a temperature, (N, K, Z) each: weights, which sum to 1 over K, means, standard deviations."""
    weight = ops.softmax(mixture.log_mix / temperature, axis=1)
    return weight, mixture.mean, ops.exp(mixture.log_std) * temperature**0.5


def spread(weight: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The standard deviation of each whole mixture, (N, Z), of Gaussians (N, K, Z), whose weights sum to 1 over K."""
    middle = ops.sum(weight * mean, axis=1, keepdims=True)  # (N, 1, Z)
    return ops.sqrt(ops.sum(weight * (ops.square(std) + ops.square(mean - middle)), axis=1))


def sample(mixture: Mixture, temperature: Any, uniform: Tensor, normal: Tensor, xp: Any = ops) -> Tensor:
    """Draw z from the mixture at a temperature (paper, section 2.2), from random numbers that are given.

    The component is chosen by inverting the cumulative weights of log_mix / temperature, so that one
    uniform number a latent dimension is enough; its noise is scaled by the square root of the temperature.

    mixture: parts (N, K, Z), log_mix normalised or not. temperature: > 0. uniform in [0, 1) and standard normal: (N, Z) each.
    xp: the module that computes, numpy for arrays. Returns z, (N, Z).
    """
    peak = xp.max(mixture.log_mix, axis=1, keepdims=True)
    cumulative = xp.cumsum(xp.exp((mixture.log_mix - peak) / temperature), axis=1)  # (N, K, Z)
    threshold = uniform * cumulative[:, -1]  # (N, Z)
    mean, log_std = mixture.mean[:, 0], mixture.log_std[:, 0]
    for k in range(1, mixture.mean.shape[1]):
        passed = cumulative[:, k - 1] <= threshold
        mean = xp.where(passed, mixture.mean[:, k], mean)
        log_std = xp.where(passed, mixture.log_std[:, k], log_std)
    return mean + xp.exp(log_std) * normal * temperature**0.5
