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
from typing import NamedTuple

import numpy as np

from experiment.problem import Problem
from experiment.progress import Progress
from experiment.schema import Openloop
from extract.rollouts import Rollouts
from openloop.predictor import Predictor
from openloop.record import NAMES
from openloop.windows import Recorded, Window, read_windows
from viz.frames import to_unit
from viz.scores import Scores, score


class Compared(NamedTuple):
    """All frames at one horizon, of B windows."""

    truth: np.ndarray  # (B, h, w, c) uint8
    open_loop: np.ndarray  # (B, D, h, w, c) float32 in [0, 1]
    teacher_forced: np.ndarray  # likewise
    copy: np.ndarray  # (B, h, w, c) uint8
    floor: np.ndarray | None  # (B, h, w, c) float32 in [0, 1]


class Mean(NamedTuple):
    """A curve and its band, (H,) each; NaN where there is no window."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def predict(predictor: Predictor, recorded: Recorded, context: int) -> Iterator[Compared]:
    """Go through windows side by side, horizon by horizon; beyond a window's end there is nothing of interest."""
    begun = predictor.begin(recorded.frames[:, :context], recorded.actions[:, : context - 1], recorded.numbers)
    dreaming, watching = begun, begun
    for t in range(context, recorded.frames.shape[1]):
        actions, truth = recorded.actions[:, t - 1], recorded.frames[:, t]
        open_loop, dreaming = predictor.imagine(dreaming, actions)
        teacher_forced, _ = predictor.imagine(watching, actions)
        watching = predictor.observe(watching, actions, truth)
        yield Compared(truth, open_loop, teacher_forced, recorded.frames[:, context - 1], predictor.reconstruct(truth))


def score_batch(predictor: Predictor, recorded: Recorded, context: int) -> dict[str, Scores]:
    """The curves of B windows, parts (B, S); NaN beyond a window's end.

    Raises Problem if a prediction before it is not a number: it would count as a window that is over.
    """
    kinds: dict[str, list[Scores]] = {}
    for step in predict(predictor, recorded, context):
        shown = {
            "open_loop": step.open_loop,
            "teacher_forced": step.teacher_forced,
            "copy": step.copy[:, None],
            **({"floor": step.floor[:, None]} if step.floor is not None else {}),
            **({"mean_frame": to_unit(step.open_loop).mean(axis=1, keepdims=True)} if predictor.draws > 1 else {}),
        }
        for name, frames in shown.items():
            kinds.setdefault(name, []).append(score(frames, step.truth[:, None]))
    over = np.arange(recorded.steps.max()) >= recorded.steps[:, None]  # (B, S)
    draws = {
        name: Scores(*(np.where(over[:, None], np.nan, np.stack(part, axis=2)) for part in zip(*scores, strict=True)))
        for name, scores in kinds.items()
    }  # parts (B, D, S), D is 1 where there is one prediction
    for name, scores in draws.items():
        if any((np.isfinite(part) == over[:, None]).any() for part in scores):
            raise Problem(
                f"{predictor.title}: a prediction is not a number ({name}), so the weights are spoilt: train it again"
            )
    curves = {name: Scores(*(part.mean(axis=1) for part in scores)) for name, scores in draws.items()}
    if predictor.draws > 1:
        best = np.nanmean(draws["open_loop"].mse, axis=2).argmin(axis=1)  # (B,)
        curves["best_of_n"] = Scores(*(part[np.arange(len(best)), best] for part in draws["open_loop"]))
    return {name: curves[name] for name in NAMES if name in curves}


def evaluate(
    predictor: Predictor, rollouts: Rollouts, actions: np.ndarray, windows: Sequence[Window], settings: Openloop
) -> dict[str, Scores]:
    """The curves of all windows, parts (W, H); NaN beyond a window's end."""
    shape = len(windows), settings.horizon
    curves: dict[str, Scores] = {}
    with Progress("predicting", len(windows), "windows") as bar:
        for first in range(0, len(windows), settings.batch):
            some = windows[first : first + settings.batch]
            batch = read_windows(rollouts, actions, some, settings.context)
            for name, scores in score_batch(predictor, batch, settings.context).items():
                whole = curves.setdefault(name, Scores(*(np.full(shape, np.nan, np.float32) for _ in scores)))
                for part, values in zip(whole, scores, strict=True):
                    part[first : first + len(some), : values.shape[1]] = values
            bar.update(len(some))
    return curves


def survivors(windows: Sequence[Window], horizon: int) -> np.ndarray:
    """How many windows last to each horizon, (H,) int."""
    return (np.array([window.steps for window in windows])[:, None] > np.arange(horizon)).sum(axis=0)


def mean_with_band(values: np.ndarray, episodes: np.ndarray, settings: Openloop) -> Mean:
    """The mean of windows' values (W, H), NaN where a window is over, with its band; see above.

    episodes: (W,), which episode each window is of.
    """
    there = np.isfinite(values)
    drawn = episodes == np.unique(episodes)[:, None]  # (E, W)
    totals, counts = drawn @ np.where(there, values, 0.0), drawn @ there.astype(float)  # (E, H)
    number = len(drawn)
    times = np.random.default_rng(settings.seed).multinomial(number, np.full(number, 1 / number), settings.resamples)
    with np.errstate(invalid="ignore"):
        mean = totals.sum(axis=0) / counts.sum(axis=0)
        means = (times @ totals) / (times @ counts)  # (R, H)
    edges = 50 * (1 - settings.confidence), 50 * (1 + settings.confidence)
    low, high = np.full((2, values.shape[1]), np.nan)
    some = counts.any(axis=0)
    low[some], high[some] = np.nanpercentile(means[:, some], edges, axis=0)
    return Mean(mean, low, high)


def pick_windows(curves: Mapping[str, Scores], windows: Sequence[Window]) -> dict[str, int]:
    """The best, median and worst window, by open-loop MSE (the mean over horizons), of those that last longest."""
    steps = np.array([window.steps for window in windows])
    whole = np.flatnonzero(steps == steps.max())
    order = whole[np.argsort(np.nanmean(curves["open_loop"].mse[whole], axis=1), kind="stable")]
    return {"best": int(order[0]), "median": int(order[(len(order) - 1) // 2]), "worst": int(order[-1])}
