"""The next-frame model: windows, what it is told and predicts, its losses, training that meets with faults, and its files."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from typing import get_args

import h5py
import numpy as np
import pytest

from envs.actions import unchoose
from envs.worlds import WORLDS
from experiment.backend import keras, tf
from experiment.config import load_config
from experiment.estimate import flop_of_a_frame
from experiment.metrics import read_metrics_rows
from experiment.problem import Problem, UsageProblem
from experiment.run import Run
from experiment.schema import Architecture, Data, Env, Experiment, Hardware, Model, Train, Wandb
from experiment.tracking import track, tracking
from experiment.training import OneCycle
from extract.recorded import Signature, open_rollouts, signature_from
from extract.rollouts import Episode, Rollouts, shard_path
from nextframe import training, windows
from nextframe.model import NextFrame, load, load_nextframe, pixel_loss, save
from nextframe.networks import Dense
from nextframe.validation import HeldOutWindows
from nextframe.windows import Windows
from tests.commands import PROJECT, command_here, python
from tests.fake import damage, write_shard

ARCHITECTURES = get_args(Architecture)
SIZE, ACTIONS = 16, 4
SETTINGS = Experiment(
    env=Env(name="breakout", size=SIZE, grey=True),
    data=Data(val_ratio=0.25),
    model=Model(context=2, patch=4, channels=8),
    train=Train(
        max_steps=9, batch=4, val_every_steps=4, val_windows=6, log_every=1, checkpoint_every=3, video_steps=5, unroll=2
    ),
    hardware=Hardware(precision="float32"),
)


def moving_square(length: int, seed: int, channels: int = 1) -> Episode:
    """A square that an action moves, right, left or not at all; and a pixel that tells the episode and the step."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, ACTIONS, length)
    frames = np.zeros((length, SIZE, SIZE, channels), np.uint8)
    place = 6
    for t, action in enumerate(actions):
        frames[t, 6:10, place : place + 4] = 200
        frames[t, 0, :2, 0] = seed, t
        place = int(np.clip(place + {2: 2, 3: -2}.get(int(action), 0), 0, SIZE - 4))
    last = np.arange(length) == length - 1
    raw = unchoose(actions, choices=ACTIONS)
    return Episode(frames, raw, np.zeros(length, np.float32), last, np.zeros(length, bool), seed)


def make_rollouts(
    run: Run, lengths: tuple[int, ...] = (15, 9, 3, 12, 20, 8, 11, 14), about: dict | None = None
) -> None:
    """Two shards."""
    about = {"env.name": "breakout", "actions": ACTIONS} if about is None else about
    half = len(lengths) // 2
    for shard, part in enumerate((range(half), range(half, len(lengths)))):
        write_shard(shard_path(run.rollouts, shard), [moving_square(lengths[i], i) for i in part], about)


def new_model(options: Model = SETTINGS.model, train: Train = SETTINGS.train, channels: int = 1) -> NextFrame:
    """A model whose every weight matters: the head's are 0 before training."""
    keras.config.set_dtype_policy("float32")
    env = replace(SETTINGS.env, grey=channels == 1)
    model = NextFrame(replace(SETTINGS, env=env, model=options, train=train))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.1, weights.shape) for weights in model.get_weights()])
    return model


