"""How prediction errors compound: metrics, windows, curves, bands, V+M as a predictor, the command, and stepping by hand."""

import contextlib
import csv
import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg
import numpy as np
import pytest
import yaml
from PIL import Image

from envs.worlds import WORLDS
from experiment.backend import keras, tf
from experiment.config import to_yaml
from experiment.files import read_json, write_json
from experiment.problem import Problem, UsageProblem
from experiment.run import Run
from experiment.schema import Data, Env, Experiment, Hardware, Model, Openloop, Rnn, Vae
from extract.rollouts import Episode, Rollouts, shard_path
from gallery.stepping import Steps, from_window, read_action, read_times
from openloop.__main__ import evaluate_run
from openloop.evaluation import Evaluation, Mean, evaluate, pick_windows, predict, score_batch
from openloop.predictor import open_run, trained_stages
from openloop.record import is_of, origin, seen_line, table
from openloop.report import read_means, save_comparison, without_seen
from openloop.vm import VisionMemory
from openloop.windows import Recorded, Window, choose_windows, read_windows, seen_in_training
from rnn.model import MDNRNN, told_by
from tests.commands import python
from tests.fake import save_next_frames, save_untrained, write_shard
from tests.test_viz import read_video
from viz.frames import to_rgb, to_unit
from viz.scores import Scores, score

SETTINGS = Openloop(windows=7, context=4, horizon=6, dreams=3, batch=3, resamples=50)
CERTAIN = ["open_loop", "teacher_forced", "copy"]


# Metrics


def plain_ssim(left: np.ndarray, right: np.ndarray) -> float:
    """Wang et al. 2004, place by place, of pictures (h, w, c) in [0, 1]."""
    line = np.exp(-np.square(np.arange(11) - 5) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    found = []
    for channel in range(left.shape[2]):
        for y, x in np.ndindex(left.shape[0] - 10, left.shape[1] - 10):
            a, b = (picture[y : y + 11, x : x + 11, channel] for picture in (left, right))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            both = (weights * (a - mean_a) * (b - mean_b)).sum()
            likeness = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
            found.append(likeness / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return float(np.mean(found))


@pytest.mark.parametrize("shape", [(84, 84, 1), (64, 64, 3)])
def test_scores_are_those_of_the_formulas(shape):
    random = np.random.default_rng(0)
    truth = random.integers(0, 256, (2, *shape), dtype=np.uint8)
    predicted = (truth / 255 + random.normal(size=truth.shape) * [[[[0.1]]], [[[0.5]]]]).clip(0, 1).astype("float32")
    found = score(predicted, truth)
    for i in range(2):
        left, right = predicted[i].astype("float64"), truth[i] / 255
        mse = float(((left - right) ** 2).mean())
        assert found.mse[i] == pytest.approx(mse, rel=1e-4)
        assert found.psnr[i] == pytest.approx(10 * np.log10(1 / mse), abs=1e-3)
        assert found.ssim[i] == pytest.approx(plain_ssim(left, right), abs=1e-4)
    assert found.ssim[0] > found.ssim[1] + 0.1


def test_scores_of_many_predictions_of_a_frame_and_of_bytes():
    frames = np.random.default_rng(1).integers(0, 256, (2, 3, 12, 14, 3), dtype=np.uint8)
    found = score(frames, frames[:, :1])
    assert all(part.shape == (2, 3) for part in found)
    np.testing.assert_allclose(found.mse[:, 0], 0)
    np.testing.assert_allclose(found.psnr[:, 0], 10 * np.log10(12 * 255**2), rtol=1e-5)  # 58.9 dB, not infinity
    np.testing.assert_allclose(found.ssim[:, 0], 1, atol=1e-6)
    assert (found.mse[:, 1:] > 0.1).all()
    floats = score(frames.astype("float32") / 255, frames[:, :1].astype("float32") / 255)
    for part, same in zip(found, floats, strict=True):
        np.testing.assert_allclose(part, same, rtol=1e-5)


def test_bytes_and_floats_are_the_same_frames():
    frames = np.arange(256, dtype=np.uint8).reshape(4, 4, 16, 1)
    np.testing.assert_allclose(to_unit(frames), frames.astype("float64") / 255, rtol=1e-6)
    np.testing.assert_array_equal(to_unit(to_unit(frames)), to_unit(frames))
    colour = to_rgb(frames)
    assert colour.shape == (4, 4, 16, 3) and (colour == frames).all() and colour.dtype == np.uint8
    np.testing.assert_array_equal(to_rgb(to_unit(frames)), colour)
    np.testing.assert_array_equal(to_rgb(colour), colour)
    assert to_rgb(np.array([[[-0.5], [1.5]]], np.float32))[0, :, 0].tolist() == [0, 255]


# Windows


LENGTHS = np.array([40, 12, 31, 9, 25, 60, 14, 11])


def test_windows_lie_inside_of_held_out_episodes_and_are_always_the_same():
    held_out = np.array([1, 3, 5, 6])  # 8, 5, 56 and 10 places with a context of 4
    settings = dataclasses.replace(SETTINGS, windows=26)
    windows = choose_windows(LENGTHS, held_out, settings)
    assert [window.number for window in windows] == list(range(26))
    assert len({(window.episode, window.start) for window in windows}) == 26
    counts = [sum(window.episode == episode for window in windows) for episode in held_out]
    assert sum(counts) == 26 and counts[1] == 5 and set(counts) - {5} <= {7, 8}  # the third has no room for more
    for window in windows:
        assert window.start >= 0 and 1 <= window.steps <= 6
        left = LENGTHS[window.episode] - window.start - 4
        assert window.steps == min(6, left)
    assert any(window.steps < 6 for window in windows)
    starts = [window.start for window in windows if window.episode == 5]
    assert starts == sorted(starts) and max(starts) > 40 and min(np.diff(starts)) >= 1
    assert choose_windows(LENGTHS, held_out, settings) == windows
    assert choose_windows(LENGTHS, held_out, dataclasses.replace(settings, seed=1)) != windows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"context": 55}, r"no held-out episode has 61 frames \(openloop.context=55 and openloop.horizon=6\), the longest has 60"),
        ({"horizon": 57}, r"no held-out episode has 61 frames"),
        ({"windows": 80}, r"room for 79 windows of 4 frames and one more, not for openloop.windows=80"),
    ],
)  # fmt: skip
def test_windows_that_there_are_not(change, words):
    with pytest.raises(Problem, match=words):
        choose_windows(LENGTHS, np.array([1, 3, 5, 6]), dataclasses.replace(SETTINGS, **change))
    just = {name: value - 1 for name, value in change.items()} | ({"windows": 2} if "windows" not in change else {})
    windows = choose_windows(LENGTHS, np.array([1, 3, 5, 6]), dataclasses.replace(SETTINGS, **just))
    assert len(windows) == just["windows"]


