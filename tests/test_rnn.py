"""M: the published model, the fast path against the plain one, the data feed, training, resuming and its faults."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from experiment.config import load_config
from experiment.files import read_json
from experiment.metrics import read_metrics
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment
from extract.rollouts import Sequences
from rnn.model import MDNRNN, build_rnn, load_rnn
from rnn.series import Batch, Series
from rnn.training import train
from rnn.unrolled import State, Targets, loss_of_hidden, losses, run_sequence
from rnn.validation import calibrate, figures
from vae.latents import Latents, write_latents

ROOT = Path(__file__).parent.parent
TINY = ["vae.z=4", "rnn.hidden=16", "rnn.mixtures=2", "rnn.streams=4", "rnn.window=6", "rnn.steps=12", "rnn.epochs=4"]
TINY += ["extract.episodes=20", "data.val_ratio=0.2", "hardware.precision=float32"]


@pytest.fixture
def settings() -> Experiment:
    return load_config(ROOT / "configs" / "doom.yaml", overrides=TINY)


def write_tiny_latents(path: Path, episodes: int = 20, latent_size: int = 4) -> None:
    """Episodes of 5 to 30 frames, every third cut; z[0] follows the action, and z[1] is high before a death."""
    random = np.random.default_rng(0)
    lengths = random.integers(5, 31, episodes)
    frames, ends = int(lengths.sum()), np.cumsum(lengths) - 1
    terminated, truncated = np.zeros(frames, bool), np.zeros(frames, bool)
    terminated[ends], truncated[ends[::3]] = True, True
    terminated[ends[::3]] = False
    actions = random.integers(-1, 2, frames).astype(np.float32)
    mu = random.normal(size=(frames, latent_size)) * 0.1
    mu[1:, 0] += actions[:-1]
    mu[terminated, 1] += 3
    parts = [(mu, np.full_like(mu, -4))]
    write_latents(
        path, parts, Sequences(actions, np.ones(frames, np.float32), terminated, truncated, lengths, [len(lengths)])
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.path.mkdir()
    write_tiny_latents(run.latents)
    return run


# The model


@pytest.mark.parametrize(
    ("size", "parameters"),
    [((64, 1, 512, 5, True), 1_678_785), ((32, 3, 256, 5, False), 422_368)],
    ids=["doom", "carracing"],
)
def test_parameter_counts_are_the_papers(size: tuple[int, int, int, int, bool], parameters: int):
    assert MDNRNN(*size).count_params() == parameters


def published() -> tuple[MDNRNN, dict[str, np.ndarray]]:
    """The published CarRacing M; its output columns are ordered (z, part, component), ours (part, component, z)."""
    data = dict(np.load(Path(__file__).parent / "data" / "carracing_mdn_rnn_published.npz"))
    model = MDNRNN(32, 3, 256, 5, predict_done=False)
    kernel, bias = (
        data[name].reshape(-1, 32, 3, 5).transpose(0, 2, 3, 1).reshape(-1, 480)
        for name in ("output_kernel", "output_bias")
    )
    model.set_weights([data["lstm_kernel"], data["lstm_bias"], kernel, bias[0]])
    return model, data


def test_published_model_step_by_step():
    model, data = published()
    h = c = np.zeros((2, 256), np.float32)
    for t in range(20):
        h, c = model.step(data["inputs"][:, t].astype(np.float32), h, c)
        mixture, _ = model.head(h)
        for name in ("log_mix", "mean", "log_std"):
            expected = data[name][:, t].transpose(0, 2, 1)  # (B, Z, K) to (B, K, Z)
            np.testing.assert_allclose(getattr(mixture, name), expected, atol=1e-4)
    np.testing.assert_allclose(h, data["final_h"], atol=1e-4)
    np.testing.assert_allclose(c, data["final_c"], atol=1e-4)


def test_published_model_unrolled():
    model, data = published()
    zeros = tf.zeros((2, 256))
    inputs = tf.constant(data["inputs"].transpose(1, 0, 2), tf.float32)
    hidden, state = run_sequence(model, inputs, tf.ones((20, 2)), State(zeros, zeros))
    mixture, _ = model.head(hidden[-1])
    np.testing.assert_allclose(mixture.mean, data["mean"][:, -1].transpose(0, 2, 1), atol=1e-4)
    np.testing.assert_allclose(state.c, data["final_c"], atol=1e-4)


# The fast path


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 3e-2)])
def test_unrolled_is_the_plain_loop(dtype: str, tolerance: float):
    """Loss, state and gradients, with restarts and every mask; relative to the largest gradient of each weight."""
    steps, streams, random = 7, 3, np.random.default_rng(0)
    model = MDNRNN(4, 1, 8, 2, predict_done=True, dtype=dtype)
    plain = MDNRNN(4, 1, 8, 2, predict_done=True, dtype="float32")
    plain.set_weights(model.get_weights())
    inputs, z = random.normal(size=(steps, streams, 6)), random.normal(size=(steps, streams, 4))
    keep, z_mask, done, done_mask = (random.random((4, steps, streams)) < [[[0.7]], [[0.8]], [[0.3]], [[0.8]]]).astype(
        "f"
    )
    inputs, z = tf.constant(inputs, tf.float32), tf.constant(z, tf.float32)
    h, c = (tf.constant(random.normal(size=(streams, 8)), tf.float32) for _ in range(2))
    targets = Targets(tf.reshape(z, (-1, 4)), *(part.ravel() for part in (z_mask, done, done_mask)))

    with tf.GradientTape() as tape:
        hidden, state = run_sequence(model, inputs, tf.constant(keep), State(h, c))
        loss, z_loss, done_loss = loss_of_hidden(model, hidden, targets, done_weight=10)
    gradients = tape.gradient(loss, model.trainable_weights)

    with tf.GradientTape() as tape:
        outputs = []
        for t in range(steps):
            h, c = plain.step(inputs[t], h * keep[t][:, None], c * keep[t][:, None])
            outputs.append(plain.product(h, plain.output_kernel) + plain.output_bias)
        expected_parts = losses(plain, tf.concat(outputs, axis=0), targets, done_weight=10)
        expected = expected_parts[0] + expected_parts[1]
    expected_gradients = tape.gradient(expected, plain.trainable_weights)

    np.testing.assert_allclose([loss, z_loss, done_loss], [expected, *expected_parts], rtol=tolerance)
    np.testing.assert_allclose(state.h, h, atol=tolerance)
    np.testing.assert_allclose(state.c, c, atol=tolerance)
    for gradient, plain_gradient in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, plain_gradient, atol=tolerance * np.abs(plain_gradient).max())


def test_losses_are_the_originals():
    """Against numpy in float64: masked means, endings counted done_weight times."""
    random = np.random.default_rng(0)
    model = MDNRNN(1, 1, 2, 1, predict_done=True)
    mean, log_std, logit = random.normal(size=(3, 6))
    z, done = random.normal(size=6), np.array([1, 0, 0, 1, 0, 0])
    z_mask, done_mask = np.array([0, 1, 1, 1, 1, 0]), np.array([1, 1, 1, 1, 1, 0])
    outputs = np.stack([np.zeros(6), mean, log_std, logit], axis=1).astype(np.float32)
    parts = losses(
        model, outputs, Targets(*(a.astype("f") for a in (z[:, None], z_mask, done, done_mask))), done_weight=10
    )
    nll = 0.5 * ((z - mean) / np.exp(log_std)) ** 2 + log_std + 0.5 * np.log(2 * np.pi)
    entropy = np.where(done, 10 * np.log(1 + np.exp(-logit)), np.log(1 + np.exp(logit)))
    np.testing.assert_allclose(parts, [np.mean(nll[z_mask > 0]), np.mean(entropy[done_mask > 0])], rtol=1e-5)


# The data feed


def test_m_sees_the_action_as_executed_or_raw(run: Run):
    latents = Latents.load(run.latents)
    half = replace(latents, actions=latents.actions * 0.5)  # -0.5, 0, 0.5 are executed as -1, 0, 1
    for action, expected in (("executed", latents.actions), ("raw", half.actions)):
        batch = next(Series(half, True, action).validation(np.arange(1), streams=1, window=5))
        np.testing.assert_array_equal(batch.inputs[:, 0, 4], expected[:5])


def test_streams_play_every_episode_in_full(run: Run):
    """Validation shows every step of the chosen episodes once, in order, with the right flags and masks."""
    latents = Latents.load(run.latents)
    latents.logvar[:] = -100  # no noise: z is mu
    batches = list(Series(latents, predict_done=True).validation(np.arange(7), streams=3, window=6))
    rows = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in batches[0]._fields}
    seen = 0
    for stream in range(3):
        starts = np.flatnonzero(rows["keep"][:, stream] == 0)
        for start in starts[
            rows["done_mask"][starts, stream] + rows["z_mask"][starts, stream] > 0
        ]:  # the rest is padding
            begin = rows["inputs"][start, stream, :4]
            episode = next(e for e in range(7) if np.allclose(latents.mu[latents.episode_starts[e]], begin))
            first, length = latents.episode_starts[episode], latents.lengths[episode]
            last, here = first + length - 1, slice(start, start + length)
            np.testing.assert_allclose(rows["inputs"][here, stream, :4], latents.mu[first : last + 1])
            np.testing.assert_allclose(rows["inputs"][here, stream, 4], latents.actions[first : last + 1])
            np.testing.assert_allclose(rows["z"][here, stream][:-1], latents.mu[first + 1 : last + 1])
            assert rows["inputs"][here, stream, 5].tolist() == [1] + [0] * (length - 1)
            assert rows["keep"][here, stream].tolist() == [0] + [1] * (length - 1)
            assert rows["z_mask"][here, stream].tolist() == [1] * (length - 1) + [0]
            assert rows["done"][here, stream].tolist() == [0] * (length - 1) + [latents.terminated[last]]
            assert rows["done_mask"][here, stream].tolist() == [1] * (length - 1) + [not latents.truncated[last]]
            seen += length
    assert seen == latents.lengths[:7].sum() == rows["z_mask"].sum() + 7


def test_training_batches_follow_from_seed_and_number(run: Run):
    series = Series(Latents.load(run.latents), predict_done=True)
    whole = series.training(np.arange(15), streams=4, window=6, seed=1)
    batches = [next(whole) for _ in range(30)]
    for part, expected in zip(next(series.training(np.arange(15), 4, 6, seed=1, start=29)), batches[29], strict=True):
        np.testing.assert_array_equal(part, expected)
    assert not np.array_equal(batches[0].inputs, next(series.training(np.arange(15), 4, 6, seed=2)).inputs)
    assert all(batch.z_mask.mean() > 0.5 for batch in batches)  # endless: never padding


def test_latents_are_drawn_with_their_variance(run: Run):
    latents = Latents.load(run.latents)
    latents.mu[:], latents.logvar[:] = 1, np.log(0.25)
    batches = Series(latents, predict_done=False).training(np.arange(15), streams=50, window=50, seed=0)
    z = next(batches).inputs[:, :, :4]  # 10,000 numbers
    assert abs(z.mean() - 1) < 0.025
    assert abs(z.std() - 0.5) < 0.02


# Validation


def test_done_figures():
    logit = np.array([5.0, 5.0, -5.0, -5.0, 5.0])
    v = figures(np.ones(3), logit, np.array([True, True, True, False, False]), done_weight=10)
    assert (v.precision, v.recall, v.endings, v.z_nll) == (2 / 3, 2 / 3, 3, 1)
    soft = np.log1p(np.exp(-5))
    assert v.done_loss == pytest.approx((2 * 10 * soft + 10 * (5 + soft) + soft + 5 + soft) / 5)


def test_calibration_of_a_calibrated_and_a_boastful_model():
    random = np.random.default_rng(0)
    probability = random.choice([0.002, 0.2], 200_000)
    ended = random.random(200_000) < probability
    assert calibrate(probability, ended).error() < 0.003
    assert calibrate(np.minimum(probability * 2, 1), ended).error() == pytest.approx(0.101, abs=0.005)


# Training, resuming and faults


KILLED_AT_STEP_8 = """
import os, signal, sys
from experiment.config import load_config
from experiment.run import Run
from rnn import training