def change(model: NextFrame, frames: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """What the network says of frames (B, 2, ...) and actions (B, 2)."""
    return model.network([keras.ops.convert_to_tensor(frames), model.encode_actions(raw)]).numpy()


@pytest.fixture
def run(tmp_path):
    """A run folder with eight episodes in two shards."""
    run = Run(tmp_path / "run")
    make_rollouts(run)
    return run


# Windows


def every_window(rollouts: Rollouts, episode_ids: list[int], length: int) -> dict[tuple[int, int], tuple]:
    """Slowly and obviously: by the episode and step that the first frame tells."""
    found = {}
    for index in episode_ids:
        episode = rollouts.episode(index)
        for t in range(len(episode.actions) - length + 1):
            found[index, t] = (episode.frames[t : t + length], episode.actions[t : t + length - 1])
    return found


@pytest.mark.parametrize(("length", "batch", "pool"), [(3, 4, 16), (5, 7, 8192), (2, 64, 10)])
def test_a_pass_has_every_window_once_and_none_over_an_episodes_end(run, monkeypatch, length, batch, pool):
    monkeypatch.setattr(windows, "POOL", pool)
    rollouts, episodes = Rollouts(run.rollouts), [0, 1, 2, 4, 6, 7]
    cut = Windows(rollouts, np.array(episodes), length)
    expected = every_window(rollouts, episodes, length)
    assert len(cut) == len(expected)
    read = 0
    seen: dict[tuple[int, int], int] = {}
    for frames, actions in cut.batches(batch, seed=3):
        assert frames.shape[:2] == (batch, length)
        for window, taken in zip(frames, actions, strict=True):
            key = int(window[0, 0, 0, 0]), int(window[0, 0, 1, 0])
            np.testing.assert_array_equal(window, expected[key][0])
            np.testing.assert_array_equal(taken, expected[key][1])
            if read < len(cut):
                seen[key] = seen.get(key, 0) + 1
            read += 1
        if read >= 2 * len(cut):
            break
    assert seen == dict.fromkeys(expected, 1)


def test_actions_are_read_once_however_many_kinds_of_windows_there_are(run):
    rollouts = Rollouts(run.rollouts)
    assert Windows(rollouts, np.arange(8), 3).actions is Windows(rollouts, np.arange(4), 5).actions


def test_windows_are_shuffled_across_shards_and_in_another_order_each_pass(run):
    cut = Windows(Rollouts(run.rollouts), np.arange(8), 3)
    first, second = cut.order(0, 0), cut.order(0, 1)
    assert sorted(first) == sorted(second) == sorted(cut.starts) and list(first) != list(second)
    shard = np.searchsorted(cut.rollouts._shard_starts, first, side="right") - 1
    assert np.abs(np.diff(shard)).sum() > 8, "they alternate between the shards"
    assert list(cut.order(1, 0)) != list(first)


@pytest.mark.parametrize("start", [1, 5, 31, 64])
def test_reading_goes_on_where_it_was(run, start):
    cut = Windows(Rollouts(run.rollouts), np.arange(8), 3)
    batches = cut.batches(7, seed=2)
    for _ in range(start):
        next(batches)
    resumed = cut.batches(7, seed=2, start_batch=start)
    for _ in range(4):
        for left, right in zip(next(batches), next(resumed), strict=True):
            np.testing.assert_array_equal(left, right)


def test_memory_stays_bounded(run, monkeypatch):
    """However much is recorded, a pool's windows is what is read at once."""
    monkeypatch.setattr(windows, "POOL", 8)
    sizes = []
    plain = Rollouts.read
    monkeypatch.setattr(Rollouts, "read", lambda self, n: sizes.append(len(n)) or plain(self, n))
    cut = Windows(Rollouts(run.rollouts), np.arange(8), 3)
    batches = cut.batches(4)
    for _ in range(40):
        next(batches)
    assert len(sizes) > 8 and max(sizes) <= 8 * 3


# The model


def test_another_action_gives_another_frame_whichever_of_the_window_it_is():
    model = new_model()
    frames = np.random.default_rng(1).random((1, 2, SIZE, SIZE, 1), np.float32)
    for numbers in ([0, 1], [1, 0], [0, 0]):
        raw = unchoose(np.array([numbers]), choices=ACTIONS)
        other = unchoose(np.array([[0, 2]]), choices=ACTIONS)
        assert np.abs(model.step(frames, raw) - model.step(frames, other)).max() > 1e-3
    same = np.array([[-0.99, -0.51]], np.float32), np.array([[-0.51, -0.99]], np.float32)  # both are action 0 twice
    np.testing.assert_array_equal(model.step(frames, same[0]), model.step(frames, same[1]))


def test_every_weight_has_a_part_in_what_is_predicted():
    """Those that tell every block the actions, too."""
    model = new_model()
    frames = np.random.default_rng(1).random((1, 2, SIZE, SIZE, 1), np.float32)
    raw = unchoose(np.array([[1, 2]]), choices=ACTIONS)
    before = change(model, frames, raw)
    for weights in model.network.weights:
        kept = weights.numpy()
        weights.assign(0 * kept)
        assert np.abs(change(model, frames, raw) - before).max() > 1e-4, weights.path
        weights.assign(kept)


def test_in_bfloat16_a_bias_has_the_gradient_of_a_sum_in_float32():
    layer = Dense(2, dtype="mixed_bfloat16")
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.cast(layer(tf.ones((2000, 3))), tf.float32))
    np.testing.assert_array_equal(tf.cast(tape.gradient(total, layer.bias.value), tf.float32), 2000)