def write_rollouts(
    folder: Path, actions: int = 1, lengths: np.ndarray = LENGTHS, size: int = 64, about: dict | None = None
) -> Rollouts:
    """Two shards of noisy episodes; the first bytes of a frame say its episode and step, and its action both."""
    random, episodes = np.random.default_rng(0), []
    for number, length in enumerate(lengths):
        frames = random.integers(0, 256, (size, size, 3), dtype=np.uint8) // 2 + np.zeros((length, 1, 1, 1), np.uint8)
        frames = np.stack([np.roll(frame, 3 * t, axis=1) for t, frame in enumerate(frames)])
        frames[:, 0, 0, 0], frames[:, 0, 0, 1] = number, np.arange(length)
        acted = random.uniform(-1, 1, (length, actions) if actions > 1 else length).astype("float32")
        end = np.arange(length) == length - 1
        episodes.append(Episode(frames, acted, np.ones(length, "float32"), end, np.zeros(length, bool)))
    half = len(episodes) // 2
    for shard, some in enumerate((episodes[:half], episodes[half:])):
        write_shard(shard_path(folder, shard), some, about or {})
    return Rollouts(folder)


@pytest.mark.parametrize("actions", [1, 3])
def test_what_is_read_of_windows(tmp_path, actions):
    rollouts = write_rollouts(tmp_path, actions)
    windows = choose_windows(rollouts.lengths, np.array([1, 3, 5, 6]), dataclasses.replace(SETTINGS, windows=26))
    acted = rollouts.sequences().actions
    batch = read_windows(rollouts, acted, windows, 4)
    assert batch.frames.shape == (26, 10, 64, 64, 3) and batch.actions.shape[:2] == (26, 10)
    for row, window in enumerate(windows):
        episode = rollouts.episode(window.episode)
        for t in range(10):
            step = min(window.start + t, LENGTHS[window.episode] - 1)  # the last frame is repeated
            assert batch.frames[row, t, 0, 0, :2].tolist() == [window.episode, step]
            np.testing.assert_array_equal(batch.frames[row, t], episode.frames[step])
            np.testing.assert_array_equal(batch.actions[row, t], episode.actions[step])
    alone = read_windows(rollouts, acted, windows[-1:], 4)
    assert alone.frames.shape[1] == 4 + windows[-1].steps


def test_windows_that_begin_as_training_does_are_found(tmp_path):
    episodes = []
    for number, length in enumerate([9, 7, 9, 8]):
        frames = (
            np.full((length, 4, 4, 1), 10 * number, np.uint8) + np.arange(length, dtype=np.uint8)[:, None, None, None]
        )
        zeros = np.zeros(length, np.float32)
        episodes.append(Episode(frames, zeros, zeros, np.arange(length) == length - 1, np.zeros(length, bool)))
    episodes[3].frames[2:6] = episodes[0].frames[4:8]  # frames 2 to 5 of the held-out one are training's 4 to 7
    write_shard(shard_path(tmp_path, 0), episodes, {})
    windows = [Window(number, 3, number, 1) for number in range(4)]
    rollouts, training = Rollouts(tmp_path), np.array([0, 1, 2])
    assert seen_in_training(rollouts, training, windows, 1, 4).tolist() == [False, True, True, False]
    assert seen_in_training(rollouts, training, windows, 0, 4).tolist() == [False, False, True, False]
    assert not seen_in_training(rollouts, np.array([1, 2]), windows, 1, 4).any()


def test_errors_without_the_windows_that_training_has():
    errors = {
        "open_loop": np.array([[1.0, 2], [3, np.nan], [5, 6]]),
        "copy": np.array([[10.0, 10], [20, np.nan], [30, 30]]),
    }
    curves = {name: Scores(of, of, of) for name, of in errors.items()}
    evaluation = Evaluation(curves, [], dataclasses.replace(SETTINGS, horizon=2))
    record = without_seen(evaluation, np.array([True, False, False]))
    assert record == {
        "windows": 1, "of": 3, "mse_without": {"1": {"open_loop": 4, "copy": 25}, "2": {"open_loop": 6, "copy": 30}}
    }  # fmt: skip
    assert seen_line(record).endswith("of the copy's: 16.0% at 1, 20.0% at 2")
    alone = without_seen(evaluation, np.array([False, True, False]))
    assert list(alone["mse_without"]) == ["1", "2"]
    none = without_seen(evaluation, np.array([True, False, True]))
    assert list(none["mse_without"]) == ["1"], "no window is left at horizon 2"


# Curves


class Drifter:
    """Predicts the last frame it saw, plus the action, plus what its draw and the window's number add; grey, any size."""

    title, draws = "drifter", 3

    def begin(self, frames, actions, windows):
        return np.repeat(frames[:, -1:] / 255, 3, axis=1).astype("float32"), windows

    def imagine(self, memory, actions):
        frames, windows = memory
        drift = 0.02 * np.arange(3) * (1 + windows[:, None] % 2) + 0.01 * actions[:, None]  # (B, D)
        frames = (frames + drift[:, :, None, None, None]).clip(0, 1).astype("float32")
        return frames, (frames, windows)

    def observe(self, memory, actions, frames):
        return np.repeat(frames[:, None] / 255, 3, axis=1).astype("float32"), memory[1]

    def reconstruct(self, frames):
        return np.round(frames / 255, 1).astype("float32")


