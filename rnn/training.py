"""Training M (paper, section 2.2 and appendix A.2): teacher-forced on latents drawn anew for every batch.

Start reading at `train`. The training is divided into epochs; each ends with validation on the held-out
episodes, a checkpoint of everything that going on needs, and M's weights if they are the best so far.
"""

import contextlib
import math
import time
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
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment, Rnn
from extract.ahead import read_ahead
from rnn.model import MDNRNN, build_rnn, load_rnn
from rnn.series import Batch, Series
from rnn.unrolled import State, loss_of_hidden, run_sequence
from rnn.validation import Validation, Validator, describe, in_short
from vae.latents import Latents

ROW_EVERY = 10  # steps between two rows of the training losses
NO_COLUMNS = ("endings", "calibration")  # figures that are not in metrics/rnn.csv
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
    first, epoch = resume(learner, run), epoch_steps(m)
    if not first and (source := beginning(settings, run, "rnn")) is not None:
        learner.model.set_weights(load_rnn(source, settings).get_weights())
    validator = Validator(learner.model, m.done_weight, m.reward_weight)

    def validate() -> Validation:
        return validator(series.validation(held_out, min(m.streams, len(held_out)), m.window))

    train_step = tf.function(learner.train_step)
    batches = series.training(train_episodes, m.streams, m.window, m.seed, first)
    recent: list[dict[str, float]] = []  # losses of the steps since the last row of them
    seconds: list[float] = []  # of every step
    kept = first or None  # rows of an earlier, interrupted run
    with (
        Metrics(run.metrics / "rnn.csv", run.tensorboard / "rnn", kept) as epochs,
        Metrics(run.metrics / "rnn_losses.csv", run.tensorboard / "rnn_losses", kept) as losses,
        Progress("training M", total_steps(m) * learner.frames, "frames", first * learner.frames) as bar,
        contextlib.closing(read_ahead(batches, 2)) as ahead,
    ):
        for step in range(first + 1, total_steps(m) + 1):
            batch, began = next(ahead), time.perf_counter()
            loss = {name: float(value) for name, value in sorted(train_step(batch).items())}
            seconds.append(time.perf_counter() - began)
            check_finite("loss", loss["loss"], step, run)
            reward = f", reward {loss['reward_error']:.3f}" if m.predict_reward else ""
            bar.update(learner.frames, f"z {loss['z_nll']:.3f}, done {loss['done_loss']:.3f}{reward}")
            recent.append(loss)
            if step % ROW_EVERY == 0 or step % epoch == 0:
                losses.write(step, **{name: float(np.mean([row[name] for row in recent])) for name in loss})
                recent.clear()
            if step % epoch == 0:
                v = validate()
                check_finite("held-out loss", v.loss, step, run)
                score = {"best": v.loss, "done": v.done_loss, "last": -float(step)}[m.keep]
                if better := score < float(learner.best):
                    learner.best.assign(score)
                    save_weights(learner.model, run.rnn_weights)
                best = ", the best so far" if better and m.keep != "last" else ""
                bar.say(f"step {step:,}: {in_short(v)}{best}")
                epochs.write(step, **{name: value for name, value in v._asdict().items() if name not in NO_COLUMNS})
                save_weights(learner, run.checkpoints / CHECKPOINT)  # last: killed before, the epoch is done again
    load_weights(learner.model, run.rnn_weights, "python -m rnn", FAULT)
    figures = validate()
    print(describe(figures), flush=True)
    run.update_results("evaluations", "rnn", figures.summary())
    speed = {"frames_per_second": round(learner.frames / float(np.median(seconds)))} if seconds else {}
    return {"frames": (total_steps(m) - first) * learner.frames, **speed}


def check_finite(name: str, value: float, step: int, run: Run) -> None:
    """Raise Problem unless a loss is a number."""
    if not math.isfinite(value):
        weights = run.rnn_weights
        kept = f"{weights} keeps the best weights before it" if weights.exists() else "nothing was saved yet"
        raise Problem(
            f"M's {name} became {value} at step {step} ({kept}): "
            "use a lower rnn.learning_rate or rnn.clip, in another run folder (--run)"
        )


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