def test_an_untrained_model_copies_the_last_frame():
    model = NextFrame(SETTINGS)
    frames = np.random.default_rng(1).random((2, 2, SIZE, SIZE, 1), np.float32)
    np.testing.assert_allclose(model.step(frames, np.zeros((2, 2), np.float32)), frames[:, -1], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_predicts_frames_from_bytes_and_floats_alike(name, channels):
    model = new_model(replace(SETTINGS.model, name=name), channels=channels)
    frames = np.random.default_rng(1).integers(0, 256, (3, 2, SIZE, SIZE, channels), dtype=np.uint8)
    raw = unchoose(np.array([[0, 1], [2, 3], [1, 1]]), choices=ACTIONS)
    predicted = model.step(frames, raw).numpy()
    assert predicted.shape == (3, SIZE, SIZE, channels) and predicted.min() >= 0 and predicted.max() <= 1
    np.testing.assert_allclose(model.step(frames / np.float32(255), raw), predicted, atol=1e-5)
    np.testing.assert_allclose(model.step(frames[1:2], raw[1:2]), predicted[1:2], atol=1e-5)


@pytest.mark.parametrize(("name", "actions"), [("doom", 1), ("carracing", 3)])
def test_actions_that_are_quantities_are_told_as_executed(name, actions):
    world = WORLDS[name]
    model = NextFrame(Experiment(env=Env(name=name), model=SETTINGS.model))
    raw = np.random.default_rng(0).uniform(-1, 1, (5, 2, actions) if actions > 1 else (5, 2)).astype(np.float32)
    np.testing.assert_allclose(model.encode_actions(raw), world.execute(raw).reshape(5, 2, actions), atol=1e-6)
    assert model.step(np.zeros((5, 2, 64, 64, 3), np.uint8), raw).shape == (5, 64, 64, 3)


def test_the_architectures_differ_and_others_are_refused():
    sizes = {name: new_model(replace(SETTINGS.model, name=name)).count_params() for name in ARCHITECTURES}
    assert len(set(sizes.values())) == len(sizes) == 2
    with pytest.raises(UsageProblem, match=r"model\.name"):
        load_config(PROJECT / "configs" / "breakout.yaml", overrides=["model.name=cnn"])
    for name in ARCHITECTURES:
        assert load_config(PROJECT / "configs" / "breakout.yaml", overrides=[f"model.name={name}"]).model.name == name


def test_weights_depend_on_the_seed_and_nothing_elses_chance_on_them():
    first, again = NextFrame(SETTINGS), NextFrame(SETTINGS)
    other = NextFrame(replace(SETTINGS, train=replace(SETTINGS.train, seed=1)))
    kernels = [model.get_weights()[0] for model in (first, again, other)]
    assert (kernels[0] == kernels[1]).all() and (kernels[0] != kernels[2]).any()
    random.seed(5)
    drawn, arrays = random.random(), np.random.get_state()[1].tolist()  # noqa: NPY002
    random.seed(5)
    NextFrame(SETTINGS)
    assert random.random() == drawn and np.random.get_state()[1].tolist() == arrays  # noqa: NPY002


def test_open_loop_is_the_model_fed_with_what_it_predicts():
    model = new_model()
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (3, 2, SIZE, SIZE, 1), dtype=np.uint8)
    raw = rng.uniform(-1, 1, (3, 2 - 1 + 5)).astype(np.float32)
    predicted = model.open_loop(frames, raw).numpy()
    seen = list(np.moveaxis(frames / np.float32(255), 1, 0))  # a list of (3, SIZE, SIZE, 1)
    for t in range(5):
        seen.append(np.clip(seen[-1] + change(model, np.stack(seen[-2:], axis=1), raw[:, t : t + 2]), 0, 1))
        np.testing.assert_allclose(predicted[:, t], seen[-1], atol=1e-5)


