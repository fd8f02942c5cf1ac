"""What a model has to offer to be evaluated open loop and teacher-forced, and stepped through by hand."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from experiment.problem import Problem, UsageProblem
from experiment.run import Run, find_run
from experiment.schema import Experiment

Memory = Any
"""Whatever a predictor keeps from step to step, for B windows; never changed in place, so that it can be gone back to."""


class Predictor(Protocol):
    """Predicts frames step by step, for B windows at once.

    Open loop is begin, then imagine again and again; teacher-forced is begin, then imagine and observe in turn.
    Frames go in as uint8 (B, h, w, c); c is 1 or 3. Actions are raw, as recorded, (B,) or (B, A) float32.
    """

    title: str  # what the model is called in plots
    draws: int  # D, predictions it makes of each window: 1 where they are not random
    sees: int  # how many frames it predicts from, the last ones; 0 where it remembers all of them

    def begin(self, frames: np.ndarray, actions: np.ndarray, windows: np.ndarray) -> Memory:
        """The memory after C recorded frames (B, C, h, w, c) and the actions between them, (B, C-1) or (B, C-1, A).

        windows: (B,) int, the windows' numbers, which with openloop.seed decide all random numbers; so a window's
        predictions do not depend on what else is in the batch. Raises Problem where C is too few.
        """

    def imagine(self, memory: Memory, actions: np.ndarray) -> tuple[np.ndarray, Memory]:
        """The frames that follow the actions, (B, D, h, w, c) float32 in [0, 1], and the memory that takes them as seen."""

    def observe(self, memory: Memory, actions: np.ndarray, frames: np.ndarray) -> Memory:
        """The memory after the actions and the frames that really followed, (B, h, w, c) uint8."""

    def reconstruct(self, frames: np.ndarray) -> np.ndarray | None:
        """The best that the model can show of frames (B, h, w, c) uint8, float32 in [0, 1]; None if it shows any frame."""


VM, NEXT_FRAME = ("vae", "rnn"), ("nextframe",)  # the stages that must be complete to predict with what they train


def trained_stages(run: Run) -> tuple[str, ...]:
    """Which of these a run has, V+M where it has both. Raises Problem if none is complete, naming the stage to run."""
    missing: list[str] = []
    for needed in (VM, NEXT_FRAME):
        left = [stage for stage in needed if not run.is_trained(stage)]
        if not left:
            return needed
        missing.append(f"`python -m {left[0]}`")
    raise Problem(f"{run.path} has no trained model to predict with yet: run {' or '.join(missing)} first")


def load_predictor(settings: Experiment, run: Run) -> Predictor:
    """The predictor of a run. Raises Problem if its weights are missing or damaged."""
    if trained_stages(run) is NEXT_FRAME:
        from nextframe.model import NextFrames, load_nextframe

        return NextFrames(load_nextframe(run, settings))
    from openloop.vm import VisionMemory
    from rnn.model import load_rnn
    from vae.model import load_vae

    return VisionMemory(load_vae(run, settings), load_rnn(run, settings), settings.openloop)


def open_run(name: str | Run, overrides: Sequence[str] = (), command: str = "") -> tuple[Experiment, Run]:
    """A run folder or what is shipped, with the settings that it was made with; overrides: openloop.* and hardware.*.

    Of a run with several iterations the one that find_run finds; command: see Run.latest.
    Raises UsageProblem if there is none, or for another override.
    """
    run = find_run(name, command)
    for override in overrides:
        if override.partition(".")[0] not in CHANGEABLE:
            raise UsageProblem(
                f"{override} cannot be changed here, only {'.* and '.join(CHANGEABLE)}.*: {run.path} is already made"
            )
    return run.settings((*SECTIONS, *CHANGEABLE), overrides), run


SECTIONS = ("env", "extract", "data", "vae", "rnn", "model")  # what a predictor and its windows are made with
CHANGEABLE = ("openloop", "hardware")
