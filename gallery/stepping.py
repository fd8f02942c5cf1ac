"""A model stepped through under actions that are typed: the open loop, with the reader at the wheel."""

import contextlib
import copy
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from controller.agent import Recording
from envs.worlds import World, world_of
from experiment.hardware import prepare
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment
from gallery.exhibit import Exhibit
from openloop.predictor import Predictor, load_predictor, open_run
from openloop.windows import Recorded, open_recorded, read_windows
from play.messages import axes_of
from viz.frames import to_rgb

MOST = 1000  # steps that one line can ask for


class Steps:
    """A model that has seen the first `context` frames of a recorded window, and goes on as it is told.

    window: of this window alone. With openloop.dreams=D, D predictions stand side by side in a frame.
    """

    def __init__(self, predictor: Predictor, window: Recorded, context: int, settings: Experiment):
        self.predictor, self.name, self.world = predictor, settings.env.name, world_of(settings)
        self.recorded = window.actions[0, context - 1 : context - 1 + int(window.steps[0])]  # (S,) or (S, A)
        seen = window.frames[:, :context]
        self.memory = predictor.begin(seen, window.actions[:, : context - 1], window.numbers)
        self.frames = [np.tile(to_rgb(seen[0, -1]), (1, predictor.draws, 1))]
        """The last recorded frame, and those predicted since, (h, D·w, 3) uint8 each."""
        self.words = ["recorded"]  # the action before each

    def fork(self) -> "Steps":
        """Another that goes on from here by itself."""
        other = copy.copy(self)
        other.frames, other.words = list(self.frames), list(self.words)
        return other

    def type(self, *lines: str) -> np.ndarray:
        """Do what lines such as 'left x5' ask for; all frames so far, (T, h, D·w, 3) uint8.

        A line is an action by name or number (CarRacing: the three numbers 0.2 0.5 0), or `recorded` for what was done in
        the episode. Raises Problem for another line, which changes nothing.
        """
        for line in lines:
            words, times = read_times(line)
            if words == "recorded":
                taken = list(self.recorded[len(self.frames) - 1 :][:times])
                if len(taken) < times:
                    raise Problem(f"the recorded window has {len(taken)} more steps, not {times}")
            else:
                taken = [read_action(words, self.world)] * times
            for action in taken:
                predicted, self.memory = self.predictor.imagine(self.memory, action[None])  # (1, D, h, w, c)
                self.frames.append(np.concatenate(to_rgb(predicted[0]), axis=1))
                self.words.append(words)
        return np.stack(self.frames)


def read_times(line: str) -> tuple[str, int]:
    """'left x5' is ('left', 5), 'left' is ('left', 1). Raises Problem if xN is no number of times."""
    words, times = line.split(), 1
    if len(words) > 1 and words[-1][0] == "x":
        last = words.pop()
        if not last[1:].isdecimal() or not 1 <= int(last[1:]) <= MOST:
            raise Problem(f"'{last}' is no number of times: write x1 to x{MOST}")
        times = int(last[1:])
    return " ".join(words), times


def read_action(words: str, world: World) -> np.ndarray:
    """The raw action, () or (A,) float32, that the words name. Raises Problem, in one line, if they name none."""
    action: Any = None
    space: Any = world.action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        numbers = {name: number for number, name in enumerate(world.action_names)}
        numbers |= {str(number): number for number in range(int(space.n))}
        action = np.int64(numbers[words]) if words in numbers else None
    else:
        kind = float if isinstance(space, gymnasium.spaces.Box) else int
        with contextlib.suppress(ValueError, OverflowError):
            action = np.array([kind(word) for word in words.split()], space.dtype).reshape(space.shape)
    if action is None or not space.contains(action):
        raise Problem(f"'{words}' is no action: {describe_actions(world)}")
    return np.asarray(world.unexecute(world.from_env(action[None])), np.float32)[0]


def describe_actions(world: World) -> str:
    """What can be typed, in words."""
    space, names = world.action_space, world.action_names
    if isinstance(space, gymnasium.spaces.Discrete):
        named = [f"{name} ({number})" for number, name in enumerate(names)] or [f"a number below {space.n}"]
        return f"write {', '.join(named)} or recorded"
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return f"write whole numbers, {' '.join(f'(0 to {last})' for last in space.nvec - 1)}, or recorded"
    return f"write {' '.join(f'{axis.name} ({axis.low:g} to {axis.high:g})' for axis in axes_of(world))} or recorded"


def from_recording(exhibit: Exhibit, recording: Recording, at: int, *overrides: str) -> Steps:
    """V+M that has seen an episode up to step `at`. overrides: as in `from_window`."""
    if not 0 <= at < len(recording.frames) - 1:
        raise Problem(f"no frame follows step {at}: the episode has steps 0 to {len(recording.frames) - 1}")
    settings, run = open_run(exhibit.run, ["openloop.dreams=1", *overrides])
    window = Recorded(
        np.zeros(1, np.int64), np.array([len(recording.frames) - at - 1]), recording.frames[None], recording.raw[None]
    )
    return Steps(load_predictor(settings, run), window, at + 1, settings)


def from_window(run: Run, number: int = 0, *overrides: str) -> Steps:
    """The model of a run that has seen the context of one of its recorded windows.

    overrides: such as "openloop.dreams=4" or "openloop.temperature=0.5". Raises Problem if there is no such window.
    """
    settings, run = open_run(run, ["openloop.dreams=1", *overrides])
    rollouts, actions, windows = open_recorded(settings, run)
    if not 0 <= number < len(windows):
        raise Problem(f"there is no window {number}: they are 0 to {len(windows) - 1} (openloop.windows)")
    prepare(settings.hardware)
    context = settings.openloop.context
    window = read_windows(rollouts, actions, [windows[number]], context)
    return Steps(load_predictor(settings, run), window, context, settings)


def begin_steps(run: Run, seed: int, steps: int, seconds: float) -> Steps:
    """The model of a run at a moment: where an agent's episode of that seed, of so many steps at most, shows most in the
    seconds that follow; a next-frame model in the first of its windows.
    """
    if not run.controller.exists():
        return from_window(run)
    exhibit = Exhibit(run)
    recording = exhibit.live(seed, steps)
    return from_recording(exhibit, recording, exhibit.eventful(recording, exhibit.steps(seconds)))


def futures(steps: Steps, lines: Sequence[str]) -> dict[str, np.ndarray]:
    """What the model predicts from one moment under each of some lines: line -> (T, h, D·w, 3) uint8, the moment first."""
    return {line: steps.fork().type(line) for line in lines}