@pytest.mark.parametrize("loss", ["huber", "mse"])
@pytest.mark.parametrize("motion_weight", [0.0, 3.0])
def test_the_loss_of_a_pixel(loss, motion_weight):
    options = Train(loss=loss, huber_delta=0.1, motion_weight=motion_weight, motion_threshold=0.05)
    truth, predicted = np.array([0.5, 0.5, 0.5, 0.9], np.float32), np.array([0.45, 0.9, 0.5, 0.1], np.float32)
    before = np.array([0.5, 0.6, 0.54, 0.0], np.float32)  # the second and the fourth move
    plain = {"huber": [0.05**2 / 2, 0.1 * (0.4 - 0.05), 0, 0.1 * (0.8 - 0.05)], "mse": [0.05**2, 0.16, 0, 0.64]}[loss]
    weights = 1 + motion_weight * np.array([0, 1, 0, 1])
    np.testing.assert_allclose(pixel_loss(truth, predicted, before, options), plain * weights, rtol=1e-4, atol=1e-7)


def test_the_unrolled_loss_is_that_of_a_plain_loop():
    """Each prediction but the first from predictions before it, against every true frame."""
    train = Train(unroll=3, motion_weight=2.0)
    model = new_model(train=train)
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (4, 2 + 3, SIZE, SIZE, 1), dtype=np.uint8)
    raw = rng.uniform(-1, 1, (4, 2 + 3 - 1)).astype(np.float32)
    inputs = keras.ops.convert_to_tensor(frames), keras.ops.convert_to_tensor(raw)
    loss = float(model.losses(inputs)["loss"])
    total = 0.0
    for window, taken in zip(frames / np.float32(255), raw, strict=True):
        seen = list(window[:2])
        for t in range(3):
            predicted = seen[-1] + change(model, np.stack(seen[-2:])[None], taken[None, t : t + 2])[0]
            truth = window[2 + t]
            error = np.abs(predicted - truth)
            huber = np.where(error < 0.1, error**2 / 2, 0.1 * (error - 0.05))
            total += (huber * (1 + 2.0 * (np.abs(truth - window[1 + t]) > 0.05))).mean()
            seen.append(np.clip(predicted, 0, 1))
    assert loss == pytest.approx(total / 12, rel=1e-4)


def test_the_gradient_goes_back_through_the_models_own_predictions():
    """The first action changes the second prediction, and so the loss there alone."""
    model = new_model(train=Train(unroll=2))
    frames = tf.constant(np.random.default_rng(0).uniform(0.3, 0.7, (1, 4, SIZE, SIZE, 1)).astype(np.float32))
    first = tf.Variable(frames[:, :2])
    with tf.GradientTape() as tape:
        predicted = model.unroll(model.unclipped, first, tf.zeros((1, 3)))
        second = tf.reduce_sum(predicted[:, 1])
    gradient = tape.gradient(second, first)
    assert np.abs(gradient[:, 0]).max() > 0, (
        "frame 0 is out of the second prediction's sight, but for the first prediction"
    )