class Certain(Drifter):
    """One prediction, and no floor."""

    draws = 1

    def imagine(self, memory, actions):
        frames, (_, windows) = super().imagine(memory, actions)
        return frames[:, 2:], (frames, windows)

    def reconstruct(self, frames):
        return None


def some_windows(channels: int = 1) -> Recorded:
    random = np.random.default_rng(2)
    frames = random.integers(0, 256, (5, 1, 12, 13, channels)) + 9 * np.arange(10)[:, None, None, None]
    steps = np.array([6, 2, 6, 1, 4])
    return Recorded(np.array([8, 3, 0, 5, 1]), steps, (frames % 256).astype(np.uint8), random.normal(size=(5, 10)))


@pytest.mark.parametrize("channels", [1, 3])
def test_curves_are_those_of_a_plain_loop(channels):
    batch = some_windows(channels)
    curves = score_batch(Drifter(), batch, 4)
    assert list(curves) == ["open_loop", "best_of_n", "mean_frame", "teacher_forced", "copy", "floor"]
    for row in range(5):
        number, truth = batch.numbers[row], batch.frames[row] / 255
        dreams = [truth[3]] * 3
        errors: dict[str, list] = {name: [] for name in ("open_loop", "mean_frame", "teacher_forced", "copy", "floor")}
        for t in range(4, 4 + batch.steps[row]):
            drift = [0.02 * d * (1 + number % 2) + 0.01 * batch.actions[row, t - 1] for d in range(3)]
            dreams = [(dream + drift[d]).clip(0, 1) for d, dream in enumerate(dreams)]
            forced = [(truth[t - 1] + drift[d]).clip(0, 1) for d in range(3)]
            frames = {"open_loop": dreams, "mean_frame": [np.mean(dreams, axis=0)], "teacher_forced": forced}
            frames |= {"copy": [truth[3]], "floor": [np.round(truth[t], 1)]}
            for name, shown in frames.items():
                errors[name].append([float(((frame - truth[t]) ** 2).mean()) for frame in shown])
        steps = batch.steps[row]
        for name, by_step in errors.items():
            np.testing.assert_allclose(curves[name].mse[row, :steps], np.mean(by_step, axis=1), rtol=1e-3, atol=1e-7)
        best = np.mean(errors["open_loop"], axis=0).argmin()
        np.testing.assert_allclose(curves["best_of_n"].mse[row, :steps], np.array(errors["open_loop"])[:, best], rtol=1e-3, atol=1e-7)  # fmt: skip
        for scores in curves.values():
            for part in scores:
                assert part.shape == (5, 6)
                assert np.isfinite(part[row, :steps]).all() and np.isnan(part[row, steps:]).all()
    assert (np.nanmean(curves["best_of_n"].mse, axis=1) < np.nanmean(curves["open_loop"].mse, axis=1)).all()


