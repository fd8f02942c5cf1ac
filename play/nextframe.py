"""The next-frame model of a run, and its two places: its own prediction, and the real game beside one step of it."""

import numpy as np

from envs.play import start
from envs.worlds import world_of
from experiment.config import load_made
from experiment.hardware import prepare
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment
from extract.recorded import open_rollouts
from nextframe.model import load_nextframe
from nextframe.predictor import NextFrames
from nextframe.windows import Clips, Windows
from play.places import Happened, Place
from viz.frames import to_rgb

SECTIONS = ("env", "data", "model")
STARTS = 200
"""Held-out moments that a prediction can begin at."""


class NextFrameModel:
    """See play.models.Models. Raises Problem if the run has no such model."""

    kind = "nextframe"

    def __init__(self, run: Run):
        self.settings: Experiment = load_made(run.config, SECTIONS)
        prepare(self.settings.hardware)
        self.world = world_of(self.settings)
        model = load_nextframe(run, self.settings)
        self.context = model.context
        """K"""
        self.predictor = NextFrames(model)
        self.missing = {"controller": "a next-frame model has none"}
        self.starts: Clips | None = None
        """Windows of K recorded frames and the actions between them."""
        try:
            rollouts = open_rollouts(self.settings, run)
            held_out = rollouts.split(self.settings.data.val_ratio)[1]
            windows = Windows(rollouts, held_out, self.context, "held-out")
            self.starts = windows.read(windows.spread(STARTS))
        except Problem as problem:
            self.missing["dream"] = str(problem)

    def open(self, name: str) -> Place:
        """A game or prediction of its own for a session: 'dream' or 'real'. Raises Problem if it cannot be had."""
        if name in self.missing:
            raise Problem(self.missing[name])
        return PredictedPlace(self) if name == "dream" else ForetoldPlace(self)

    def warm_up(self) -> None:
        """Compile the model."""
        about = self.predictor.model.signature
        frames = np.zeros((1, self.context, about.height, about.width, about.channels), np.uint8)
        raw = self.resting(self.context)
        self.predictor.imagine(self.predictor.begin(frames, raw[:, :-1], np.arange(1)), raw[:, -1])

    def resting(self, steps: int) -> np.ndarray:
        """Raw actions of who touches nothing, (1, steps) or (1, steps, A) float32."""
        shape = (1, steps) if self.world.actions == 1 else (1, steps, self.world.actions)
        return np.asarray(self.world.unexecute(np.full(shape, self.world.rest, "float32")), "float32")


class PredictedPlace:
    """What the model predicts, fed its own predictions. It predicts no ending, so this goes on until it is left."""

    labels: tuple[str, ...] = ("what the model predicts",)
    advice: np.ndarray | None = None
    heated, scored = False, False

    def __init__(self, models: NextFrameModel):
        assert models.starts is not None
        self.predictor, self.starts = models.predictor, models.starts

    def begin(self, seed: int) -> None:
        """At a recorded moment that the seed chooses."""
        chosen = np.random.default_rng(seed).integers(len(self.starts.frames), size=1)
        frames, actions = self.starts.frames[chosen], self.starts.actions[chosen]
        self.memory = self.predictor.begin(frames, actions, chosen)
        self.pictures = [to_rgb(frames[0, -1])]

    def step(self, raw: np.ndarray, temperature: float) -> Happened:
        """One prediction."""
        predicted, self.memory = self.predictor.imagine(self.memory, raw[None])
        self.pictures = [to_rgb(predicted[0, 0])]
        return Happened(0.0, False, False)

    def close(self) -> None:
        """Nothing is open."""


class ForetoldPlace:
    """The real game, as the model sees it, and what the model predicted of each frame from those before it.

    Before K frames have been seen, the first stands for those that are missing.
    """

    labels: tuple[str, ...] = ("the game", "what the model predicted")
    advice: np.ndarray | None = None
    heated, scored = False, True

    def __init__(self, models: NextFrameModel):
        self.models, self.predictor, self.world = models, models.predictor, models.world
        self.vector = self.world.open(models.settings.env, 1, 0)

    def begin(self, seed: int) -> None:
        """A new episode in the same game."""
        frames = start(self.vector, np.arange(1), [seed])
        seen = np.repeat(frames[:, None], self.models.context, axis=1)  # (1, K, h, w, c)
        self.memory = self.predictor.begin(seen, self.models.resting(self.models.context - 1), np.arange(1))
        self.pictures = [to_rgb(frames[0])] * 2

    def step(self, raw: np.ndarray, temperature: float) -> Happened:
        """One step of the game, predicted before it is made."""
        predicted, _ = self.predictor.imagine(self.memory, raw[None])
        frames, rewards, terminated, truncated, _ = self.vector.step(self.world.to_env(self.world.execute(raw[None])))
        self.memory = self.predictor.observe(self.memory, raw[None], frames)
        self.pictures = [to_rgb(frames[0]), to_rgb(predicted[0, 0])]
        return Happened(float(rewards[0]), bool(terminated[0]), bool(truncated[0]))

    def close(self) -> None:
        """End the game."""
        self.vector.close()