def test_in_bfloat16_training_is_told_the_actions_that_were_taken():
    """Rounded to bfloat16, some raw actions stand for another choice."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = NextFrame(replace(SETTINGS, model=replace(SETTINGS.model, channels=4)))
    raw = np.array([[-0.5005, 0.4995]], np.float32)  # just below the next choice
    told = []
    model.network = lambda inputs: told.append(inputs[1]) or inputs[0][:, -1]
    model.losses((np.zeros((1, 3, SIZE, SIZE, 1), np.uint8), raw))
    np.testing.assert_array_equal(np.argmax(told[0], axis=-1), [[0, 2]])


def test_the_estimate_knows_the_models_size():
    """The formula, which may not build the network, against what its layers say."""
    from benchmarks.nextframe import new_model as untrained
    from benchmarks.nextframe import product_flop

    for settings in (
        SETTINGS,
        replace(SETTINGS, model=Model(channels=16, blocks=2), env=Env(name="breakout", size=84)),
    ):
        assert flop_of_a_frame(settings) == pytest.approx(product_flop(untrained(settings).network), rel=0.2)


def test_one_cycle():
    rate = OneCycle(peak=1e-3, final=1e-5, steps=1000)
    np.testing.assert_allclose(
        [float(rate(step)) for step in (0, 150, 300, 650, 1000)], [4e-5, 5.2e-4, 1e-3, 5.05e-4, 1e-5], rtol=1e-4
    )


# Training


def numbers_of(run: Run, name: str) -> list[dict[str, float]]:
    return [{key: float(value) for key, value in row.items()} for row in read_metrics_rows(run.metrics / name)]


def start_and_kill(run: Run) -> subprocess.Popen:
    """A process that trains until it sends itself SIGKILL, in its second validation."""
    lines = [
        "import os, signal",
        "from experiment.run import Run",
        "from tests.test_nextframe import SETTINGS",
        "from nextframe import training",
        "from nextframe.validation import HeldOutWindows",
        "plain = HeldOutWindows.save_strip",
        "def die(self, model, path):",
        "    plain(self, model, path)",
        "    if '000008' in path.name: os.kill(os.getpid(), signal.SIGKILL)",
        "HeldOutWindows.save_strip = die",
        f"training.train(SETTINGS, Run({str(run.path)!r}))",
    ]
    return subprocess.Popen([sys.executable, "-c", "\n".join(lines)], cwd=PROJECT)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Such a run folder after training with SETTINGS. Not to be changed."""
    run = Run(tmp_path_factory.mktemp("trained") / "run")
    make_rollouts(run)
    figures = training.train(SETTINGS, run)
    assert figures["windows"] == 9 * 4 and figures["precision"] == "float32"
    return run


def test_training_leaves_everything_and_killed_it_comes_to_the_same_end(run, request):
    killed, process = run, start_and_kill(run)
    run = request.getfixturevalue("trained")  # meanwhile
    assert process.wait(timeout=120) == -signal.SIGKILL
    rest = training.train(SETTINGS, killed)
    assert rest["windows"] == 3 * 4, "step 6 was saved; 7 to 9 were left to do"

    left, right = (load_nextframe(each, SETTINGS).get_weights() for each in (run, killed))
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(left, right, strict=True))
    for name, steps in (("metrics.csv", [*range(1, 10)]), ("val_metrics.csv", [4, 8, 9])):
        left, right = numbers_of(run, name), numbers_of(killed, name)
        assert [row["step"] for row in left] == [row["step"] for row in right] == steps
        assert all(a == pytest.approx(b, rel=1e-3) for a, b in zip(left, right, strict=True))
    assert set(left[0]) == {"step", "loss", "mse", "psnr", "ssim", "copy_mse", "last_mse"}
    assert {path.name for path in run.plots.iterdir()} == {f"nextframe_step_{n:06d}.png" for n in (4, 8, 9)}
    assert len(list(run.videos.glob("*.mp4"))) == len(list(run.videos.glob("*.gif"))) == 3
    assert list((run.tensorboard / "nextframe").iterdir())


def test_a_row_is_the_mean_since_the_one_before(trained, run):
    """There is one wherever training goes on after a kill: the checkpoints of steps 3 and 6, the validations of 4, 8 and 9."""
    training.train(replace(SETTINGS, train=replace(SETTINGS.train, video_steps=0, log_every=2)), run)
    loss = {int(row["step"]): row["loss"] for row in numbers_of(trained, "metrics.csv")}
    rows = {int(row["step"]): row["loss"] for row in numbers_of(run, "metrics.csv")}
    steps = {2: (1, 2), 3: (3,), 4: (4,), 6: (5, 6), 8: (7, 8), 9: (9,)}
    assert set(rows) == set(steps) and len(loss) == 9
    for step, of in steps.items():
        assert rows[step] == pytest.approx(np.mean([loss[each] for each in of]), rel=1e-3)