def test_the_first_step_is_the_same_fed_with_either_and_psnr_is_a_mean_of_draws():
    batch, predictor = some_windows(), Drifter()
    curves = score_batch(predictor, batch, 4)
    for forced, free in zip(curves["teacher_forced"], curves["open_loop"], strict=True):
        np.testing.assert_array_equal(forced[:, 0], free[:, 0])
        assert not np.allclose(forced[0], free[0])
    truth, first = next(predict(predictor, batch, 4))
    draws = score(first["open_loop"], truth)  # (B, D)
    np.testing.assert_allclose(curves["open_loop"].psnr[:, 0], draws.psnr.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(curves["open_loop"].ssim[:, 0], draws.ssim.mean(axis=1), rtol=1e-5)


def test_one_certain_prediction_has_neither_best_nor_mean_nor_floor():
    curves = score_batch(Certain(), some_windows(), 4)
    assert list(curves) == CERTAIN
    (_, drifting), (_, certain) = (list(predict(which, some_windows(), 4))[-1] for which in (Drifter(), Certain()))
    np.testing.assert_array_equal(certain["open_loop"][:, 0], drifting["open_loop"][:, 2])


class Spoilt(Certain):
    """Its predictions of each window are no numbers from a step on."""

    def __init__(self, good: np.ndarray):
        self.good = good  # (B,), how many of them are

    def begin(self, frames, actions, windows):
        return super().begin(frames, actions, windows), 0

    def imagine(self, memory, actions):
        seen, step = memory
        frames, seen = super().imagine(seen, actions)
        frames[step >= self.good] = np.nan
        return frames, (seen, step + 1)

    def observe(self, memory, actions, frames):
        seen, step = memory
        return super().observe(seen, actions, frames), step + 1


def test_predictions_that_are_no_numbers_are_a_problem_and_not_a_window_that_is_over():
    batch = some_windows()
    curves, whole = (score_batch(predictor, batch, 4) for predictor in (Spoilt(batch.steps), Certain()))
    np.testing.assert_array_equal(curves["open_loop"].mse, whole["open_loop"].mse)  # beyond their ends they may be
    for row in range(5):
        good = batch.steps - (np.arange(5) == row)
        with pytest.raises(Problem, match=r"drifter: a prediction is not a number \(open_loop\).*train it again"):
            score_batch(Spoilt(good), batch, 4)


def test_division_into_batches_changes_nothing(tmp_path):
    rollouts = write_rollouts(tmp_path)
    windows = choose_windows(rollouts.lengths, np.array([1, 3, 5, 6]), dataclasses.replace(SETTINGS, windows=9))
    actions = rollouts.sequences().actions
    whole, parts = (
        evaluate(Drifter(), rollouts, actions, windows, dataclasses.replace(SETTINGS, batch=batch)) for batch in (9, 2)
    )
    for name, scores in whole.curves.items():
        for part, same in zip(scores, parts.curves[name], strict=True):
            assert part.shape == (9, 6)
            np.testing.assert_allclose(part, same, rtol=1e-5)
    alive = np.isfinite(whole.curves["copy"].mse).sum(axis=0)
    np.testing.assert_array_equal(alive, whole.lasting)
    assert alive.tolist() == [sum(window.steps >= k for window in windows) for k in range(1, 7)]
    assert alive[0] == 9 > alive[-1] > 0


def test_best_median_and_worst_are_of_those_that_last_longest():
    windows = [Window(i, i, 0, steps) for i, steps in enumerate([6, 2, 6, 6, 1, 6])]
    mse = np.where(np.arange(6) < [[w.steps] for w in windows], np.array([[3.0], [9], [1], [2], [0], [5]]), np.nan)
    mse[0, 0] = 0.1  # the mean over horizons decides
    curves = {"open_loop": Scores(mse, -mse, -mse)}
    assert pick_windows(Evaluation(curves, windows, SETTINGS)) == {"best": 2, "median": 3, "worst": 5}


@pytest.mark.parametrize(("predictor", "channels", "panels"), [(Drifter(), 1, 5), (Drifter(), 3, 5), (Certain(), 1, 3)])
def test_videos_show_what_was_recorded_beside_what_was_predicted(tmp_path, predictor, channels, panels):
    steps = list(predict(predictor, some_windows(channels), 4))
    save_comparison(tmp_path / "window", steps, 2)
    film = read_video(tmp_path / "window.mp4")
    width, gap = 13 * 4, 4
    assert film.shape == (6, 28 + 12 * 4, panels * (width + gap) - gap, 3)
    forced = 2 if panels == 5 else 1  # after the reconstruction, where there is one
    shown = {
        0: [truth[2, 0] / 255 for truth, _ in steps],
        forced: [step["teacher_forced"][2, 0] for _, step in steps],
        forced + 1: [step["open_loop"][2, 0] for _, step in steps],
    }
    for panel, frames in shown.items():
        left = panel * (width + gap)
        pixels = film[:, 30::4, left + 2 : left + width : 4].astype(float) / 255  # one of each 4 x 4
        luma = [part.mean(axis=-1) for part in (pixels, np.broadcast_to(frames, (6, 12, 13, channels)))]
        assert np.abs(luma[0] - luma[1]).mean() < 0.06, panel


# Bands


def mean_of(values: np.ndarray, episodes: np.ndarray, settings: Openloop) -> Mean:
    """The mean of windows' values, (W, H), with its band; episodes: (W,), which one each window is of."""
    windows = [Window(number, episode, 0, values.shape[1]) for number, episode in enumerate(episodes.tolist())]
    return Evaluation({}, windows, settings).mean(values)


def test_bands_are_those_of_a_slow_bootstrap_over_episodes():
    random = np.random.default_rng(3)
    episodes = np.array([4, 4, 4, 7, 9, 9, 11])
    values = random.normal(size=(7, 3))
    values[[0, 3], 2] = np.nan
    values[:, 1][episodes != 7] = np.nan  # one episode only: some samples have none of it
    found = mean_of(values, episodes, dataclasses.replace(SETTINGS, resamples=200, confidence=0.8))
    times = np.random.default_rng(SETTINGS.seed).multinomial(4, [0.25] * 4, 200)  # (R, E)
    for k in range(3):
        means = []
        for sample in times:
            taken = [
                values[row, k]
                for episode, number in zip((4, 7, 9, 11), sample, strict=True)
                for _ in range(number)
                for row in np.flatnonzero(episodes == episode)
            ]
            means.append(np.nanmean(taken) if np.isfinite(taken).any() else np.nan)
        assert found.mean[k] == pytest.approx(np.nanmean(values[:, k]))
        assert found.low[k] == pytest.approx(np.nanpercentile(means, 10))
        assert found.high[k] == pytest.approx(np.nanpercentile(means, 90))
    values[:, 1] = np.nan  # no window lasts so long
    without = mean_of(values, episodes, SETTINGS)
    assert [np.isnan(part).tolist() for part in without] == [[False, True, False]] * 3


def test_bands_cover_what_they_should_and_repeated_windows_do_not_narrow_them():
    settings = dataclasses.replace(SETTINGS, resamples=1000)
    values = np.random.default_rng(4).normal(size=(300, 40))
    once = mean_of(values, np.arange(300), settings)
    assert 30 <= ((once.low < 0) & (once.high > 0)).sum() < 40  # of 40 bands, 38 to be expected
    assert np.mean(once.high - once.low) == pytest.approx(2 * 1.96 * 300**-0.5, rel=0.05)
    often = mean_of(np.repeat(values, 4, axis=0), np.repeat(np.arange(300), 4), settings)
    np.testing.assert_allclose(often.low, once.low)
    np.testing.assert_allclose(often.high, once.high)


# V+M


Z, H, K = 4, 16, 3


class Flat:
    """A V of 12 x 12 grey frames that is two matrices."""

    def __init__(self):
        random = np.random.default_rng(5)
        self.into, self.out = (random.normal(size=shape) for shape in ((144, 2 * Z), (Z, 144)))

    def encode(self, frames):
        numbers = tf.reshape(tf.cast(frames, tf.float32), (-1, 144)) / 255
        mu, logvar = tf.split(numbers @ self.into.astype("float32") / 4, 2, axis=1)
        return mu, logvar - 2

    def decode(self, z):
        return tf.reshape(tf.sigmoid(z @ self.out.astype("float32")), (-1, 12, 12, 1))


def small_m(actions: int, done: bool, told: Callable[..., Any]) -> MDNRNN:
    keras.config.set_dtype_policy("float32")
    model, random = MDNRNN(Z, actions, H, K, predict_done=done, told=told), np.random.default_rng(6)
    for variable, size in zip(model.weights, (0.6, 0.3, 0.6, 0.3), strict=True):
        variable.assign(random.normal(size=variable.shape) * size)
    return model


def plain_dream(predictor, execute, frames, actions, window, draw, open_loop):
    """The frames of one dream of one window, by model.step and model.head, one at a time."""
    vae, model, settings = predictor.vae, predictor.rnn, predictor.settings

    def encoded(t):
        mu, logvar = (part[0].numpy().astype("float64") for part in vae.encode(frames[t][None]))
        return mu + np.exp(logvar / 2) * predictor.noise(np.array([window]), t).encoding[draw]

    z, h, c, shown = encoded(0), tf.zeros((1, H)), tf.zeros((1, H)), []
    for t in range(1, len(frames)):
        restart = [float(t == 1)] if model.predict_done else []
        inputs = np.concatenate([z, np.atleast_1d(execute(actions[t - 1])), restart]).astype("float32")
        h, c = model.step(inputs[None], h, c)
        log_mix, mean, log_std = (np.float64(part)[0] for part in model.head(h).mixture)  # (K, Z)
        drawn = predictor.noise(np.array([window]), t)
        imagined = np.empty(Z)
        for d in range(Z):
            share = np.exp(log_mix[:, d] / settings.temperature)
            k = int(np.searchsorted(np.cumsum(share / share.sum()), drawn.uniform[draw, d], side="right"))
            spread = np.exp(log_std[k, d]) * np.sqrt(settings.temperature)
            imagined[d] = mean[k, d] + spread * drawn.normal[draw, d]
        if t >= settings.context:
            shown.append(1 / (1 + np.exp(-imagined @ vae.out)).reshape(12, 12, 1))
        z = imagined if open_loop and t >= settings.context else encoded(t)
    return np.array(shown)


@pytest.mark.parametrize(
    ("world", "rnn"),
    [("doom", Rnn()), ("doom", Rnn(action="raw")), ("carracing", Rnn(predict_done=False))],
    ids=["doom", "raw actions", "carracing"],
)
def test_dreams_and_teacher_forced_steps_are_those_of_a_plain_loop(world, rnn):
    settings = dataclasses.replace(SETTINGS, temperature=1.3, dreams=2)
    count = WORLDS[world].actions
    told = told_by(Experiment(env=Env(name=world), rnn=rnn))
    vae, model = Flat(), small_m(count, rnn.predict_done, told)
    predictor = VisionMemory(vae, model, settings)
    random = np.random.default_rng(7)
    frames = random.integers(0, 256, (3, 10, 12, 12, 1), dtype=np.uint8)
    actions = random.uniform(-1, 1, (3, 10, count) if count > 1 else (3, 10)).astype("float32")
    batch = Recorded(np.array([5, 0, 9]), np.full(3, 6), frames, actions)
    steps = list(predict(predictor, batch, 4))
    assert len(steps) == 6
    execute = WORLDS[world].execute if rnn.action == "executed" else np.asarray
    for row, number in enumerate(batch.numbers):
        for draw in range(2):
            arguments = predictor, execute, frames[row], actions[row], number, draw
            dreamt = plain_dream(*arguments, open_loop=True)
            forced = plain_dream(*arguments, open_loop=False)
            np.testing.assert_allclose([step["open_loop"][row, draw] for _, step in steps], dreamt, atol=2e-3)
            np.testing.assert_allclose([step["teacher_forced"][row, draw] for _, step in steps], forced, atol=2e-3)
            assert np.abs(dreamt[1:] - forced[1:]).max() > 0.1, "being fed its own predictions makes no difference"
    for truth, step in steps:
        np.testing.assert_array_equal(step["copy"][:, 0], frames[:, 3])
        np.testing.assert_allclose(step["floor"][:, 0], vae.decode(vae.encode(truth[:, 0])[0]), atol=1e-5)
    first = steps[0][1]["open_loop"]
    assert np.abs(first[:, 0] - first[:, 1]).max() > 0.1, "the draws are the same"
    alone = Recorded(*(part[1:2] for part in batch))
    for (_, step), (_, whole) in zip(predict(predictor, alone, 4), steps, strict=True):
        np.testing.assert_allclose(step["open_loop"][0], whole["open_loop"][1], atol=1e-3)


# The next-frame model


@pytest.mark.parametrize(
    ("env", "shape"), [("breakout", (84, 84, 1)), ("coinrun", (84, 84, 3)), ("carracing", (64, 64, 3))]
)
def test_next_frames_are_those_of_the_model_in_a_plain_loop(env, shape):
    from nextframe.model import NextFrame, NextFrames

    keras.config.set_dtype_policy("float32")
    settings = Experiment(env=Env(name=env, grey=shape[2] == 1), model=Model(channels=8))
    model, random = NextFrame(settings), np.random.default_rng(9)
    for weight in model.network.weights:
        weight.assign(random.normal(size=weight.shape) * 0.1)
    frames = random.integers(0, 256, (2, 8, *shape), dtype=np.uint8)
    actions = random.uniform(-1, 1, (2, 8, 3) if env == "carracing" else (2, 8)).astype("float32")
    batch = Recorded(np.arange(2), np.full(2, 3), frames, actions)
    steps = [shown for _, shown in predict(NextFrames(model), batch, 5)]
    dreamt = np.asarray(model.open_loop(frames[:, 1:5], actions[:, 1:7]))
    np.testing.assert_allclose(np.stack([step["open_loop"][:, 0] for step in steps], axis=1), dreamt, atol=1e-5)
    for t, step in enumerate(steps):
        forced = np.asarray(model.next_frame(frames[:, 1 + t : 5 + t], actions[:, 1 + t : 5 + t]))
        np.testing.assert_allclose(step["teacher_forced"][:, 0], forced, atol=1e-5)
    assert np.abs(steps[2]["open_loop"] - steps[2]["teacher_forced"]).mean() > 0.01
    assert np.abs(steps[0]["open_loop"][:, 0] - frames[:, 4] / 255).mean() > 0.01, "nothing is predicted"
    assert list(score_batch(NextFrames(model), batch, 5)) == CERTAIN
    with pytest.raises(Problem, match=r"openloop.context=3 is too few: the next-frame model sees model.context=4"):
        NextFrames(model).begin(frames[:, :3], actions[:, :2], np.arange(2))


# The commands


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Run:
    """A run with rollouts and an untrained V and M, as an earlier version could have left it."""
    run = Run(tmp_path_factory.mktemp("made") / "run")
    settings = Experiment(
        vae=Vae(z=4), rnn=Rnn(hidden=8, mixtures=2), data=Data(val_ratio=0.5), hardware=Hardware(precision="float32")
    )
    write_rollouts(run.rollouts, lengths=LENGTHS)
    save_untrained(run, settings, spread=(1, 1, 1, 1))
    for stage in ("vae", "rnn"):
        write_json(run.record(stage), {"complete": True, "settings": {}})
    content = yaml.safe_load(to_yaml(settings))
    del content["openloop"]
    content["controller"]["real_every"] = 5
    run.config.write_text(yaml.safe_dump(content))
    return run


SMALL = [
    f"openloop.{name}={getattr(SETTINGS, name)}" for name in ("windows", "context", "horizon", "dreams", "resamples")
]


@pytest.fixture(scope="module")
def evaluated(made):
    done = python("-m", "openloop", made.path, *SMALL, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_command_leaves_tables_plots_videos_and_a_record(made, evaluated):
    record = read_json(made.results)["openloop"]
    assert evaluated.stderr == "" and "openloop: done in" in evaluated.stdout
    rollouts = Rollouts(made.rollouts)
    training, held_out = rollouts.split(0.5)
    single = rows_of(made.metrics / "openloop_windows.csv")
    assert {int(row["episode"]) for row in single} <= set(held_out.tolist())
    assert not {int(row["episode"]) for row in single} & set(training.tolist())
    assert {int(row["window"]) for row in single} == set(range(7))
    assert all(int(row["start"]) + 4 + int(row["horizon"]) <= LENGTHS[int(row["episode"])] for row in single)
    means = rows_of(made.metrics / "openloop.csv")
    curves = ["open_loop", "best_of_n", "mean_frame", "teacher_forced", "copy", "floor"]
    assert [row["curve"] for row in means if row["horizon"] == "1"] == curves
    for row in means:
        same = [one for one in single if (one["curve"], one["horizon"]) == (row["curve"], row["horizon"])]
        assert int(row["windows"]) == len(same) > 0
        for metric in ("mse", "psnr", "ssim"):
            assert float(row[metric]) == pytest.approx(np.mean([float(one[metric]) for one in same]), rel=1e-4)
            assert float(row[f"{metric}_low"]) <= float(row[metric]) <= float(row[f"{metric}_high"])
    assert list(record["horizons"]) == ["1", "5", "6"] and record["windows"] == 7
    fifth = {row["curve"]: row for row in means if row["horizon"] == "5"}
    assert record["horizons"]["5"]["mse"]["copy"][0] == pytest.approx(float(fifth["copy"]["mse"]), rel=1e-4)
    gained = float(fifth["copy"]["mse"]) - float(fifth["open_loop"]["mse"])
    assert record["horizons"]["5"]["mse_gained_on_copy"][0] == pytest.approx(gained, rel=1e-3)
    better = sum(
        float(a["mse"]) < float(b["mse"])
        for a in single
        for b in single
        if (a["curve"], b["curve"], a["horizon"], b["horizon"]) == ("open_loop", "copy", "5", "5") and a["window"] == b["window"]
    )  # fmt: skip
    assert record["horizons"]["5"]["windows_better_than_copy"] == better
    for metric in ("mse", "psnr", "ssim"):
        with Image.open(made.plots / f"{metric}_vs_horizon.png") as picture:
            assert min(picture.size) > 300
    lasting = {int(row["window"]): int(row["horizon"]) for row in single}
    for name, number in record["shown"].items():
        frames, _ = imageio_ffmpeg.count_frames_and_secs(str(made.videos / f"openloop_{name}.mp4"))
        assert frames == lasting[number] == max(lasting.values())
        with Image.open(made.videos / f"openloop_{name}.gif") as film:
            assert film.is_animated
    table = [line.split() for line in evaluated.stdout.splitlines()]
    assert ["horizon", "1", "5", "6"] in table and ["windows", "7"] in [line[:2] for line in table]


def test_what_was_measured_is_not_measured_again(made, evaluated, capsys):
    files = [made.metrics / "openloop.csv", made.videos / "openloop_best.mp4"]
    before, times = means_in(made), [path.stat().st_mtime_ns for path in files]
    evaluate_run(str(made.path), SMALL)
    again = capsys.readouterr().out
    *shown, last = again.splitlines()
    assert last.endswith("nothing to do")
    assert shown == evaluated.stdout.splitlines()[-len(shown) - 1 : -1]
    assert [path.stat().st_mtime_ns for path in files] == times
    files[0].unlink()
    evaluate_run(str(made.path), SMALL)
    assert "nothing to do" not in capsys.readouterr().out
    # (seen while other programs ran: one sixth digit was another)
    np.testing.assert_allclose(means_in(made), before, rtol=1e-4)
    evaluate_run(str(made.path), [*SMALL, "openloop.temperature=3"])
    assert "nothing to do" not in capsys.readouterr().out
    assert np.abs(means_in(made) / before - 1).max() > 1e-3


def means_in(run: Run) -> np.ndarray:
    """All figures of a run's metrics/openloop.csv."""
    return np.array([mean for curves in read_means(run).values() for mean in curves.values()])


def copied(made: Run, path: Path) -> Run:
    """A run folder of its own, with everything in it."""
    shutil.copytree(made.path, path)
    return Run(path)


def test_other_data_is_measured_again_but_not_what_an_earlier_version_measured(made, tmp_path, capsys):
    run = copied(made, tmp_path / "run")

    def measures() -> bool:
        evaluate_run(str(run.path), SMALL)
        return "nothing to do" not in capsys.readouterr().out

    def current() -> dict:
        return origin(open_run(str(run.path), SMALL)[0], run)

    measures()
    record, config = read_json(run.results)["openloop"], run.config.read_text()
    assert record["of"] == current()
    earlier = {name: value for name, value in record["of"].items() if name not in ("rollouts", "val_ratio")}
    assert len(earlier) == len(record["of"]) - 2
    run.update_results("openloop", {**record, "of": earlier})
    assert not measures()
    assert not is_of({"of": {**earlier, "vae_weights": "00000000"}}, current()) and not is_of({}, current())
    run.update_results("openloop", record)
    run.config.write_text(config.replace("val_ratio: 0.5", "val_ratio: 0.4"))
    assert not is_of(record, current())
    run.config.write_text(config)
    assert is_of(record, current())
    write_rollouts(run.rollouts, lengths=LENGTHS[::-1])
    assert measures()


@pytest.mark.parametrize(
    ("size", "about", "words"),
    [
        (64, {"env.name": "carracing"}, "recorded with game=carracing, but the settings say doom"),
        (32, {"env.name": "doom"}, "recorded with height=32, but the settings say 64"),
        (64, {"env.name": "doom", "actions": 4}, "recorded with actions=4, but the settings say 1"),
    ],
)
def test_data_that_v_and_m_were_not_made_for_is_a_problem(made, tmp_path, size, about, words):
    run = copied(made, tmp_path / "run")
    shutil.rmtree(run.rollouts)
    write_rollouts(run.rollouts, size=size, about=about)
    for attempt in (lambda: evaluate_run(str(run.path), SMALL), lambda: from_window(run)):
        with pytest.raises(Problem, match=rf"shard-00000\.h5 was {words}") as caught:
            attempt()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "size", "about", "words"),
    [
        ("coinrun", 20, {}, "game=coinrun, but the settings say breakout"),
        ("breakout", 28, {}, "height=28, but the settings say 20"),
        ("breakout", 20, {"env.name": "pong", "actions": 18}, "game=pong, but the settings say breakout"),
        ("breakout", 20, {"actions": 18}, "actions=18, but the settings say 4"),
    ],
)
def test_data_that_a_next_frame_model_was_not_made_for_is_a_problem(tmp_path, name, size, about, words):
    run, other = (
        save_next_frames(Run(tmp_path / folder), *of)
        for folder, *of in (("run", "breakout", 20), ("other", name, size))
    )
    shutil.rmtree(run.rollouts)
    shutil.copytree(other.rollouts, run.rollouts)
    with h5py.File(shard_path(run.rollouts, 0), "r+") as file:
        file.attrs.update(about)
    for attempt in (lambda: evaluate_run(str(run.path), []), lambda: from_window(run)):
        with pytest.raises(Problem, match=rf"shard-00000\.h5 was recorded with {words}"):
            attempt()
    assert not run.results.exists() and not run.metrics.exists()


