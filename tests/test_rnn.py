"""M: the published model, the fast path against the plain one, the data feed, training, resuming and its faults."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnn.model
from envs.worlds import WORLDS
from experiment.backend import tf
from experiment.config import load_config
from experiment.files import read_json
from experiment.metrics import read_metrics
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Env, Experiment, Rnn
from experiment.training import learning_rate
from extract.rollouts import Sequences
from rnn.mixture import log_likelihood
from rnn.model import MDNRNN, build_rnn, load_rnn
from rnn.series import Batch, Series
from rnn.training import Learner, train
from rnn.unrolled import LSTMState, loss_of_hidden, losses, run_sequence
from rnn.validation import Validation, Validator, describe, figures
from tests.commands import PROJECT, python
from vae.latents import Latents, write_latents

TINY = ["vae.z=4", "rnn.hidden=16", "rnn.mixtures=2", "rnn.streams=4", "rnn.window=6", "rnn.steps=12", "rnn.epochs=4"]
TINY += ["extract.episodes=20", "data.val_ratio=0.2", "hardware.precision=float32"]


@pytest.fixture
def settings() -> Experiment:
    return load_config(PROJECT / "configs" / "doom.yaml", overrides=TINY)


def write_tiny_latents(path: Path, episodes: int = 20, latent_size: int = 4) -> None:
    """Episodes of 5 to 30 frames, every third cut; z[0] follows the action, z[1] is high before a death.

    The reward is told by z[0] and the action.
    """
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
    rewards = (mu[:, 0] * 2 + actions).astype(np.float32)
    parts = [(mu, np.full_like(mu, -4))]
    write_latents(path, parts, Sequences(actions, rewards, terminated, truncated, lengths, [len(lengths)]))


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


def test_heads_add_a_number_of_the_output_each_and_done_the_restart_flag():
    size, bare = (32, 3, 256, 5), 422_368
    assert MDNRNN(*size, predict_done=False, predict_reward=True).count_params() == bare + 256 + 1
    assert MDNRNN(*size, predict_done=True).count_params() == bare + 256 + 1 + 4 * 256
    both = MDNRNN(*size, predict_done=True, predict_reward=True)
    assert both.count_params() == bare + 2 * (256 + 1) + 4 * 256
    assert (both.input_size, both.mixture_size, both.output_kernel.shape[1]) == (36, 480, 482)


@pytest.mark.parametrize(("done", "reward"), [(False, False), (True, False), (False, True), (True, True)])
def test_outputs_are_the_mixture_then_the_reward_then_done(done: bool, reward: bool):
    model = MDNRNN(2, 1, 3, 2, predict_done=done, predict_reward=reward)
    outputs = np.arange(2 * 16, dtype=np.float32).reshape(2, 16)[:, : 12 + done + reward]
    for given in (outputs, np.pad(outputs, ((0, 0), (0, 5)))):  # the dream pads them
        predicted = model.split(tf.constant(given))
        np.testing.assert_array_equal(predicted.mixture.mean, outputs[:, 4:8].reshape(2, 2, 2))
        assert (predicted.reward is None, predicted.done_logit is None) == (not reward, not done)
        if reward:
            np.testing.assert_array_equal(predicted.reward, outputs[:, 12])
        if done:
            np.testing.assert_array_equal(predicted.done_logit, outputs[:, 12 + reward])


def test_dropout_spares_the_action_and_restart_and_is_another_in_every_batch():
    model = MDNRNN(64, 1, 512, 5, True, dropout=0.25)
    drawn = np.random.default_rng(0).random((400, 578), np.float32)
    mask = model.mask(drawn, xp=np)
    np.testing.assert_allclose(model.mask(tf.constant(drawn)), mask, rtol=1e-6)
    assert (mask[:, 64:66] == 1).all()
    others = np.delete(mask, [64, 65], axis=1)
    np.testing.assert_array_equal(others == 0, np.delete(drawn, [64, 65], axis=1) < 0.25)
    np.testing.assert_allclose(others[others > 0], 4 / 3)
    learner = Learner(model, Rnn(streams=8))
    first, again = learner.mask().numpy(), learner.mask().numpy()
    learner.optimizer.iterations.assign(1)
    np.testing.assert_array_equal(first, again)
    assert (first != learner.mask().numpy()).any() and (first[0] != first[1]).any()
    assert Learner(MDNRNN(64, 1, 512, 5, True), Rnn(streams=8)).mask() is None


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
        mixture, reward, done_logit = model.head(h)
        assert reward is None and done_logit is None
        for name in ("log_mix", "mean", "log_std"):
            expected = data[name][:, t].transpose(0, 2, 1)  # (B, Z, K) to (B, K, Z)
            np.testing.assert_allclose(getattr(mixture, name), expected, atol=1e-4)
    np.testing.assert_allclose(h, data["final_h"], atol=1e-4)
    np.testing.assert_allclose(c, data["final_c"], atol=1e-4)


def test_published_model_unrolled():
    model, data = published()
    zeros = tf.zeros((2, 256))
    inputs = tf.constant(data["inputs"].transpose(1, 0, 2), tf.float32)
    hidden, state = run_sequence(model, inputs, tf.ones((20, 2)), LSTMState(zeros, zeros))
    mixture, _, _ = model.head(hidden[-1])
    np.testing.assert_allclose(mixture.mean, data["mean"][:, -1].transpose(0, 2, 1), atol=1e-4)
    np.testing.assert_allclose(state.c, data["final_c"], atol=1e-4)


# The fast path


HEADS = [
    ("float32", 1e-5, True, False, 32, 0.0),
    ("mixed_bfloat16", 3e-2, True, False, 32, 0.0),
    ("float32", 1e-5, True, True, 256, 0.3),
    ("mixed_bfloat16", 3e-2, False, True, 32, 0.3),
    ("float32", 1e-5, False, False, 32, 0.0),
]


@pytest.mark.parametrize(("dtype", "tolerance", "predict_done", "predict_reward", "aligned", "dropout"), HEADS)
def test_unrolled_is_the_plain_loop(
    dtype: str,
    tolerance: float,
    predict_done: bool,
    predict_reward: bool,
    aligned: int,
    dropout: float,
    monkeypatch: pytest.MonkeyPatch,
):
    """Loss, state and gradients, with restarts, dropout and every mask; relative to the largest gradient of each weight."""
    monkeypatch.setattr(rnn.model, "ALIGNED", aligned)  # of float32's four gates of 8, padded or not
    steps, streams, random = 7, 3, np.random.default_rng(0)
    heads = {"predict_done": predict_done, "predict_reward": predict_reward}
    model = MDNRNN(4, 1, 8, 2, **heads, dropout=dropout, dtype=dtype)
    plain = MDNRNN(4, 1, 8, 2, **heads, dtype="float32")
    plain.set_weights(model.get_weights())
    inputs, z = random.normal(size=(steps, streams, model.input_size)), random.normal(size=(steps, streams, 4))
    shares = np.reshape([0.7, 0.8, 0.3, 0.8, 0.7], (5, 1, 1))
    keep, z_mask, done, done_mask, reward_mask = (random.random((5, steps, streams)) < shares).astype("f")
    reward = random.normal(size=(steps, streams)).astype("f")
    inputs, z = tf.constant(inputs, tf.float32), tf.constant(z, tf.float32)
    h, c = (tf.constant(random.normal(size=(streams, 8)), tf.float32) for _ in range(2))
    parts = (z_mask, done, done_mask, reward, reward_mask)
    dropped = np.where(random.random((streams, model.input_size + 8)) < dropout, 0, 1 / (1 - dropout)).astype("f")
    mask = tf.constant(dropped) if dropout else None
    targets = Batch(None, None, tf.reshape(z, (-1, 4)), *(part.ravel() for part in parts))

    with tf.GradientTape() as tape:
        hidden, state = run_sequence(model, inputs, tf.constant(keep), LSTMState(h, c), mask)
        loss, found = loss_of_hidden(model, hidden, targets, done_weight=10, reward_weight=0.5)
    gradients = tape.gradient(loss, model.trainable_weights)

    with tf.GradientTape() as tape:
        outputs = []
        for t in range(steps):
            seen, h = inputs[t] * dropped[:, : model.input_size], h * dropped[:, model.input_size :]
            h, c = plain.step(seen, h * keep[t][:, None], c * keep[t][:, None])
            outputs.append(plain.product(h, plain.output_kernel) + plain.output_bias)
        expected_parts = losses(plain, tf.concat(outputs, axis=0), targets, done_weight=10)
        expected = expected_parts.z_nll + expected_parts.done_loss + 0.5 * expected_parts.reward_error
    expected_gradients = tape.gradient(expected, plain.trainable_weights)

    np.testing.assert_allclose([loss, *found], [expected, *expected_parts], rtol=tolerance)
    assert (found.done_loss > 0.1, found.reward_error > 0.1) == (predict_done, predict_reward)
    np.testing.assert_allclose(state.h, h, atol=tolerance)
    np.testing.assert_allclose(state.c, c, atol=tolerance)
    for gradient, plain_gradient in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, plain_gradient, atol=tolerance * np.abs(plain_gradient).max())


def test_losses_are_the_originals():
    """Against numpy in float64: masked means, endings counted done_weight times; and the reward's squared error."""
    random = np.random.default_rng(0)
    model = MDNRNN(1, 1, 2, 1, predict_done=True, predict_reward=True)
    mean, log_std, guess, logit = random.normal(size=(4, 6))
    z, done, reward = random.normal(size=6), np.array([1, 0, 0, 1, 0, 0]), random.normal(size=6) * 3
    z_mask, done_mask, reward_mask = np.array([[0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0], [1, 0, 1, 1, 1, 0]])
    outputs = np.stack([np.zeros(6), mean, log_std, guess, logit], axis=1).astype(np.float32)
    parts = (part.astype("f") for part in (z[:, None], z_mask, done, done_mask, reward, reward_mask))
    targets = Batch(None, None, *parts)
    parts = losses(model, outputs, targets, done_weight=10)
    nll = 0.5 * ((z - mean) / np.exp(log_std)) ** 2 + log_std + 0.5 * np.log(2 * np.pi)
    entropy = np.where(done, 10 * np.log(1 + np.exp(-logit)), np.log(1 + np.exp(logit)))
    error = (guess - reward) ** 2
    expected = [np.mean(part[mask > 0]) for part, mask in ((nll, z_mask), (entropy, done_mask), (error, reward_mask))]
    np.testing.assert_allclose(parts, expected, rtol=1e-5)
    nothing = losses(model, outputs, targets._replace(reward_mask=np.zeros(6, "f")), done_weight=10)
    assert nothing.reward_error == 0


