"""What M expects next: its mixture for every latent dimension, whether the episode ends, and the reward."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from controller.agent import Recording
from gallery.exhibit import Exhibit
from rnn.dream import check_temperature
from rnn.mixture import at_temperature, spread
from rnn.model import ending
from viz.curves import Curves

POINTS = 400  # that a density is drawn with
SEEN = 1e-3  # probability that nothing is to be seen below
SPREADS = 4.0  # standard deviations to each side of a mixture that are drawn


class Expected(NamedTuple):
    """What M expects to follow each of T moments, after the action that is taken then."""

    weight: np.ndarray  # (T, K, Z), of each Gaussian; they sum to 1 over K
    mean: np.ndarray  # (T, K, Z)
    std: np.ndarray  # (T, K, Z)
    spread: np.ndarray  # (T, Z), the standard deviation of each whole mixture
    done: np.ndarray | None  # (T,), the probability that the episode ends; None where M does not say
    reward: np.ndarray | None  # (T,)

    def density(self, step: int, dimension: int, z: np.ndarray) -> np.ndarray:
        """The mixture's density at values z (n,) of one dimension: (n,)."""
        weight, mean, std = (part[step, :, dimension, None] for part in (self.weight, self.mean, self.std))  # (K, 1)
        return (weight * np.exp(-0.5 * np.square((z - mean) / std)) / (std * np.sqrt(2 * np.pi))).sum(axis=0)


def expect(exhibit: Exhibit, recording: Recording, temperature: float = 1.0) -> Expected:
    """What M expects at every step of a recording, and z is drawn from at a temperature (paper, section 2.2).

    Raises Problem for a temperature that cannot be, or where M has not followed the recording.
    """
    check_temperature(temperature)
    exhibit.check_memory()
    rnn = exhibit.agent.rnn
    restart = (np.arange(len(recording.z)) == 0).astype(np.float32)
    predicted = rnn.head(rnn.observe(recording.z, recording.raw, restart, recording.h, recording.c)[0])
    weight, mean, std = map(np.asarray, at_temperature(predicted.mixture, temperature))
    logit, done_weight = predicted.done_logit, exhibit.settings.rnn.done_weight
    return Expected(
        weight,
        mean,
        std,
        np.asarray(spread(weight, mean, std)),
        None if logit is None else np.asarray(ending(logit, done_weight)),
        None if predicted.reward is None else np.asarray(predicted.reward),
    )


def mixture_panels(expected: Expected, recording: Recording, step: int, dimensions: Sequence[int]) -> list[Curves]:
    """A panel for each dimension: M's mixture for the step after `step`, and the z that came."""
    panels = []
    for dimension in dimensions:
        weight, mean, std = (part[step, :, dimension] for part in (expected.weight, expected.mean, expected.std))
        came = recording.z[step + 1, dimension] if step + 1 < len(recording.z) else np.nan
        heavy = weight > 0.01  # the others would only widen the axis
        edges = [*(mean - SPREADS * std)[heavy], *(mean + SPREADS * std)[heavy], came]
        z = np.linspace(np.nanmin(edges), np.nanmax(edges), POINTS)
        density = expected.density(step, dimension, z)
        series = {"M's mixture": (z, density), "what came": ([came, came], [0, density.max()])}
        shares = ", ".join(f"{share:.2f}" for share in sorted(weight, reverse=True))
        label, title = f"z[{dimension}]  (weights {shares})", f"Step {step + 1}, dimension {dimension}"
        panels.append(Curves(series, label, "density", title))
    return panels


def episode_panels(
    exhibit: Exhibit, recording: Recording, expected: Expected, dimensions: Sequence[int]
) -> list[Curves]:
    """What M expected all along: how z spreads in some dimensions; the end, if ever, and the reward, if it predicts them."""
    steps = np.arange(len(recording.z))
    unit = exhibit.world.step
    spread = {f"mean of {len(dimensions)} dimensions": (steps, expected.spread[:, list(dimensions)].mean(axis=1))}
    panels = [Curves(spread, unit, "standard deviation", "How uncertain the next z is")]
    if expected.done is not None and expected.done.max() > SEEN:
        panels.append(Curves({"M": (steps, expected.done)}, unit, "probability", "That the episode ends here"))
    if expected.reward is not None:
        rewards = {"real": (steps, recording.rewards.cumsum()), "expected by M": (steps, expected.reward.cumsum())}
        panels.append(Curves(rewards, unit, "reward so far", "Rewards, summed up"))
    return panels
