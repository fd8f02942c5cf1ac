"""The mixture density against plain numpy in float64, and against what mixtures must fulfil."""

import math

import numpy as np
import pytest

from rnn.mixture import Mixture, log_likelihood, sample, split_mixture


def random_mixture(rows: int, mixtures: int, latent_size: int, seed: int = 0) -> tuple[np.ndarray, Mixture]:
    outputs = np.random.default_rng(seed).normal(size=(rows, 3 * mixtures * latent_size)).astype(np.float32)
    return outputs, split_mixture(outputs, mixtures)


def plain_log_likelihood(outputs: np.ndarray, z: np.ndarray, mixtures: int) -> np.ndarray:
    """Bishop's formula, element by element."""
    parts = outputs.astype(np.float64).reshape(len(z), 3, mixtures, z.shape[1])
    result = np.empty(z.shape)
    for n, d in np.ndindex(z.shape):
        logits, mean, log_std = parts[n, :, :, d]
        weight = np.exp(logits) / np.exp(logits).sum()
        std = np.exp(log_std)
        density = np.exp(-0.5 * ((z[n, d] - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
        result[n, d] = math.log(np.sum(weight * density))
    return result


def test_log_likelihood_is_bishops():
    outputs, mixture = random_mixture(rows=7, mixtures=5, latent_size=3)
    z = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_allclose(log_likelihood(mixture, z), plain_log_likelihood(outputs, z, 5), atol=1e-5)


def test_density_integrates_to_one():
    _, mixture = random_mixture(rows=4, mixtures=5, latent_size=2)
    grid = np.linspace(-60, 60, 24_001, dtype=np.float32)
    for row in range(4):
        one = Mixture(*(np.repeat(part[row : row + 1], len(grid), axis=0) for part in mixture))
        density = np.exp(log_likelihood(one, np.stack([grid, grid], axis=1)))  # (grid, Z)
        np.testing.assert_allclose(np.trapezoid(density, grid, axis=0), 1, atol=1e-3)


def test_likelihood_of_an_outlier_is_finite():
    _, mixture = random_mixture(rows=2, mixtures=5, latent_size=2)
    assert np.all(np.isfinite(log_likelihood(mixture, np.full((2, 2), 1e6, np.float32))))


def plain_sample(mixture: Mixture, temperature: float, uniform: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """The original's loop: the first component whose cumulative weight passes the uniform number."""
    log_mix, mean, log_std = (np.asarray(part, np.float64) for part in mixture)
    z = np.empty(uniform.shape)
    for n, d in np.ndindex(z.shape):
        weights = np.exp(log_mix[n, :, d] / temperature)
        k = int(np.searchsorted(np.cumsum(weights / weights.sum()), uniform[n, d], side="right"))
        z[n, d] = mean[n, k, d] + np.exp(log_std[n, k, d]) * math.sqrt(temperature) * normal[n, d]
    return z


@pytest.mark.parametrize("temperature", [0.1, 1.0, 1.3])
def test_sample_is_the_originals(temperature: float):
    _, mixture = random_mixture(rows=50, mixtures=5, latent_size=4)
    random = np.random.default_rng(2)
    uniform, normal = random.random((50, 4), np.float32), random.standard_normal((50, 4), np.float32)
    np.testing.assert_allclose(
        sample(mixture, temperature, uniform, normal), plain_sample(mixture, temperature, uniform, normal), atol=1e-4
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.15])
def test_sampling_statistics(temperature: float):
    """Mean and variance of 200,000 draws against the mixture's own, within five standard errors."""
    draws = 200_000
    _, one = random_mixture(rows=1, mixtures=5, latent_size=1)
    many = Mixture(*(np.repeat(part, draws, axis=0) for part in one))
    random = np.random.default_rng(3)
    z = np.asarray(
        sample(many, temperature, random.random((draws, 1), np.float32), random.standard_normal((draws, 1), np.float32))
    )
    log_mix, mean, log_std = (np.asarray(part, np.float64)[0, :, 0] for part in one)
    weights = np.exp(log_mix / temperature)
    weights /= weights.sum()
    expected = np.sum(weights * mean)
    variance = np.sum(weights * (np.exp(2 * log_std) * temperature + mean**2)) - expected**2
    assert abs(z.mean() - expected) < 5 * math.sqrt(variance / draws)
    spread = (z - expected) ** 2
    assert abs(spread.mean() - variance) < 5 * spread.std() / math.sqrt(draws)