# The data feed


def series_of(latents: Latents, world: str = "doom", **options: Any) -> Series:
    """What an M of these settings is trained on."""
    settings = Experiment(env=Env(name=world), rnn=Rnn(hidden=8, **options))
    return Series(latents, build_rnn(settings), settings.rnn.reward_limits)


def test_m_sees_the_action_as_executed_or_raw(run: Run):
    latents = Latents.load(run.latents)
    half = replace(latents, actions=latents.actions * 0.5)  # -0.5, 0, 0.5 are executed as -1, 0, 1
    for action, expected in (("executed", latents.actions), ("raw", half.actions)):
        batch = next(series_of(half, action=action).validation(np.arange(1), streams=1, window=5))
        np.testing.assert_array_equal(batch.inputs[:, 0, 4], expected[:5])


def test_m_sees_three_actions_and_no_restart_flag_unless_it_predicts_done(run: Run):
    latents = Latents.load(run.latents)
    raw = np.random.default_rng(0).uniform(-1, 1, (latents.frames, 3)).astype("f")
    latents = replace(latents, actions=raw)
    for action, expected in (("executed", WORLDS["carracing"].execute(raw)), ("raw", raw)):
        series = series_of(latents, "carracing", action=action, predict_done=False)
        batch = next(series.validation(np.arange(1), streams=1, window=5))
        assert batch.inputs.shape == (5, 1, 4 + 3)
        np.testing.assert_array_equal(batch.inputs[:, 0, 4:], expected[:5])