def test_weights_that_are_no_numbers_are_a_problem(tmp_path):
    run = save_next_frames(Run(tmp_path / "run"), size=20)
    with h5py.File(run.nextframe_weights, "r+") as file:
        kernels: list[h5py.Dataset] = []
        file.visititems(lambda _, item: kernels.append(item) if getattr(item, "ndim", 0) == 4 else None)
        for kernel in kernels:
            kernel[:] = np.nan
    with pytest.raises(
        Problem, match=r"Next-frame model \(unet\): a prediction is not a number \(open_loop\), so"
    ) as caught:
        evaluate_run(str(run.path), [])
    assert "\n" not in str(caught.value) and not run.results.exists()


def test_small_errors_are_told_apart_in_the_table():
    figures = {
        "windows": 7,
        "mse": {"open_loop": [1.2346e-5], "copy": [0.012]},
        "psnr": {"open_loop": [49.087], "copy": [19.2]},
        "ssim": {"open_loop": [0.99876], "copy": [0.5]},
    }
    text = table({"horizons": dict.fromkeys(("1", "5", "10", "32", "64", "100"), figures), "draws": 1})
    lines = [line for line in text.splitlines() if line.split()[-1] not in ("MSE", "58.9)", "SSIM")]
    assert {len(line) for line in lines} == {79}, "not aligned, or wider than 80 columns"
    assert ["open", "loop", *["1.23e-05"] * 6] in [line.split() for line in lines]
    shown = [line.split()[-1] for line in lines if line.startswith(("open loop", "copy"))]
    assert shown == ["1.23e-05", "0.0120", "49.09", "19.20", "0.999", "0.500"]


