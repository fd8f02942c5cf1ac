"""Prediction error against horizon, of every window, and its mean with a band.

Horizon k is the k-th frame after a window's context, k = 1 to openloop.horizon. The recorded actions are given. The
curves (each of MSE, PSNR and SSIM; see viz/scores.py):

    open_loop       the model is fed its own prediction. Where it is random: the mean of the scores of its D predictions,
                    which is what to expect of one
    best_of_n       of a window's D predictions the one with the least MSE, the mean over its horizons; all of its scores
    mean_frame      the mean of the D predictions, pixel by pixel, scored as one frame
    teacher_forced  the model is fed the recorded frames up to k - 1; as open_loop otherwise, and the same at horizon 1
    copy            the last frame of the context, whatever k
    floor           what the model's decoder makes of the true frame: no prediction through it can be expected to be
                    better. Only where the model has a decoder of this kind (V of V+M, from mu)

best_of_n and mean_frame exist where D > 1. A mean at horizon k is of the windows that last to k; so windows drop out of
it where episodes end. All curves are of the same windows, so they can be compared at each k.

Bands: percentiles of the means of openloop.resamples bootstrap samples, central openloop.confidence of them. A sample
draws as many episodes as there are, with replacement, and takes all windows of each, since windows of an episode are
not independent. They say how the mean would vary with other episodes of this kind, not how windows spread.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from experiment.problem import Problem
from experiment.progress import Progress
from experiment.schema import Openloop
from extract.rollouts import Rollouts
from openloop.predictor import Predictor
from openloop.windows import Recorded, Window, read_windows
from viz.scores import Scores, score


class Mean(NamedTuple):
    """A curve and its band, (H,) each; NaN where there is no window."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


Means = Mapping[str, Mapping[str, Mean]]  # metric -> curve -> mean and band


@dataclass(frozen=True)
class Evaluation:
    """The curves of all windows, parts (W, H); NaN beyond a window's end."""

    curves: Mapping[str, Scores]
    windows: Sequence[Window]
    settings: Openloop

    @cached_property
    def lasting(self) -> np.ndarray:
        """How many windows last to each horizon, (H,) int."""
        return np.isfinite(self.curves["copy"].mse).sum(axis=0)

    @cached_property
    def means(self) -> Means:
        """The mean of every curve, with its band."""
        return {
            metric: {name: self.mean(getattr(scores, metric)) for name, scores in self.curves.items()}
            for metric in Scores._fields
        }

    def mean(self, values: np.ndarray) -> Mean:
        """The mean of the windows' values (W, H), NaN where a window is over, with its band; see above."""
        there, episodes = np.isfinite(values), np.array([window.episode for window in self.windows])
        drawn = episodes == np.unique(episodes)[:, None]  # (E, W)
        totals, counts = drawn @ np.where(there, values, 0.0), drawn @ there.astype(float)  # (E, H)
        number, random = len(drawn), np.random.default_rng(self.settings.seed)
        times = random.multinomial(number, np.full(number, 1 / number), self.settings.resamples)  # (R, E)
        with np.errstate(invalid="ignore"):
            mean = totals.sum(axis=0) / counts.sum(axis=0)
            means = (times @ totals) / (times @ counts)  # (R, H)
        confidence, some = self.settings.confidence, counts.any(axis=0)
        low, high = np.full((2, values.shape[1]), np.nan)
        edges = 50 * (1 - confidence), 50 * (1 + confidence)
        low[some], high[some] = np.nanpercentile(means[:, some], edges, axis=0)
        return Mean(mean, low, high)


def predict(
    predictor: Predictor, recorded: Recorded, context: int
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Go through B windows side by side, horizon by horizon; beyond a window's end there is nothing of interest.

    Yields the true frames, (B, 1, h, w, c) uint8, and what each curve has in their place, in the order of record.NAMES:
    (B, D, h, w, c), or (B, 1, h, w, c) where it is one frame for each window; uint8, or float32 in [0, 1].
    """
    begun = predictor.begin(recorded.frames[:, :context], recorded.actions[:, : context - 1], recorded.numbers)
    dreaming, watching = begun, begun
    for t in range(context, recorded.frames.shape[1]):
        actions, truth = recorded.actions[:, t - 1], recorded.frames[:, t]
        open_loop, dreaming = predictor.imagine(dreaming, actions)
        shown = {"open_loop": open_loop}
        if predictor.draws > 1:
            shown["mean_frame"] = open_loop.mean(axis=1, keepdims=True)
        shown["teacher_forced"], _ = predictor.imagine(watching, actions)
        shown["copy"] = recorded.frames[:, context - 1 : context]
        if (floor := predictor.reconstruct(truth)) is not None:
            shown["floor"] = floor[:, None]
        yield truth[:, None], shown
        watching = predictor.observe(watching, actions, truth)


def score_batch(predictor: Predictor, recorded: Recorded, context: int) -> dict[str, Scores]:
    """The curves of B windows, parts (B, S); NaN beyond a window's end.

    Raises Problem if a prediction before it is not a number: it would count as a window that is over.
    """
    steps: dict[str, list[Scores]] = {}
    for truth, shown in predict(predictor, recorded, context):
        for name, frames in shown.items():
            steps.setdefault(name, []).append(score(frames, truth))
    over = np.arange(recorded.steps.max()) >= recorded.steps[:, None]  # (B, S)
    curves = {}
    for name, scores in steps.items():
        draws = np.where(over[:, None], np.nan, np.stack(scores, axis=-1))  # (metrics, B, D or 1, S)
        if (np.isfinite(draws) == over[:, None]).any():
            raise Problem(
                f"{predictor.title}: a prediction is not a number ({name}), so the weights are spoilt: train it again"
            )
        curves[name] = Scores(*draws.mean(axis=2))
        if name == "open_loop" and predictor.draws > 1:
            best = np.nanmean(Scores(*draws).mse, axis=2).argmin(axis=1)  # (B,)
            curves["best_of_n"] = Scores(*draws[:, np.arange(len(best)), best])
    return curves


def evaluate(
    predictor: Predictor, rollouts: Rollouts, actions: np.ndarray, windows: Sequence[Window], settings: Openloop
) -> Evaluation:
    """Predict in all windows. actions: of all frames of the rollouts, as in Rollouts.sequences."""
    shape = len(Scores._fields), len(windows), settings.horizon
    curves: dict[str, np.ndarray] = {}
    with Progress("predicting", len(windows), "windows") as bar:
        for first in range(0, len(windows), settings.batch):
            some = windows[first : first + settings.batch]
            batch = read_windows(rollouts, actions, some, settings.context)
            for name, scores in score_batch(predictor, batch, settings.context).items():
                whole = curves.setdefault(name, np.full(shape, np.nan, np.float32))
                whole[:, first : first + len(some), : scores.mse.shape[1]] = scores
            bar.update(len(some))
    return Evaluation({name: Scores(*whole) for name, whole in curves.items()}, windows, settings)


def pick_windows(evaluation: Evaluation) -> dict[str, int]:
    """The best, median and worst window, by open-loop MSE (the mean over horizons), of those that last longest."""
    steps = np.array([window.steps for window in evaluation.windows])
    whole = np.flatnonzero(steps == steps.max())
    order = whole[np.argsort(np.nanmean(evaluation.curves["open_loop"].mse[whole], axis=1), kind="stable")]
    return {"best": int(order[0]), "median": int(order[(len(order) - 1) // 2]), "worst": int(order[-1])}