def test_m_learns_the_reward_of_its_action_within_limits(run: Run):
    latents = Latents.load(run.latents)
    series = series_of(latents, reward_limits=[-1.0, 2.0])
    batches = list(series.validation(np.arange(2), streams=3, window=6))  # one of the streams has nothing to play
    rows = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in ("reward", "reward_mask")}
    rewards = latents.rewards.clip(-1, 2)
    assert (rewards != latents.rewards).any()
    for stream, episode in enumerate((0, 1)):
        first, length = latents.episode_starts[episode], latents.lengths[episode]
        np.testing.assert_array_equal(rows["reward"][:length, stream], rewards[first : first + length])
        mask = rows["reward_mask"][:, stream]
        assert mask.tolist() == [1] * length + [0] * (len(mask) - length)
    assert not rows["reward_mask"][:, 2].any() and not rows["reward"][:, 2].any()


def test_streams_play_every_episode_in_full(run: Run):
    """Validation shows every step of the chosen episodes once, in order, with the right flags and masks."""
    latents = Latents.load(run.latents)
    latents.logvar[:] = -100  # no noise: z is mu
    batches = list(series_of(latents).validation(np.arange(7), streams=3, window=6))
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
    series = series_of(Latents.load(run.latents))
    whole = series.training(np.arange(15), streams=4, window=6, seed=1)
    batches = [next(whole) for _ in range(30)]
    for part, expected in zip(next(series.training(np.arange(15), 4, 6, seed=1, start=29)), batches[29], strict=True):
        np.testing.assert_array_equal(part, expected)
    assert not np.array_equal(batches[0].inputs, next(series.training(np.arange(15), 4, 6, seed=2)).inputs)
    assert all(batch.z_mask.mean() > 0.5 for batch in batches)  # endless: never padding


