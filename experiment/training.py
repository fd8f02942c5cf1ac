"""How V, M and the next-frame model are trained: the loop over their steps, its checkpoints, and Adam's learning rate."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiment.backend import graph, keras, ops, tf
from experiment.problem import Problem
from experiment.schema import Rnn, Train, Vae

WARMUP_STEPS = 200
WARMUP_SHARE = 0.1  # of all steps, at most
RISE, START = 0.3, 1 / 25  # onecycle: the share of the steps in which the rate rises, and from which share of its peak

NamedLosses = dict[str, Any]  # the parts of a step's loss by name; `loss` is the one that is lowered


@dataclass(eq=False)
class Training:
    """A model in training: `Training(model, ...).until(500, batches)`.

    The model has an optimizer (see `optimize`), and `losses(batch)`, each of them (). A row of metrics is the mean since
    the one before; there is one wherever training may go on later, so that it is the same after an interruption.
    """

    model: Any
    name: str  # what it is called in messages
    lower: str  # which settings to lower where it no longer has numbers
    checkpoint: Path
    save: Callable[[Any, Path], None]  # save(model, checkpoint)
    save_every: int  # steps
    write: Callable[..., None]  # write(step, **losses): a row of metrics
    write_every: int
    progress: Callable[[dict[str, float]], None]  # told the losses of each step
    seconds: list[float] = field(default_factory=list)  # of each step of this process

    def __post_init__(self) -> None:
        self.advance = compiled_step(self.model)

    @property
    def step(self) -> int:
        """How many steps the model has been trained."""
        return int(self.model.optimizer.iterations)

    def until(self, end: int, batches: Iterator[Any]) -> None:
        """Train on the next batches up to step `end`, and leave it to the caller to save that.

        Raises Problem, and saves nothing more, at the first step whose loss, or weights when they are to be saved, are no
        numbers.
        """
        recent: list[dict[str, float]] = []  # since the last row
        for step in range(self.step + 1, end + 1):
            began = time.perf_counter()
            losses = {name: float(value) for name, value in sorted(self.advance(next(batches)).items())}
            self.seconds.append(time.perf_counter() - began)
            self.check("loss", losses["loss"])
            self.progress(losses)
            recent.append(losses)
            saving = step % self.save_every == 0 or step == end
            if saving or step % self.write_every == 0:
                self.write(step, **{name: float(np.mean([row[name] for row in recent])) for name in losses})
                recent.clear()
            if saving:  # a last gradient may have spoilt the weights without having shown in any loss yet
                self.check("weights", *(weights.numpy() for weights in self.model.trainable_weights))
                if step < end:
                    self.save(self.model, self.checkpoint)

    def check(self, what: str, *values: Any) -> None:
        """Raise Problem unless all of these are numbers."""
        if not all(np.isfinite(value).all() for value in values):
            saved = self.checkpoint.exists()
            kept = f"the last good weights are kept in {self.checkpoint}" if saved else "no weights had been saved"
            raise Problem(
                f"training {self.name}: {what} not a number at step {self.step}; {kept}. Try a lower "
                f"{self.lower}, or hardware.precision=float32, in another run folder (--run)"
            )


def compiled_step(model: keras.Model) -> Callable[[Any], NamedLosses]:
    """One step of a model's optimizer on a batch; the losses before it."""

    @graph
    def step(batch: Any) -> NamedLosses:
        with tf.GradientTape() as tape:
            losses = model.losses(batch)
        weights = model.trainable_weights
        model.optimizer.apply(tape.gradient(losses["loss"], weights), weights)
        return losses

    return step


def optimize(model: keras.Model, rate: Any, **adam: Any) -> None:
    """Give a model Adam, with its state. adam: other arguments of it."""
    model.compile(FusedAdam(rate, **adam))
    model.optimizer.build(model.trainable_weights)


def learning_rate(options: Vae | Rnn | Train, steps: int, flat_share: float = 0.0) -> Any:
    """The rate that the settings say, or its way over so many steps."""
    rate: Any = options.learning_rate
    if options.schedule == "cosine":
        rate = WarmupCosine(rate, options.final_rate, steps, flat_share)
    elif options.schedule == "onecycle":
        rate = OneCycle(rate, options.final_rate, steps)
    elif options.schedule == "decay":
        rate = keras.optimizers.schedules.ExponentialDecay(rate, decay_steps=1, decay_rate=options.decay)
    return rate


class FusedAdam(keras.optimizers.Adam):
    """Adam with TensorFlow's fused kernel: one pass over each variable instead of ten.

    On two cores that is an eighth of V's training step. The same numbers as keras.optimizers.Adam.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, "float32")
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=self._momentums[index].handle, v=self._velocities[index].handle,
            beta1_power=ops.power(self.beta_1, step), beta2_power=ops.power(self.beta_2, step),
            beta1=self.beta_1, beta2=self.beta_2, epsilon=self.epsilon,
            lr=ops.cast(learning_rate, "float32"), grad=ops.cast(gradient, "float32"),
        )  # fmt: skip


class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Up in a straight line for the first 200 steps (at most a tenth of all), flat, then cosine down to `final`.

    flat_share: of all steps, warm-up included, before the cosine begins.
    """

    def __init__(self, peak: float, final: float, steps: int, flat_share: float):
        self.peak, self.final, self.steps, self.flat_share = peak, final, steps, flat_share
        self.warmup = max(1.0, min(WARMUP_STEPS, WARMUP_SHARE * steps))

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rise = ops.minimum(1.0, (step + 1) / self.warmup)
        flat = self.flat_share * self.steps
        return rise * half_cosine(self.peak, self.final, (step - flat) / max(self.steps - flat, 1.0))


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Cosine up from a 25th of the peak over the first 30 % of the steps, then cosine down to `final` (Smith 2018)."""

    def __init__(self, peak: float, final: float, steps: int):
        self.peak, self.final, self.steps = peak, final, steps

    def __call__(self, step: Any) -> Any:
        step, top = ops.cast(step, "float32"), max(1.0, RISE * self.steps)
        up = half_cosine(self.peak * START, self.peak, step / top)
        down = half_cosine(self.peak, self.final, (step - top) / max(self.steps - top, 1.0))
        return ops.where(step < top, up, down)


def half_cosine(first: float, last: float, share: Any) -> Any:
    """From `first` to `last` while share goes from 0 to 1, and `last` after that."""
    return last + (first - last) * 0.5 * (1 + ops.cos(math.pi * ops.clip(share, 0.0, 1.0)))