def test_of_several_iterations_the_last_with_a_controller_is_taken_unless_another_is_given(made, tmp_path):
    run = copied(made, tmp_path / "run")
    for number in (2, 3):
        shutil.copytree(made.path, run.at(number).path)
    for number in (1, 2):
        run.at(number).controller.touch()
    for given, taken in ((run, 2), (run.at(2), 2), (run.at(3), 3)):
        settings, opened = open_run(str(given.path))
        assert opened.path == run.at(taken).path and settings.vae.z == 4
    assert len(opened.all_rollouts) == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("doom", r"without rollouts, with figures in .*results\.json: give your own run"),
        ("breakout", r"with figures in .*results\.json of more windows than are kept: to measure these, give a copy"),
    ],
)
def test_what_is_shipped_is_not_measured(name, words):
    with pytest.raises(Problem, match=rf"{name} is shipped,? {words}") as caught:
        evaluate_run(name, [])
    assert "\n" not in str(caught.value)


def test_v_and_m_as_shipped_have_no_window_to_begin_with():
    _, run = open_run("doom")
    with pytest.raises(Problem, match="doom is shipped without rollouts, so there is no window: give your own run"):
        from_window(run)


def test_faults_are_one_line(made, tmp_path):
    missing = python("-m", "openloop", tmp_path / "nowhere", timeout=120)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith(f"error: {tmp_path}/nowhere is neither shipped (breakout, ")
    assert missing.stderr.endswith(") nor a run folder such as runs/doom\n") and missing.stderr.count("\n") == 1
    unfinished = Run(tmp_path / "run")
    unfinished.path.mkdir()
    unfinished.config.write_text(made.config.read_text())
    write_json(unfinished.record("vae"), {"complete": True, "settings": {}})
    unfinished.vae_weights.touch()
    for complete in (False, True):  # not trained to the end, or its weights are gone
        write_json(unfinished.record("rnn"), {"complete": complete, "settings": {}})
        done = python("-m", "openloop", unfinished.path, timeout=120)
        assert (done.returncode, done.stdout) == (1, "")
        wanted = "has no trained model to predict with yet: run `python -m rnn` or `python -m nextframe` first"
        assert done.stderr == f"error: {unfinished.path} {wanted}\n"
    other = python("-m", "openloop", made.path, "vae.z=5", timeout=120)
    assert other.returncode == 2 and other.stderr.startswith("error: vae.z=5 cannot be changed here")
    assert other.stderr.endswith(f": {made.path} is already made\n") and other.stderr.count("\n") == 1