def test_latents_are_drawn_with_their_variance(run: Run):
    latents = Latents.load(run.latents)
    latents.mu[:], latents.logvar[:] = 1, np.log(0.25)
    series = series_of(latents, predict_done=False)
    batches = series.training(np.arange(15), streams=50, window=50, seed=0)
    z = next(batches).inputs[:, :, :4]  # 10,000 numbers
    assert abs(z.mean() - 1) < 0.025
    assert abs(z.std() - 0.5) < 0.02


# Validation


def test_done_figures():
    logit = np.array([5.0, 5.0, -5.0, -5.0, 5.0])
    nothing = np.array([])
    v = figures(np.ones(3), logit, np.array([True, True, True, False, False]), nothing, nothing, done_weight=10)
    assert (v.precision, v.recall, v.endings, v.z_nll) == (2 / 3, 2 / 3, 3, 1)
    soft = np.log1p(np.exp(-5))
    assert v.done_loss == pytest.approx((2 * 10 * soft + 10 * (5 + soft) + soft + 5 + soft) / 5)
    assert v.reward_error == 0 and np.isnan(v.reward_explained) and v.summary()["reward_explained"] is None
    assert "variance" not in describe(v) and "of 3 endings" in describe(v)


def test_reward_figures():
    reward = np.array([0.0, 1.0, 2.0, 5.0])  # variance 3.5
    nothing = np.array([])

    def of(predicted: np.ndarray) -> Validation:
        return figures(np.ones(4), nothing, nothing.astype(bool), reward, predicted, 10.0, reward_weight=0.5)

    v = of(reward + [1, -1, 0, 0])
    assert v.reward_error == 0.5 and v.reward_explained == pytest.approx(1 - 0.5 / 3.5)
    assert v.loss == 1 + 0.5 * 0.5 and v.done_loss == 0 and v.endings == 0
    assert of(reward).reward_explained == 1
    assert of(np.full(4, 2.0)).reward_explained == 0  # the mean
    assert "reward: 86% of its variance is explained" in describe(v) and "endings" not in describe(v)


