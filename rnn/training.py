"""Training M (paper, section 2.2 and appendix A.2): teacher-forced on latents drawn anew for every batch.

Start reading at `train`. The training is divided into epochs; each ends with validation on the held-out
episodes, a checkpoint of everything that going on needs, and M's weights if they are the best so far.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from envs.worlds import world_of
from experiment.arrays import load_weights
from experiment.backend import keras, save_weights
from experiment.beginning import beginning
from experiment.hardware import prepare
from experiment.metrics import Metrics
from experiment.optimizer import FusedAdam, WarmupCosine
from experiment.problem import Problem
from experiment.progress import Progress, percent
from experiment.run import Run
from experiment.schema import Experiment, Rnn
from rnn.model import MDNRNN, build_rnn, load_rnn
from rnn.series import Batch, Series
from rnn.unrolled import State, loss_of_hidden, run_sequence
from rnn.validation import Validation, Validator, describe
from vae.latents import Latents

ROW_EVERY = 10  # steps between two rows of the training losses
CHECKPOINT = "rnn.weights.h5"
FAULT = "is damaged or of another M"


class Learner(keras.Model):
    """M in training: its weights, the state of the streams and the best held-out loss, saved and loaded as one."""

    def __init__(self, model: MDNRNN, m: Rnn):
        super().__init__()
        self.model, self.weights_of_losses = model, (m.done_weight, m.reward_weight)
        self.frames = m.streams * m.window
        shape = (m.streams, model.hidden)
        self.h = self.add_weight(shape, "zeros", "float32", trainable=False, name="h", autocast=False)
        self.c = self.add_weight(shape, "zeros", "float32", trainable=False, name="c", autocast=False)
        self.best = self.add_weight((), keras.initializers.Constant(math.inf), "float32", trainable=False, name="best")
        self.built = True

    def train_step(self, batch: Batch) -> dict[str, Any]:
        """One step of Adam on a window, from the state that the window before left (truncated backpropagation)."""
        state = State(tf.convert_to_tensor(self.h), tf.convert_to_tensor(self.c))
        targets = Batch(*(tf.reshape(part, (-1, *part.shape[2:])) for part in batch))  # (T·B, ...)
        with tf.GradientTape() as tape:
            hidden, state = run_sequence(self.model, batch.inputs, batch.keep, state)
            loss, parts = loss_of_hidden(self.model, hidden, targets, *self.weights_of_losses)
        gradients = tape.gradient(loss, self.model.trainable_weights)
        self.optimizer.apply(gradients, self.model.trainable_weights)
        self.h.assign(state.h)
        self.c.assign(state.c)
        return {"loss": loss, **parts._asdict()}


class Keeper(keras.callbacks.Callback):
    """Watches a training: shows and records losses, stops on NaN, validates and saves at the end of every epoch.

    keep: which epoch's M; see rnn.keep.
    """

    def __init__(
        self, run: Run, keep: str, validate: Callable[[], Validation], epochs: Metrics, losses: Metrics, bar: Progress
    ):
        super().__init__()
        self.run, self.keep, self.validate = run, keep, validate
        self.epochs, self.losses, self.bar = epochs, losses, bar
        self.recent: list[dict[str, float]] = []  # since the last row of losses
        self.seconds: list[float] = []  # of every step

    @property
    def step(self) -> int:
        """Training steps done, those before an interruption included."""
        return int(self.model.optimizer.iterations)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self.began)
        self.check("loss", logs["loss"])
        self.recent.append(logs)
        if self.step % ROW_EVERY == 0:
            self.write_losses()
        reward = f", reward {logs['reward_error']:.3f}" if self.model.model.predict_reward else ""
        self.bar.update(self.model.frames, f"z {logs['z_nll']:.3f}, done {logs['done_loss']:.3f}{reward}")

    def check(self, name: str, value: float) -> None:
        """Raise Problem unless the value is a number."""
        if not math.isfinite(value):
            weights = self.run.rnn_weights
            kept = f"{weights} keeps the best weights before it" if weights.exists() else "nothing was saved yet"
            raise Problem(
                f"M's {name} became {value} at step {self.step} ({kept}): "
                "use a lower rnn.learning_rate or rnn.clip, in another run folder (--run)"
            )

    def write_losses(self) -> None:
        """A row with the mean losses of the steps since the row before."""
        if self.recent:
            means = {name: float(np.mean([row[name] for row in self.recent])) for name in self.recent[0]}
            self.losses.write(self.step, **means)
            self.recent.clear()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves M before the checkpoint: killed in between, the epoch is done again and ends the same."""
        self.write_losses()
        v = self.validate()
        self.check("held-out loss", v.loss)
        score = {"best": v.loss, "done": v.done_loss, "last": -float(self.step)}[self.keep]
        if better := score < float(self.model.best):
            self.model.best.assign(score)
            save_weights(self.model.model, self.run.rnn_weights)
        parts = [f"step {self.step:,}: held out z {v.z_nll:.4f} nats"]
        if v.endings:
            found = f"precision {percent(v.precision)}, recall {percent(v.recall)} of {v.endings} endings"
            parts.append(f"done {v.done_loss:.4f} ({found})")
        if self.model.model.predict_reward:
            parts.append(f"reward {percent(v.reward_explained)} of its variance explained")
        if better and self.keep != "last":
            parts.append("the best so far")
        self.bar.say(", ".join(parts))
        numbers = v._asdict()
        del numbers["endings"], numbers["calibration"]
        self.epochs.write(self.step, **numbers)
        save_weights(self.model, self.run.checkpoints / CHECKPOINT)


