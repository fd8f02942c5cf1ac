"""The next-frame model as a predictor: it sees the last K frames, recorded or its own, and the actions taken after each."""

from typing import NamedTuple

import numpy as np

from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment
from nextframe.model import NextFrame, load_nextframe
from viz.frames import to_unit


class Memory(NamedTuple):
    """What the model sees of B windows at one moment, but for the action that is still to come."""

    frames: np.ndarray  # (B, K, h, w, c) float32 in [0, 1], the last one the present
    actions: np.ndarray  # (B, K - 1) or (B, K - 1, A) float32, raw, between them


class NextFrames:
    """See openloop.predictor.Predictor. Its prediction is not random, and shows any frame: one draw, no floor."""

    draws = 1

    def __init__(self, model: NextFrame):
        self.model = model
        self.title = f"Next-frame model ({model.options.name})"

    def begin(self, frames: np.ndarray, actions: np.ndarray, windows: np.ndarray) -> Memory:
        recorded, seen = frames.shape[1], self.model.context
        if recorded < seen:
            raise Problem(
                f"openloop.context={recorded} is too few: the next-frame model sees model.context={seen} frames"
            )
        return Memory(to_unit(frames[:, recorded - seen :]), actions[:, recorded - seen :])

    def imagine(self, memory: Memory, actions: np.ndarray) -> tuple[np.ndarray, Memory]:
        taken = np.concatenate([memory.actions, actions[:, None]], axis=1)
        predicted = np.asarray(self.model.step(memory.frames, taken))  # (B, h, w, c)
        return predicted[:, None], self.observe(memory, actions, predicted)

    def observe(self, memory: Memory, actions: np.ndarray, frames: np.ndarray) -> Memory:
        taken = np.concatenate([memory.actions, actions[:, None]], axis=1)
        return Memory(np.concatenate([memory.frames[:, 1:], to_unit(frames)[:, None]], axis=1), taken[:, 1:])

    def reconstruct(self, frames: np.ndarray) -> None:
        return None


def load(settings: Experiment, run: Run) -> NextFrames:
    """That of a run. Raises Problem as load_nextframe does."""
    return NextFrames(load_nextframe(run, settings))