def test_the_model_learns_what_actions_do(run):
    """Better than copying the last frame, and the best by validation is what is kept."""
    train = replace(SETTINGS.train, max_steps=120, batch=16, val_every_steps=60, video_steps=0, unroll=1, log_every=50)
    settings = replace(SETTINGS, train=replace(train, learning_rate=5e-3))
    training.train(settings, run)
    rows = numbers_of(run, "val_metrics.csv")
    assert rows[-1]["mse"] < 0.8 * rows[-1]["copy_mse"]
    rollouts = Rollouts(run.rollouts)
    held_out = HeldOutWindows(rollouts, rollouts.split(0.25)[1], settings)
    kept = held_out.evaluate(load_nextframe(run, settings))
    assert kept["loss"] == pytest.approx(min(row["loss"] for row in rows), rel=1e-3)
    assert not list(run.path.glob("videos/*"))


def test_held_out_figures_are_those_of_a_plain_computation(run):
    rollouts, episodes = Rollouts(run.rollouts), np.array([1, 4])
    held_out = HeldOutWindows(rollouts, episodes, replace(SETTINGS, train=replace(SETTINGS.train, val_windows=1000)))
    model = new_model(train=SETTINGS.train)
    numbers = held_out.evaluate(model)
    cut = every_window(rollouts, [1, 4], 2 + 16)  # those that go on for so long, whatever train.unroll is
    errors, copies = [], []
    for frames, actions in cut.values():
        frames, actions = frames[:4] / np.float32(255), actions[:3]
        predicted = model.open_loop(frames[None, :2], actions[None])[0].numpy()
        errors.append(np.square(predicted - frames[2:]).mean(axis=(1, 2, 3)))
        copies.append(np.square(frames[1] - frames[2]).mean())
    assert numbers["mse"] == pytest.approx(np.mean(errors, axis=0)[0], rel=1e-4)
    assert numbers["last_mse"] == pytest.approx(np.mean(errors, axis=0)[1], rel=1e-4)
    assert numbers["copy_mse"] == pytest.approx(np.mean(copies), rel=1e-4)


def test_nan_stops_training_says_where_and_keeps_the_last_good_weights(run, monkeypatch):
    plain = Windows._batches

    def poisoned(self, batch, seed, start_batch):
        for number, cut in enumerate(plain(self, batch, seed, start_batch), start=start_batch):
            frames = cut.frames / np.float32(255)
            yield cut._replace(frames=frames * np.float32(np.nan) if number == 4 else frames)

    monkeypatch.setattr(Windows, "_batches", poisoned)
    settings = replace(SETTINGS, train=replace(SETTINGS.train, unroll=1, video_steps=0))
    with pytest.raises(Problem, match=r"loss not a number at step 5; the last good weights are kept in .*weights\.h5"):
        training.train(settings, run)
    model = training.optimized(new_model(train=settings.train))
    load(model, run.checkpoints / "nextframe.weights.h5")
    assert int(model.optimizer.iterations) == 4
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


# Weights & Biases