@pytest.mark.parametrize("predict_done", [True, False])
def test_validation_is_that_of_a_plain_loop(run: Run, predict_done: bool):
    """Over windows of streams with a carried state, against step after step of each episode alone."""
    settings = Rnn(predict_done=predict_done, predict_reward=True)
    latents = Latents.load(run.latents)
    latents.logvar[:] = -100  # no noise: z is mu
    model = MDNRNN(4, 1, 8, 2, predict_done=predict_done, predict_reward=True)
    series = Series(latents, model, settings.reward_limits)
    v = Validator(model, settings.done_weight, settings.reward_weight)(series.validation(np.arange(7), 3, 6))
    guesses, rewards, nlls = [], [], []
    for episode in range(7):
        h = c = tf.zeros((1, 8))
        first, length = latents.episode_starts[episode], latents.lengths[episode]
        for t in range(first, first + length):
            restart = [t == first] if predict_done else []
            inputs = np.concatenate([latents.mu[t], [latents.actions[t]], restart]).astype("f")
            h, c = model.step(inputs[None], h, c)
            mixture, reward, _ = model.head(h)
            guesses.append(float(reward[0]))
            rewards.append(float(latents.rewards[t].clip(*settings.reward_limits)))
            if t < first + length - 1:
                nlls.append(-np.mean(log_likelihood(mixture, latents.mu[t + 1 : t + 2].astype("f"))))
    error = np.mean(np.subtract(guesses, rewards) ** 2)
    assert v.z_nll == pytest.approx(np.mean(nlls), rel=1e-4)
    assert v.reward_error == pytest.approx(error, rel=1e-4)
    assert v.reward_explained == pytest.approx(1 - error / np.var(rewards), abs=1e-4)
    assert v.endings == (latents.terminated[: first + length].sum() if predict_done else 0)
    assert v.loss == pytest.approx(v.z_nll + v.done_loss + settings.reward_weight * error, rel=1e-4)


def test_calibration_of_a_calibrated_and_a_boastful_model():
    random = np.random.default_rng(0)
    probability = random.choice([0.002, 0.2], 200_000)
    ended = random.random(200_000) < probability
    nothing = np.array([])
    for shown, least, most in ((probability, 0, 0.003), (np.minimum(probability * 2, 1), 0.096, 0.106)):
        v = figures(np.ones(1), np.log(shown / (1 - shown)), ended, nothing, nothing, done_weight=1)
        assert least <= v.calibration_error < most
        assert sum(v.calibration["steps"]) == 200_000


# Training, resuming and faults


KILLED_AT_STEP_8 = """
import os, signal, sys
from experiment.config import load_config
from experiment.run import Run
from rnn import training

def die(self, frames, note, original=training.Progress.update, steps=[]):
    original(self, frames, note)
    steps.append(note)
    if len(steps) == 8:
        os.kill(os.getpid(), signal.SIGKILL)

training.Progress.update = die
training.train(load_config(sys.argv[1], overrides=sys.argv[3:]), Run(sys.argv[2]))
"""


