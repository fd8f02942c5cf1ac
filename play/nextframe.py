"""The next-frame model of a run, and its two scenes: its own prediction, and the real game beside one step of it."""

import numpy as np

from envs.worlds import world_of
from experiment.hardware import prepare
from experiment.problem import Problem
from experiment.run import Run
from extract.recorded import open_rollouts
from nextframe.model import NextFrames, load_nextframe
from nextframe.windows import Clips, Windows
from play.scenes import GameScene, Models, Scene
from viz.frames import to_rgb

SECTIONS = ("env", "data", "model")
STARTS = 200  # held-out moments that a prediction can begin at


class NextFrameModels(Models):
    """A next-frame model. Raises Problem if the run has none."""

    kind = "nextframe"

    def __init__(self, run: Run):
        self.settings = run.settings(SECTIONS)
        prepare(self.settings.hardware)
        self.world, self.scenes = world_of(self.settings), {"dream": PredictedScene, "real": ForetoldScene}
        model = load_nextframe(run, self.settings)
        self.context, self.predictor = model.context, NextFrames(model)
        self.missing = {"controller": "a next-frame model has none"}
        try:
            rollouts = open_rollouts(self.settings, run)
            held_out = rollouts.split(self.settings.data.val_ratio)[1]
            windows = Windows(rollouts, held_out, self.context, "held-out")
            self.starts: Clips = windows.read(windows.spread(STARTS))
            """Windows of K recorded frames and the actions between them."""
        except Problem as problem:
            self.missing["dream"] = str(problem)

    def warm_up(self) -> None:
        frames = np.zeros((1, self.context, *self.world.frame(self.settings.env)), np.uint8)
        raw = self.resting(self.context)
        self.predictor.imagine(self.predictor.begin(frames, raw[:, :-1], np.arange(1)), raw[:, -1])

    def resting(self, steps: int) -> np.ndarray:
        """Raw actions of who touches nothing, (1, steps) or (1, steps, A)."""
        return np.repeat(self.raw(self.rest)[None, None], steps, axis=1)


class PredictedScene(Scene):
    """What the model predicts, fed its own predictions. It predicts no ending, so this goes on until it is left."""

    labels = ("what the model predicts",)
    scored = False

    def __init__(self, models: NextFrameModels):
        self.predictor, self.starts = models.predictor, models.starts

    def begin(self, seed: int) -> None:
        chosen = np.random.default_rng(seed).integers(len(self.starts.frames), size=1)
        frames, actions = self.starts.frames[chosen], self.starts.actions[chosen]
        self.memory = self.predictor.begin(frames, actions, chosen)
        self.pictures = [to_rgb(frames[0, -1])]

    def step(self, raw: np.ndarray, temperature: float) -> tuple[float, bool, bool]:
        predicted, self.memory = self.predictor.imagine(self.memory, raw[None])
        self.pictures = [to_rgb(predicted[0, 0])]
        return 0.0, False, False


class ForetoldScene(GameScene):
    """The real game, as the model sees it, and what the model predicted of each frame from those before it.

    Before K frames have been seen, the first stands for those that are missing.
    """

    labels = ("the game", "what the model predicted")

    def look(self, frames: np.ndarray, seed: int | None = None) -> None:
        predictor = self.models.predictor
        if seed is not None:
            seen = np.repeat(frames[:, None], self.models.context, axis=1)  # (1, K, h, w, c)
            self.memory = predictor.begin(seen, self.models.resting(self.models.context - 1), np.arange(1))
            self.predicted = frames
        else:
            self.memory = predictor.observe(self.memory, self.raw, frames)
        self.pictures = [to_rgb(frames[0]), to_rgb(self.predicted[0])]

    def expect(self, raw: np.ndarray) -> None:
        self.raw, self.predicted = raw, self.models.predictor.imagine(self.memory, raw)[0][:, 0]