def test_wandb_is_imported_only_when_asked_for(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # so that importing it raises ImportError
    with tracking(SETTINGS, run, "nextframe"):
        track(1, {"loss": 0.5})
    offline = replace(SETTINGS, wandb=Wandb(mode="offline"))
    with pytest.raises(Problem, match=r"wandb\.mode=offline needs Weights & Biases"), tracking(offline, run, "rnn"):
        pass


def test_wandb_is_told_the_figures(run, monkeypatch):
    told = []

    class Fake:
        Image, run = str, None

        def init(self, **options):
            told.append(options)
            self.run = self
            return self

        def log(self, numbers, step):
            told.append((step, set(numbers)))

        def finish(self):
            told.append("finished")

    monkeypatch.setitem(sys.modules, "wandb", Fake())
    train = replace(SETTINGS.train, max_steps=2, val_every_steps=2, log_every=2, video_steps=0, unroll=1)
    settings = replace(SETTINGS, train=train, wandb=Wandb(mode="offline", project="mine"))
    with tracking(settings, run, "nextframe"):
        training.train(settings, run)
    begun, *sent, last = told
    assert begun["mode"] == "offline" and begun["project"] == "mine" and begun["config"]["train"]["max_steps"] == 2
    assert begun["name"] == f"{run.path.name} nextframe"
    assert sent[0] == (2, {"nextframe/loss", "nextframe/mse", "nextframe/learning_rate"})
    assert sent[1][0] == 2 and {"nextframe_heldout/loss", "nextframe_heldout/ssim"} <= sent[1][1]
    assert sent[2:] == [(2, {"nextframe_heldout/strip"})] and last == "finished"


# Bad input


def test_a_window_longer_than_the_episodes_is_a_problem(run):
    settings = replace(SETTINGS, model=replace(SETTINGS.model, context=20))
    with pytest.raises(
        Problem, match=r"a window has 21 frames, but the longest training episode has 15: lower model\.con"
    ):
        training.train(settings, run)


@pytest.mark.parametrize(
    ("about", "settings", "words"),
    [
        ({"env.name": "coinrun", "actions": 15}, {}, ["game=coinrun", "breakout"]),
        ({"env.name": "breakout", "actions": 18}, {}, ["actions=18", "4"]),
        ({"env.name": "breakout", "actions": 4}, {"size": 84}, ["height=16", "84"]),
        ({"env.name": "breakout", "actions": 4}, {"grey": False}, ["channels=1", "3"]),
    ],
)
def test_data_that_is_not_of_the_settings_is_a_problem(tmp_path, about, settings, words):
    run = Run(tmp_path)
    make_rollouts(run, about=about)
    with pytest.raises(Problem, match=r"shard-00000\.h5 was recorded with") as caught:
        training.train(replace(SETTINGS, env=replace(SETTINGS.env, **settings)), run)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


@pytest.mark.parametrize("about", [{"env.name": "breakout", "actions": ACTIONS}, {}])
def test_data_of_the_settings_is_what_they_say(tmp_path, about):
    make_rollouts(Run(tmp_path), about=about)
    assert open_rollouts(SETTINGS, Run(tmp_path)).frame_shape == (SIZE, SIZE, 1)


def test_every_shard_is_to_be_of_the_settings(run):
    with h5py.File(shard_path(run.rollouts, 1), "r+") as file:
        file.attrs["env.name"] = "pong"
    with pytest.raises(Problem, match=r"shard-00001\.h5 was recorded with game=pong, but the settings say breakout"):
        training.train(SETTINGS, run)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_recorded_actions_that_are_no_numbers_are_a_problem(run, value):
    with h5py.File(shard_path(run.rollouts, 1), "r+") as file:
        file["actions"][3] = value
    with pytest.raises(
        Problem, match=r"shard-00001\.h5 has recorded actions that are not numbers: delete it"
    ) as caught:
        Windows(Rollouts(run.rollouts), np.arange(8), 3)
    assert "\n" not in str(caught.value)
    with h5py.File(shard_path(run.rollouts, 0), "r+") as file:
        file["actions"][-1] = value
    with pytest.raises(Problem, match=r"shard-00000\.h5 has recorded actions"):
        Windows(Rollouts(run.rollouts), np.arange(8), 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"env": Env(name="coinrun", size=SIZE, grey=True)}, ["game=breakout", "coinrun"]),
        ({"env": Env(name="breakout", size=20, grey=True)}, ["height=16", "20"]),
        ({"env": Env(name="breakout", size=SIZE, grey=False)}, ["channels=1", "3"]),
        ({"model": Model(context=3, channels=8)}, ["model.context=2", "3"]),
        ({"model": Model(context=2, channels=8, name="plain")}, ["model.name=unet", "plain"]),
    ],
)
def test_a_checkpoint_of_something_else_is_a_problem(tmp_path, changes, words):
    run = Run(tmp_path)
    save(new_model(), run.nextframe_weights)
    with pytest.raises(Problem, match=r"nextframe\.weights\.h5 was trained with") as caught:
        load_nextframe(run, replace(SETTINGS, **changes))
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_a_checkpoint_with_another_number_of_actions_is_a_problem(tmp_path):
    run = Run(tmp_path)
    save(new_model(), run.nextframe_weights)
    with h5py.File(run.nextframe_weights, "r+") as file:
        file.attrs["nextframe"] = json.dumps({**json.loads(file.attrs["nextframe"]), "actions": 18})
    with pytest.raises(Problem, match=r"was trained with actions=18, but here it is 4"):
        load_nextframe(run, SETTINGS)


