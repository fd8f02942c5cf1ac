"""V: its size, its loss, what is computed in another way than Keras does, and training that meets with faults."""

import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controller.evolution import generation_seed
from envs.doom import burning
from envs.worlds import WORLDS
from experiment.backend import keras, save_weights, tf
from experiment.config import flatten
from experiment.metrics import read_events, read_metrics_rows
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Data, Experiment, Hardware, Rnn, Vae
from experiment.training import FusedAdam, WarmupCosine
from extract import rollouts
from extract.rollouts import Episode, Rollouts, shard_path
from rnn.model import build_rnn
from tests.fake import damage, write_shard
from vae import training
from vae.heldout import HeldOut, pick_details
from vae.model import VAE, load_vae

SETTINGS = Experiment(
    data=Data(val_ratio=0.2),
    vae=Vae(z=4, steps=8, epochs=2, batch=4, frame_stride=1),
    hardware=Hardware(precision="float32", encode_batch=7),
)


def synthetic_episode(length: int, seed: int) -> Episode:
    """A grey world with a 'fireball' that grows, and the death it brings."""
    frames = np.random.default_rng(seed).integers(50, 80, (length, 64, 64, 3), dtype=np.uint8)
    for t in range(length):
        size = t * 10 // length
        frames[t, 30 : 30 + size, 30 : 30 + size] = (255, 220, 120)
    last = np.arange(length) == length - 1
    return Episode(frames, np.zeros(length, np.float32), np.ones(length, np.float32), last, np.zeros(length, bool))


def make_rollouts(run: Run) -> None:
    for shard in range(2):
        write_shard(
            shard_path(run.rollouts, shard), [synthetic_episode(15 + shard + i, 3 * shard + i) for i in range(3)], {}
        )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder with two small shards; training saves and records every few steps."""
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 3)
    monkeypatch.setattr(training, "LOG_STEPS", 1)
    run = Run(tmp_path / "run")
    make_rollouts(run)
    return run


def start_and_kill(run: Run, patch: str, call: str) -> subprocess.Popen:
    """A process that works on `run` until it sends itself SIGKILL, as `patch` tells it to."""
    lines = [
        "import os, signal",
        "from pathlib import Path",
        "from experiment.run import Run",
        "from tests.test_vae import SETTINGS",
        "from vae import encode, training",
        "training.CHECKPOINT_STEPS, training.LOG_STEPS = 3, 1",
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)",
        patch,
        f"{call}(SETTINGS, Run({str(run.path)!r}))",
    ]
    return subprocess.Popen([sys.executable, "-c", "\n".join(lines)], cwd=Path(__file__).parents[1])


@pytest.mark.parametrize(("latent_size", "parameters"), [(64, 4_446_915), (32, 4_348_547)])
def test_has_the_published_number_of_parameters(latent_size, parameters):
    assert VAE(latent_size).count_params() == parameters


def test_every_training_seed_that_the_schema_takes_makes_a_model():
    """In every place that multiplies or adds to it; the next-frame model's is given to Keras as it is."""
    largest = {key: entry.metadata["most"] for key, _, entry in flatten(Experiment()) if key.endswith(".seed")}
    model = VAE(2, seed=largest["vae.seed"])
    model.noise.state.assign([largest["vae.seed"], 1])
    assert np.isfinite(model(np.zeros((1, 64, 64, 3), np.uint8))[0]).all()
    build_rnn(Experiment(vae=Vae(z=2), rnn=Rnn(hidden=4, seed=largest["rnn.seed"])))
    keras.utils.set_random_seed(largest["train.seed"])
    assert generation_seed(largest["controller.seed"] + 999, 10**6) < 2**31
    np.random.default_rng([largest["extract.seed"] + 999, 1])


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
    vae.call = lambda _: (reconstruction, mu, logvar)
    losses = vae.losses(keras.ops.convert_to_tensor(frames))
    np.testing.assert_allclose(losses["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(losses["squared_error"], squared_error.mean(), rtol=1e-5)
    np.testing.assert_allclose(losses["kl"], 4.505 / 3, rtol=1e-5)


def test_bytes_and_floats_are_the_same_frames():
    vae = VAE(4)
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(vae.encode(frames), vae.encode(frames / np.float32(255)), atol=1e-5)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 140, 3)])
def test_an_untrained_decoder_begins_with_the_frames_colour(colour):
    """From grey, the sigmoid overshoots a white background in the first steps, and nothing on it is learnt any more."""
    vae = VAE(4)
    vae.begin_with_colour_of(np.full((2, 64, 64, 3), colour, np.uint8))
    np.testing.assert_allclose(vae.pictures(np.zeros((1, 4), np.float32))[0].mean((0, 1)), colour, atol=3)


