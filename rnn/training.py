"""Training M (paper, section 2.2 and appendix A.2): teacher-forced on latents drawn anew for every batch.

Start reading at `train`. The training is divided into epochs; each ends with validation on the held-out
episodes, a checkpoint of everything that going on needs, and M's weights if they are the best so far.
"""

import contextlib
import math
from typing import Any

import numpy as np

from experiment.arrays import load_weights
from experiment.backend import keras, save_weights, tf
from experiment.beginning import REMEDY, beginning
from experiment.hardware import prepare
from experiment.metrics import Metrics
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment, Rnn
from experiment.training import Training, learning_rate, optimize
from extract.ahead import read_ahead
from rnn.model import MDNRNN, build_rnn, load_rnn
from rnn.series import Batch, Series
from rnn.unrolled import LSTMState, loss_of_hidden, run_sequence
from rnn.validation import Validation, Validator, describe, in_short
from vae.latents import Latents

ROW_EVERY = 10  # steps between two rows of the training losses
NO_COLUMNS = ("endings", "calibration")  # figures that are not in metrics/rnn.csv
FAULT = "is damaged or of another M"


class Learner(keras.Model):
    """M in training: its weights, the state of the streams and the best held-out loss, saved and loaded as one."""

    def __init__(self, model: MDNRNN, m: Rnn):
        super().__init__()
        self.model, self.weights_of_losses, self.seed = model, (m.done_weight, m.reward_weight), m.seed
        self.frames = m.streams * m.window
        self.epoch = math.ceil(m.steps / m.epochs)  # steps of an epoch
        self.steps = self.epoch * m.epochs  # of the whole training
        shape = (m.streams, model.hidden)
        self.h = self.add_weight(shape, "zeros", "float32", trainable=False, name="h", autocast=False)
        self.c = self.add_weight(shape, "zeros", "float32", trainable=False, name="c", autocast=False)
        self.best = self.add_weight((), keras.initializers.Constant(math.inf), "float32", trainable=False, name="best")
        self.built = True
        clipping = {"norm": "global_clipnorm", "value": "clipvalue"}[m.clip_by]
        optimize(self, learning_rate(m, self.steps), **{clipping: m.clip})

    def losses(self, batch: Batch) -> dict[str, Any]:
        """Those of a window, from the state that the window before left (truncated backpropagation)."""
        state = LSTMState(tf.convert_to_tensor(self.h), tf.convert_to_tensor(self.c))
        targets = Batch(*(tf.reshape(part, (-1, *part.shape[2:])) for part in batch))  # (T·B, ...)
        hidden, state = run_sequence(self.model, batch.inputs, batch.keep, state, self.mask())
        loss, parts = loss_of_hidden(self.model, hidden, targets, *self.weights_of_losses)
        self.h.assign(state.h)
        self.c.assign(state.c)
        return {"loss": loss, **parts._asdict()}

    def mask(self) -> Any:
        """Of `MDNRNN.mask`, one for each stream, drawn anew for every batch."""
        if not self.model.dropout:
            return None
        step = tf.cast(tf.convert_to_tensor(self.optimizer.iterations), tf.int64)
        seed = tf.stack([tf.constant(self.seed, tf.int64), step])
        return self.model.mask(tf.random.stateless_uniform((self.h.shape[0], self.model.mask_size), seed))


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
    learner = Learner(build_rnn(settings), m)
    series = Series(latents, learner.model, m.reward_limits)
    if not m.train:
        save_weights(learner.model, run.rnn_weights)
        print("M keeps its random weights (rnn.train=false)")
        return {"frames": 0}
    checkpoint = run.checkpoints / "rnn.weights.h5"
    if checkpoint.exists() and run.rnn_weights.exists():
        again = f"delete it and {checkpoint} to train M from the start"
        load_weights(learner.model, run.rnn_weights, "python -m rnn", FAULT, again)
        load_weights(learner, checkpoint, "python -m rnn", FAULT)
    elif (source := beginning(settings, run, "rnn")) is not None:
        learner.model.set_weights(load_rnn(source, settings, REMEDY).get_weights())
    first = int(learner.optimizer.iterations)
    validator = Validator(learner.model, m.done_weight, m.reward_weight)

    def validate() -> Validation:
        return validator(series.validation(held_out, min(m.streams, len(held_out)), m.window))

    batches = series.training(train_episodes, m.streams, m.window, m.seed, first)
    kept = first or None  # rows of an earlier, interrupted run
    with (
        Metrics(run.metrics / "rnn.csv", run.tensorboard / "rnn", kept) as epochs,
        Metrics(run.metrics / "rnn_losses.csv", run.tensorboard / "rnn_losses", kept) as log,
        Progress("training M", learner.steps * learner.frames, "frames", first * learner.frames) as bar,
        contextlib.closing(read_ahead(batches, 2)) as ahead,
    ):

        def progress(losses: dict[str, float]) -> None:
            reward = f", reward {losses['reward_error']:.3f}" if m.predict_reward else ""
            bar.update(learner.frames, f"z {losses['z_nll']:.3f}, done {losses['done_loss']:.3f}{reward}")

        training = Training(
            learner, "M", "rnn.learning_rate or rnn.clip", checkpoint, save_weights, learner.epoch,
            log.write, ROW_EVERY, progress,
        )  # fmt: skip
        for step in range(first + learner.epoch, learner.steps + 1, learner.epoch):
            training.until(step, ahead)
            v = validate()
            training.check("held-out loss", v.loss)
            score = {"best": v.loss, "done": v.done_loss, "last": -float(step)}[m.keep]
            if better := score < float(learner.best):
                learner.best.assign(score)
                save_weights(learner.model, run.rnn_weights)
            best = ", the best so far" if better and m.keep != "last" else ""
            bar.say(f"step {step:,}: {in_short(v)}{best}")
            epochs.write(step, **{name: value for name, value in v._asdict().items() if name not in NO_COLUMNS})
            save_weights(learner, checkpoint)  # last: killed before, the epoch is done again
    load_weights(learner.model, run.rnn_weights, "python -m rnn", FAULT)
    figures = validate()
    print(describe(figures), flush=True)
    run.update_results("evaluations", "rnn", figures.summary())
    seconds = training.seconds
    speed = {"frames_per_second": round(learner.frames / float(np.median(seconds)))} if seconds else {}
    return {"frames": (learner.steps - first) * learner.frames, **speed}