def test_training_does_not_go_on_from_another_games_checkpoint(run):
    other = NextFrame(replace(SETTINGS, env=replace(SETTINGS.env, name="coinrun")))
    save(training.optimized(other), run.checkpoints / "nextframe.weights.h5")
    with pytest.raises(Problem, match=r"checkpoints.*nextframe\.weights\.h5 was trained with game=coinrun"):
        training.train(SETTINGS, run)


def test_weights_that_are_missing_or_damaged_are_a_problem(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(Problem, match=r"nextframe\.weights\.h5 is missing: run `python -m nextframe` first"):
        load_nextframe(run, SETTINGS)
    save(new_model(), run.nextframe_weights)
    expected = new_model().get_weights()
    assert signature_from(SETTINGS) == Signature("breakout", SIZE, SIZE, 1, ACTIONS)
    for left, right in zip(load_nextframe(run, SETTINGS).get_weights(), expected, strict=True):
        np.testing.assert_array_equal(left, right)
    os.truncate(run.nextframe_weights, run.nextframe_weights.stat().st_size // 2)
    with pytest.raises(Problem, match=r"nextframe\.weights\.h5 is damaged"):
        load_nextframe(run, SETTINGS)
    run.nextframe_weights.write_bytes(b"something else")
    with pytest.raises(Problem, match=r"nextframe\.weights\.h5 is damaged or not a next-frame model"):
        load_nextframe(run, SETTINGS)


def test_damage_that_training_meets_with_later_is_a_problem_too(tmp_path, monkeypatch):
    """Not before some batches were read, in the thread that TensorFlow reads them in."""
    monkeypatch.setattr(windows, "POOL", 16)
    run = Run(tmp_path)
    make_rollouts(run, (100, 100, 100, 100))
    rollouts = Rollouts(run.rollouts)
    cut = Windows(rollouts, rollouts.split(SETTINGS.data.val_ratio)[0], SETTINGS.model.context + 1)
    shard, row = divmod(int(cut.order(SETTINGS.train.seed, 0)[-1]), 200)  # what the first pass comes to last
    damage(shard_path(run.rollouts, shard), row // rollouts.block)
    settings = replace(SETTINGS, train=replace(SETTINGS.train, max_steps=200, val_every_steps=200, unroll=1))
    with pytest.raises(Problem, match=r"shard-0000\d\.h5 is damaged \(.*\): delete it and run") as caught:
        training.train(settings, run)
    assert "\n" not in str(caught.value)
    assert len(read_metrics_rows(run.metrics / "metrics.csv")) >= 3


def test_the_commands_as_a_user_runs_them(tmp_path, monkeypatch, capsys):
    """Extraction, training and how the error compounds in one command; then each alone finds that it is complete."""
    tiny = ["extract.steps=200", "extract.shard_steps=100", "env.max_steps=40", "env.size=16", "data.val_ratio=0.3"]
    tiny += ["train.max_steps=2", "train.val_every_steps=2", "train.video_steps=4", "train.batch=2", "model.channels=8"]
    tiny += ["openloop.windows=2", "openloop.context=4", "openloop.horizon=3", "begin="]
    words = ["configs/breakout.yaml", "--preset", "quick", "--run", str(tmp_path / "run"), *tiny]
    done = python("-m", "experiment", *words, "workers.processes=1", timeout=300)
    assert done.returncode == 0, done.stderr
    assert "── nextframe" in done.stdout and "── vae" not in done.stdout
    assert "nextframe.weights.h5 in" in done.stdout and (tmp_path / "run" / "nextframe.weights.h5").exists()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["stages"]["nextframe"]["windows"] == 4
    assert results["openloop"]["seen_in_training"]["of"] == results["openloop"]["windows"] == 2
    assert set(results["stages"]) == {"extract", "nextframe", "openloop"}
    monkeypatch.chdir(PROJECT)
    assert command_here("nextframe", *words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert command_here("experiment", *words, "workers.processes=1") == 0
    assert capsys.readouterr().out.count("nothing to do") == 3
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert command_here("openloop.again", str(tmp_path / "run")) in (0, 1)  # two windows are too few to agree for sure
    stated = results["openloop"]["horizons"]["1"]["mse"]["open_loop"][0]
    assert f"      1  {stated:#.3g} (" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