def test_training_from_nothing_begins_with_the_colour_of_what_was_recorded(run):
    training.train(replace(SETTINGS, vae=replace(SETTINGS.vae, steps=1, epochs=1)), run)
    assert float(read_metrics_rows(run.metrics / "vae.csv")[0]["squared_error"]) < 100  # 770 from grey


def gradients(layer, images: np.ndarray) -> list[np.ndarray]:
    """What a layer makes of images, and the gradients of a sum of it, by kernel, bias and images; as float32."""
    images = tf.constant(images, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(images)
        made = layer(images)
        loss = tf.reduce_sum(tf.cast(made, tf.float32) * np.random.default_rng(1).uniform(0.5, 1.5, made.shape))
    each = [made, *tape.gradient(loss, [layer.kernel.value, layer.bias.value, images])]
    return [tf.cast(part, tf.float32).numpy() for part in each]


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_convolution_and_its_gradients_are_those_of_keras(number, precision):
    vae = VAE(4)
    like = [each for each in (*vae.encoder.layers, *vae.decoder.layers) if hasattr(each, "kernel_size")][number]
    shape = (3, *like.input.shape[1:])
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    filters, size = like.filters, like.kernel_size[0]
    activation = like.activation if precision == "float32" else None  # in bfloat16 some numbers change their sign
    transposed = isinstance(like, keras.layers.Conv2DTranspose)
    plain = keras.layers.Conv2DTranspose if transposed else keras.layers.Conv2D
    plain = plain(filters, size, strides=2, activation=activation)
    ours = type(like)(filters, size, activation=activation, dtype=precision)
    for layer in (ours, plain):
        layer.build(shape)
        layer.set_weights([like.kernel, np.linspace(-1, 1, filters)])
    for found, expected in zip(gradients(ours, images), gradients(plain, images), strict=True):
        difference = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert difference < (1e-5 if precision == "float32" else 1e-2)


def test_fused_adam_equals_keras_adam():
    results = []
    for optimizer in (FusedAdam(0.01, epsilon=1e-8), keras.optimizers.Adam(0.01, epsilon=1e-8)):
        rng = np.random.default_rng(0)
        variables = [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in ((3, 4), (5,))]
        for _ in range(4):
            gradients = [keras.ops.convert_to_tensor(rng.normal(size=v.shape).astype(np.float32)) for v in variables]
            optimizer.apply(gradients, variables)
        results.append(np.concatenate([np.ravel(v) for v in variables]))
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_learning_rate_warms_up_stays_and_falls():
    rate = WarmupCosine(peak=1e-3, final=1e-5, steps=1000, flat_share=0.5)  # a tenth of 1,000 is less than 200
    np.testing.assert_allclose(
        [float(rate(step)) for step in (0, 49, 99, 500, 750, 1000)], [1e-5, 5e-4, 1e-3, 1e-3, 5.05e-4, 1e-5], rtol=1e-4
    )


def test_fireballs_are_found_and_shown_from_small_to_large():
    frames = synthetic_episode(40, 0).frames
    size = burning(frames).sum(axis=(1, 2))
    np.testing.assert_array_equal(size, [(t * 10 // 40) ** 2 for t in range(40)])
    shown = size[pick_details(burning(frames))]
    assert len(shown) >= 5 and shown[0] == 4 and shown[-1] == 81 - 17 and (np.diff(shown) >= 0).all()
    assert len(pick_details(burning(frames[:2]))) == 0


def test_held_out_numbers_are_those_of_a_plain_computation(run):
    held_out = HeldOut(Rollouts(run.rollouts), np.array([1, 4]), WORLDS["doom"])
    assert len(held_out.frames) == 16 + 17

    class Plain:
        """A V that reconstructs in grey and has one dimension that says something."""

        latent_size = 3

        def predict_on_batch(self, frames):
            mu = np.zeros((len(frames), 3), np.float32)
            mu[:, 1] = np.arange(len(frames))
            return np.full(frames.shape, 0.5, np.float32), mu, np.zeros_like(mu)

    numbers = held_out.evaluate(Plain())
    assert numbers["active"] == 1 and numbers["detail_found"] == 0
    np.testing.assert_allclose(numbers["kl"], np.mean(np.arange(33.0) ** 2) / 2)
    np.testing.assert_allclose(numbers["squared_error"], np.square(held_out.frames / 255 - 0.5).sum() / 33, rtol=1e-5)


def test_killed_training_comes_to_the_same_end(run, tmp_path):
    killed = Run(tmp_path / "killed")
    make_rollouts(killed)
    # Step 3 is saved; step 4 is lost, since it ends an epoch whose validation is never finished.
    patch = "training.HeldOut.evaluate = die"
    process = start_and_kill(killed, patch, "training.train")
    training.train(SETTINGS, run)
    assert process.wait(timeout=120) == -signal.SIGKILL
    assert (killed.checkpoints / "vae.weights.h5").exists() and not killed.vae_weights.exists()
    figures = training.train(SETTINGS, killed)
    assert figures["frames"] == 5 * SETTINGS.vae.batch, "steps 4 to 8 were left to do"
    for left, right in zip(
        load_vae(run, SETTINGS).get_weights(), load_vae(killed, SETTINGS).get_weights(), strict=True
    ):
        np.testing.assert_allclose(left, right, atol=1e-5)
    for name in ("vae.csv", "vae_heldout.csv"):
        left, right = read_metrics_rows(run.metrics / name), read_metrics_rows(killed.metrics / name)
        assert [row["step"] for row in left] == [row["step"] for row in right] and left[-1]["step"] == "8"
        np.testing.assert_allclose(float(left[-1]["squared_error"]), float(right[-1]["squared_error"]), rtol=1e-4)
    assert {path.name for path in run.plots.iterdir()} == {
        f"vae_{kind}_epoch_{n:02d}.png" for kind in ("frames", "fireballs") for n in (1, 2)
    }
    for each in (run, killed):
        (events,) = (each.tensorboard / "vae_heldout").iterdir()
        shown = [
            (event.step, value.tag)
            for event in read_events(events)
            for value in event.summary.value
            if value.HasField("image")
        ]
        assert shown == [(step, f"V/reconstruction/{kind}") for step in (4, 8) for kind in ("frames", "fireballs")]


def test_nan_stops_training_says_where_and_keeps_the_last_good_weights(run, monkeypatch):
    def poisoned(self, *arguments, start_batch=0, **_):
        while True:
            yield np.full((4, 64, 64, 3), np.nan if start_batch >= 4 else 0.5, np.float32)
            start_batch += 1

    settings = replace(SETTINGS, vae=replace(SETTINGS.vae, schedule="constant"))
    monkeypatch.setattr(Rollouts, "batches", poisoned)
    with pytest.raises(
        Problem, match=r"loss not a number at step 5; the last good weights are kept in .*vae\.weights\.h5"
    ):
        training.train(settings, run)
    model = training.optimized_vae(settings.vae)
    model.load_weights(run.checkpoints / "vae.weights.h5")
    assert int(model.optimizer.iterations) == 4
    assert all(np.isfinite(weights).all() for weights in model.get_weights())
    assert not run.vae_weights.exists()


def test_damage_that_training_v_meets_with_later_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(rollouts, "POOL", 32)
    run, length = Run(tmp_path), 160
    rng, last = np.random.default_rng(0), np.arange(length) == length - 1
    frames = rng.integers(0, 256, (length, 64, 64, 3), dtype=np.uint8)
    zeros = np.zeros(length, np.float32)
    episode = Episode(frames, zeros, zeros, last, np.zeros(length, bool))
    write_shard(shard_path(run.rollouts, 0), [episode, episode], {})
    settings = Experiment(
        vae=Vae(z=4, steps=24, batch=8, frame_stride=1, epochs=1),
        data=Data(val_ratio=0.5),
        hardware=Hardware(precision="float32"),
    )
    recorded = Rollouts(run.rollouts)
    order = recorded.pass_order(recorded.split(0.5)[0], 1, settings.vae.seed, 0)
    damage(shard_path(run.rollouts, 0), int(order[-1]) // recorded.block)
    with pytest.raises(Problem, match=r"shard-00000\.h5 is damaged \(.*\): delete it and run") as caught:
        training.train(settings, run)
    assert "\n" not in str(caught.value)


def test_full_disk_keeps_the_checkpoint_before(tmp_path):
    path = tmp_path / "vae.weights.h5"
    model = VAE(4)
    save_weights(model, path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(Problem, match=r"disk is full while writing .*vae\.weights\.h5"):
            save_weights(model, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_weights_that_do_not_fit_are_a_problem(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(Problem, match=r"vae\.weights\.h5 is missing"):
        load_vae(run, SETTINGS)
    save_weights(VAE(6), run.vae_weights)
    with pytest.raises(Problem, match=r"vae\.weights\.h5 .*does not hold a V of these settings, vae\.z=4"):
        load_vae(run, SETTINGS)
    run.vae_weights.write_bytes(run.vae_weights.read_bytes()[:100_000])
    with pytest.raises(Problem, match=r"vae\.weights\.h5 is damaged"):
        load_vae(run, SETTINGS)