def test_run_folders_of_earlier_versions(made, tmp_path):
    settings, run = open_run(str(made.path), ["openloop.dreams=5"])
    assert settings.openloop == dataclasses.replace(Openloop(), dreams=5) and settings.vae.z == 4
    assert trained_stages(run) == ("vae", "rnn")
    content = yaml.safe_load(made.config.read_text())
    content["rnn"]["layers"] = 2
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UsageProblem, match=r"rnn\.layers"):
        open_run(str(tmp_path))
    assert Run(tmp_path).settings(["vae"]).rnn == settings.rnn


def test_help_lists_what_can_be_changed():
    done = python("-m", "openloop", "--help", timeout=120)
    shown = {line.split(".")[0].strip() for line in done.stdout.splitlines() if re.match(r"  \w+\.\w+=", line)}
    assert shown == {"openloop", "hardware"}


# Stepped through by hand


@pytest.mark.parametrize(
    ("world", "line", "executed", "times"),
    [
        ("doom", "left", -1, 1),
        ("doom", "  right x3 ", 1, 3),
        ("doom", "0", 0, 1),
        ("doom", "1", -1, 1),
        ("carracing", "-0.5 1 0", [-0.5, 1, 0], 1),
        ("carracing", "0 0.25 1 x20", [0, 0.25, 1], 20),
        ("breakout", "fire", 1, 1),
        ("coinrun", "left jump x2", 2, 2),
        ("coinrun", "14", 14, 1),
    ],
)
def test_lines_are_actions(world, line, executed, times):
    words, repeated = read_times(line)
    action = read_action(words, WORLDS[world])
    np.testing.assert_allclose(WORLDS[world].execute(action), executed)
    assert repeated == times and action.dtype == np.float32