def test_killed_training_goes_on_to_the_same_end(run: Run, settings: Experiment, tmp_path: Path):
    other = Run(tmp_path / "other")
    other.path.mkdir()
    write_tiny_latents(other.latents)
    killed = python("-c", KILLED_AT_STEP_8, PROJECT / "configs" / "doom.yaml", other.path, *TINY, timeout=600)
    assert killed.returncode == -signal.SIGKILL
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


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("done", 2), ("last", 3)])
def test_the_epoch_that_is_asked_for_is_kept(run, settings, keep, epoch, monkeypatch):
    weights = []
    told = iter([(3.0, 0.4), (1.0, 0.3), (2.0, 0.1), (2.5, 0.2), (1.0, 0.3)])

    def validate(self, _):
        weights.append(self.model.get_weights())
        loss, done_loss = next(told)
        return original(self, _)._replace(loss=loss, done_loss=done_loss)

    original = Validator.__call__
    monkeypatch.setattr(Validator, "__call__", validate)
    train(replace(settings, rnn=replace(settings.rnn, keep=keep)), run)
    for value, expected in zip(load_rnn(run, settings).get_weights(), weights[epoch], strict=True):
        np.testing.assert_array_equal(value, expected)


def test_the_originals_rate_decays():
    rate = learning_rate(Rnn(schedule="decay", learning_rate=1e-3, decay=0.99), steps=200)
    assert float(rate(0)) == pytest.approx(1e-3)
    assert float(rate(100)) == pytest.approx(1e-3 * 0.99**100, rel=1e-4)


def test_rewards_are_learnt(run: Run, settings: Experiment):
    """The reward is a plain function of what M sees: some steps of training explain most of it."""
    m = replace(
        settings.rnn,
        predict_reward=True,
        predict_done=False,
        reward_weight=3.0,
        steps=200,
        epochs=2,
        learning_rate=0.01,
    )
    train(replace(settings, rnn=m), run)
    history = read_metrics(run.metrics / "rnn.csv")
    assert history["reward_explained"][-1] > 0.7
    assert not history["done_loss"].any()
    assert read_json(run.results)["evaluations"]["rnn"]["reward_explained"] > 0.7
    losses = read_metrics(run.metrics / "rnn_losses.csv")
    np.testing.assert_allclose(losses["loss"], losses["z_nll"] + 3 * losses["reward_error"], atol=1e-4)


def test_an_m_that_is_not_trained_keeps_its_first_weights(run: Run, settings: Experiment):
    untrained = replace(settings, rnn=replace(settings.rnn, train=False))
    assert train(untrained, run) == {"frames": 0}
    for weight, first in zip(load_rnn(run, untrained).weights, build_rnn(untrained).weights, strict=True):
        np.testing.assert_array_equal(weight, first)


def test_a_later_iteration_begins_with_the_weights_of_the_one_before(run: Run, settings: Experiment):
    learnt = build_rnn(replace(settings, rnn=replace(settings.rnn, seed=5)))
    learnt.save_weights(run.rnn_weights)
    later = run.at(2)
    later.path.mkdir(parents=True)
    write_tiny_latents(later.latents)
    slow = replace(settings, rnn=replace(settings.rnn, learning_rate=1e-9, final_rate=0.0))
    train(slow, later)
    for weight, first in zip(load_rnn(later, slow).weights, learnt.weights, strict=True):
        np.testing.assert_allclose(weight, first, atol=1e-6)


def test_nan_stops_and_keeps_the_weights_before_it(run: Run, settings: Experiment, monkeypatch: pytest.MonkeyPatch):
    training = Series.training

    def poisoned(*arguments: object, **keywords: object) -> Iterator[Batch]:
        for number, batch in enumerate(training(*arguments, **keywords)):  # type: ignore[arg-type]
            yield batch._replace(inputs=batch.inputs * np.nan) if number == 4 else batch

    monkeypatch.setattr(Series, "training", poisoned)
    with pytest.raises(
        Problem,
        match=r"training M: loss not a number at step 5; the last good weights are kept in .*rnn.weights.h5\. Try",
    ):
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
    with pytest.raises(Problem, match=r"rnn\.predict_reward=True"):
        load_rnn(run, replace(settings, rnn=replace(settings.rnn, predict_reward=True)))
    run.rnn_weights.write_bytes(run.rnn_weights.read_bytes()[:1000])
    with pytest.raises(Problem, match="run `python -m rnn` again"):
        load_rnn(run, settings)
