"""The next-frame model as a predictor: it sees the last K frames, recorded or its own, and the actions taken after each."""

import numpy as np

from experiment.problem import Problem
from nextframe.model import NextFrame
from nextframe.windows import Clips
from viz.frames import to_unit


class NextFrames:
    """See openloop.predictor.Predictor. Its prediction is not random, and shows any frame: one draw, no floor.

    Its memory is what the model sees but for the action that is still to come: K frames and the K - 1 actions between them.
    """

    draws = 1

    def __init__(self, model: NextFrame):
        self.model, self.sees = model, model.context
        self.title = f"Next-frame model ({model.settings.model.name})"

    def begin(self, frames: np.ndarray, actions: np.ndarray, windows: np.ndarray) -> Clips:
        recorded, seen = frames.shape[1], self.model.context
        if recorded < seen:
            raise Problem(
                f"openloop.context={recorded} is too few: the next-frame model sees model.context={seen} frames"
            )
        return Clips(to_unit(frames[:, recorded - seen :]), actions[:, recorded - seen :])

    def imagine(self, memory: Clips, actions: np.ndarray) -> tuple[np.ndarray, Clips]:
        taken = np.concatenate([memory.actions, actions[:, None]], axis=1)
        predicted = np.asarray(self.model.step(memory.frames, taken))  # (B, h, w, c)
        return predicted[:, None], self.observe(memory, actions, predicted)

    def observe(self, memory: Clips, actions: np.ndarray, frames: np.ndarray) -> Clips:
        taken = np.concatenate([memory.actions, actions[:, None]], axis=1)
        return Clips(np.concatenate([memory.frames[:, 1:], to_unit(frames)[:, None]], axis=1), taken[:, 1:])

    def reconstruct(self, frames: np.ndarray) -> None:
        return None