def train(settings: Experiment, run: Run) -> dict[str, Any]:
    """Train M on a run's latents, or go on where an interrupted training was saved; returns its speed.

    Reads latents.h5. Writes rnn.weights.h5 (of the epoch that rnn.keep says), metrics/rnn.csv (held-out
    figures, a row an epoch), metrics/rnn_losses.csv (training losses), checkpoints/. Raises Problem where the loss
    becomes NaN.
    """
    prepare(settings.hardware, run)
    m = settings.rnn
    latents = Latents.load(run.latents)
    train_episodes, held_out = latents.split(settings.data.val_ratio)
    series = Series(latents, m, world_of(settings))
    learner = Learner(build_rnn(settings), m)
    if not m.train:
        save_weights(learner.model, run.rnn_weights)
        print("M keeps its random weights (rnn.train=false)")
        return {"frames": 0}
    learner.compile(optimizer(m), jit_compile=False)
    step = resume(learner, run)
    if not step and (source := beginning(settings, run, "rnn")) is not None:
        learner.model.set_weights(load_rnn(source, settings).get_weights())
    validator = Validator(learner.model, m.done_weight, m.reward_weight)

    def batches() -> Iterator[Batch]:
        return series.training(train_episodes, m.streams, m.window, m.seed, start=step)

    def validate() -> Validation:
        return validator(series.validation(held_out, min(m.streams, len(held_out)), m.window))

    kept = step or None  # rows of an earlier, interrupted run
    with (
        Metrics(run.metrics / "rnn.csv", run.tensorboard / "rnn", kept) as epochs,
        Metrics(run.metrics / "rnn_losses.csv", run.tensorboard / "rnn_losses", kept) as losses,
        Progress("training M", total_steps(m) * learner.frames, "frames", step * learner.frames) as bar,
    ):
        keeper, steps = Keeper(run, m.keep, validate, epochs, losses, bar), epoch_steps(m)
        counted = {"epochs": m.epochs, "initial_epoch": step // steps, "steps_per_epoch": steps}
        learner.fit(dataset(batches), **counted, callbacks=[keeper], shuffle=False, verbose=0)
    load_weights(learner.model, run.rnn_weights, "python -m rnn", FAULT)
    figures = validate()
    print(describe(figures), flush=True)
    run.update_results("evaluations", "rnn", figures.summary())
    speed = {"frames_per_second": round(learner.frames / float(np.median(keeper.seconds)))} if keeper.seconds else {}
    return {"frames": (total_steps(m) - step) * learner.frames, **speed}


def epoch_steps(m: Rnn) -> int:
    """Steps of an epoch; `rnn.steps` is rounded up to whole epochs."""
    return math.ceil(m.steps / m.epochs)


def total_steps(m: Rnn) -> int:
    """Steps of the whole training."""
    return epoch_steps(m) * m.epochs


def optimizer(m: Rnn) -> keras.optimizers.Optimizer:
    """Adam with the schedule and the clipping of the settings."""
    rate: Any = m.learning_rate
    if m.schedule == "cosine":
        rate = WarmupCosine(m.learning_rate, m.final_rate, total_steps(m), flat_share=0)
    elif m.schedule == "decay":
        rate = keras.optimizers.schedules.ExponentialDecay(m.learning_rate, decay_steps=1, decay_rate=m.decay)
    clipping = {"norm": "global_clipnorm", "value": "clipvalue"}[m.clip_by]
    return FusedAdam(rate, **{clipping: m.clip})


def dataset(batches: Callable[[], Iterator[Batch]]) -> tf.data.Dataset:
    """Batches as TensorFlow reads them, made ahead in a thread."""
    signature = tf.nest.map_structure(tf.type_spec_from_value, next(batches()))
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)


def resume(learner: Learner, run: Run) -> int:
    """Load what an interrupted training had saved, if anything; returns the step it had reached."""
    path = run.checkpoints / CHECKPOINT
    learner.optimizer.build(learner.model.trainable_variables)
    if not (path.exists() and run.rnn_weights.exists()):
        return 0
    again = f"delete it and {path} to train M from the start"
    load_weights(learner.model, run.rnn_weights, "python -m rnn", FAULT, again)
    load_weights(learner, path, "python -m rnn", FAULT)
    return int(learner.optimizer.iterations)