def die(self, batch, logs=None, original=training.Keeper.on_train_batch_end):
    original(self, batch, logs)
    if self.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

training.Keeper.on_train_batch_end = die
training.train(load_config(sys.argv[1], overrides=sys.argv[3:]), Run(sys.argv[2]))
"""


def test_killed_training_goes_on_to_the_same_end(run: Run, settings: Experiment, tmp_path: Path):
    other = Run(tmp_path / "other")
    other.path.mkdir()
    write_tiny_latents(other.latents)
    command = [sys.executable, "-c", KILLED_AT_STEP_8, ROOT / "configs" / "doom.yaml", other.path, *TINY]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == -signal.SIGKILL
    train(settings, other)

    train(settings, run)
    history = read_metrics(run.metrics / "rnn.csv")
    assert history["step"].tolist() == [3, 6, 9, 12]
    assert history["loss"][-1] < history["loss"][0]
    assert read_json(run.results)["evaluations"]["rnn"]["loss"] == pytest.approx(history["loss"].min(), rel=1e-4)
    for weight, expected in zip(load_rnn(other, settings).weights, load_rnn(run, settings).weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-5)
    for name in ("rnn.csv", "rnn_losses.csv"):
        rows, expected_rows = read_metrics(other.metrics / name), read_metrics(run.metrics / name)
        for column, expected_column in expected_rows.items():
            np.testing.assert_allclose(rows[column], expected_column, rtol=1e-3)

    before = run.rnn_weights.read_bytes()
    train(settings, run)  # complete: nothing is trained any more
    assert run.rnn_weights.read_bytes() == before


def test_nan_stops_and_keeps_the_weights_before_it(run: Run, settings: Experiment, monkeypatch: pytest.MonkeyPatch):
    training = Series.training

    def poisoned(*arguments: object, **keywords: object) -> Iterator[Batch]:
        for number, batch in enumerate(training(*arguments, **keywords)):  # type: ignore[arg-type]
            yield batch._replace(inputs=batch.inputs * np.nan) if number == 4 else batch

    monkeypatch.setattr(Series, "training", poisoned)
    with pytest.raises(Problem, match=r"nan at step 5 .*rnn.weights.h5 keeps"):
        train(settings, run)
    assert all(np.all(np.isfinite(weight)) for weight in load_rnn(run, settings).weights)


def test_weights_that_do_not_fit_are_a_problem(run: Run, settings: Experiment):
    with pytest.raises(Problem, match="missing"):
        load_rnn(run, settings)
    build_rnn(settings).save_weights(run.rnn_weights)
    load_rnn(run, settings)
    with pytest.raises(Problem, match=r"rnn\.hidden=8"):
        load_rnn(run, replace(settings, rnn=replace(settings.rnn, hidden=8)))
    with pytest.raises(Problem, match=r"rnn\.predict_done=False"):
        load_rnn(run, replace(settings, rnn=replace(settings.rnn, predict_done=False)))
    run.rnn_weights.write_bytes(run.rnn_weights.read_bytes()[:1000])
    with pytest.raises(Problem, match="train M again"):
        load_rnn(run, settings)