@pytest.mark.parametrize(
    ("world", "line", "words"),
    [
        ("doom", "lfet", "'lfet' is no action: write stay (0), left (1), right (2) or recorded"),
        ("doom", "3", "'3' is no action"),
        ("doom", "left right", "'left right' is no action"),
        ("coinrun", "15", "'15' is no action: write left down (0), left (1), left jump (2)"),
        ("doom", "left x0", "'x0' is no number of times: write x1 to x1000"),
        ("doom", "left xa", "'xa' is no number of times"),
        ("doom", "x5", "'x5' is no action"),
        ("doom", "recorded x1001", "'x1001' is no number of times"),
        ("carracing", "0 0.5", "'0 0.5' is no action: write steer (-1 to 1) gas (0 to 1) brake (0 to 1) or recorded"),
        ("carracing", "0 1.5 0", "'0 1.5 0' is no action"),
        ("carracing", "0 nan 0", "'0 nan 0' is no action"),
        ("carracing", "left", "'left' is no action"),
    ],
)  # fmt: skip
def test_lines_that_are_no_actions(world, line, words):
    with pytest.raises(Problem) as caught:
        read_action(read_times(line)[0], WORLDS[world])
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


def stepped(**settings) -> Steps:
    window = Recorded(*(part[:1] for part in some_windows()))
    return Steps(Drifter(), window, 4, Experiment(env=Env(name="doom"), **settings))


def test_steps_under_the_recorded_actions_are_the_open_loop():
    batch = Recorded(*(part[:1] for part in some_windows()))
    steps = stepped()
    shown = steps.type("recorded x6")
    np.testing.assert_array_equal(shown[0], np.tile(to_rgb(batch.frames[0, 3]), (1, 3, 1)))
    for frame, (_, step) in zip(shown[1:], predict(Drifter(), batch, 4), strict=True):
        np.testing.assert_array_equal(frame, np.concatenate(to_rgb(step["open_loop"][0]), axis=1))
    with pytest.raises(Problem, match="the recorded window has 0 more steps, not 1"):
        steps.type("recorded")
    beyond = steps.type("right")
    assert beyond.shape == (8, 12, 3 * 13, 3) and (beyond[7] != beyond[6]).any()


def test_a_bad_line_changes_nothing():
    good, bad = stepped(), stepped()
    good.type("right", "1 x2", "recorded")
    for line in ("right", "rigth", "1 x2", "recorded x4", "5", "recorded"):
        with contextlib.suppress(Problem):
            bad.type(line)
    assert good.words == bad.words == ["recorded", "right", "1", "1", "recorded"]
    np.testing.assert_array_equal(np.stack(good.frames), np.stack(bad.frames))


def test_v_and_m_are_stepped_through_from_any_window(made):
    settings = [part for part in SMALL if "dreams" not in part]
    steps = from_window(made, 6, *settings, "openloop.dreams=2")
    assert steps.type("left x2", "recorded").shape == (4, 64, 128, 3)
    np.testing.assert_array_equal(steps.frames[0][:, :64], steps.frames[0][:, 64:])
    assert (steps.frames[1][:, :64] != steps.frames[1][:, 64:]).any()
    with pytest.raises(Problem, match=r"there is no window 7: they are 0 to 6"):
        from_window(made, 7, *settings)
