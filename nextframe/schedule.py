"""The learning rate's way over a training."""

import math
from typing import Any

from experiment.backend import keras, ops
from experiment.optimizer import FusedAdam, WarmupCosine
from experiment.schema import Train

RISE, START = 0.3, 1 / 25  # onecycle: the share of the steps in which the rate rises, and from which share of its peak
EPSILON = 1e-10  # gradients of a mean over pixels are small


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Cosine up from a 25th of the peak over the first 30 % of the steps, then cosine down to `final` (Smith 2018)."""

    def __init__(self, peak: float, final: float, steps: int):
        self.peak, self.final, self.steps = peak, final, steps

    def __call__(self, step: Any) -> Any:
        step, top = ops.cast(step, "float32"), max(1.0, RISE * self.steps)
        up = half_cosine(self.peak * START, self.peak, step / top)
        down = half_cosine(self.peak, self.final, (step - top) / max(self.steps - top, 1.0))
        return ops.where(step < top, up, down)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "final": self.final, "steps": self.steps}


def half_cosine(first: float, last: float, share: Any) -> Any:
    """From `first` to `last` while share goes from 0 to 1, and `last` after that."""
    return last + (first - last) * 0.5 * (1 + ops.cos(math.pi * ops.clip(share, 0.0, 1.0)))


def optimizer(options: Train) -> FusedAdam:
    """Adam with the schedule and the clipping of the settings."""
    rate: Any = options.learning_rate
    if options.schedule == "cosine":
        rate = WarmupCosine(options.learning_rate, options.final_rate, options.max_steps, flat_share=0)
    elif options.schedule == "onecycle":
        rate = OneCycle(options.learning_rate, options.final_rate, options.max_steps)
    return FusedAdam(rate, epsilon=EPSILON, global_clipnorm=options.clip)
