"""`python -m openloop.interactive RUN`: from a recorded window, what the model predicts under the user's own actions."""

import argparse
import itertools
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from envs.worlds import World, world_of
from experiment.files import atomic
from experiment.hardware import import_tensorflow
from experiment.pretrained import is_shipped
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import guard, settings_help
from openloop.predictor import CHANGEABLE, Predictor, kind_of, open_run
from openloop.windows import Batch

TEXT = """
Begin with the recorded frames of a window and go on under the actions that are typed, or come from standard input, one
a line: the model sees its own predictions only. Each predicted frame is written as a PNG, step-0001.png and so on;
step-0000.png is the last recorded frame. With openloop.dreams=4, four predictions stand side by side.

A line is an action by name or number (Doom: left; CarRacing: the three numbers 0.2 0.5 0), `recorded` for what was done in
the episode, either with xN behind it to do it N times, or `quit`. A line that is none of these changes nothing.
"""
MOST = 1000
"""Steps that one line can ask for."""
SCALE = 4


class Command(NamedTuple):
    """What a line asks for."""

    word: str
    """As it was typed, without the repetition."""
    action: np.ndarray | None
    """Raw, () or (A,) float32; None for the recorded one."""
    times: int


class Session:
    """One window, stepped through. batch: of this window alone."""

    def __init__(self, predictor: Predictor, batch: Batch, context: int):
        self.predictor, self.batch, self.context = predictor, batch, context
        self.memory = predictor.begin(batch.frames[:, :context], batch.actions[:, : context - 1], batch.numbers)
        self.steps = 0

    @property
    def begun(self) -> np.ndarray:
        """The last recorded frame that the model has seen, (h, w, c) uint8."""
        return self.batch.frames[0, self.context - 1]

    @property
    def left(self) -> int:
        """Steps for which there is a recorded action still."""
        return max(0, int(self.batch.steps[0]) - self.steps)

    def step(self, action: np.ndarray | None) -> np.ndarray:
        """The D predicted frames after a raw action, or the recorded one (None): (D, h, w, c) float32 in [0, 1]."""
        if action is None:
            action = self.batch.actions[0, self.context - 1 + self.steps]
        frames, self.memory = self.predictor.imagine(self.memory, np.asarray(action, np.float32)[None])
        self.steps += 1
        return frames[0]


def read_command(line: str, world: World) -> Command:
    """What a line asks for. Raises Problem, in one line, if it is no action of this world."""
    words = line.split()
    times = 1
    if len(words) > 1 and words[-1][0] == "x":
        if not words[-1][1:].isdecimal() or not 1 <= int(words[-1][1:]) <= MOST:
            raise Problem(f"'{words[-1]}' is no number of times: write x1 to x{MOST}")
        times = int(words.pop()[1:])
    said = " ".join(words)
    if said == "recorded":
        return Command(said, None, times)
    executed = world.from_env(read_action(words, world))
    return Command(said, np.asarray(world.unexecute(executed), np.float32), times)


def read_action(words: list[str], world: World) -> Any:
    """An action as the environment takes it. Raises Problem if the words are none."""
    space, names = world.action_space, world.action_names
    said = " ".join(words)
    problem = Problem(f"'{said}' is no action: {describe_actions(world)}")
    if isinstance(space, gymnasium.spaces.Discrete):
        numbers = {name: number for number, name in enumerate(names)} | {str(n): n for n in range(int(space.n))}
        if said not in numbers:
            raise problem
        return np.int64(numbers[said])
    assert isinstance(space, gymnasium.spaces.Box)
    try:
        action = np.array([float(word) for word in words], np.float32)
    except ValueError:
        raise problem from None
    if action.shape != space.shape or not ((action >= space.low) & (action <= space.high)).all():
        raise problem
    return action


def describe_actions(world: World) -> str:
    """What can be typed, in words."""
    space, names = world.action_space, world.action_names
    if isinstance(space, gymnasium.spaces.Discrete):
        named = [f"{name} ({number})" for number, name in enumerate(names)] or [f"a number below {space.n}"]
        return f"write {', '.join(named)}, recorded or quit"
    assert isinstance(space, gymnasium.spaces.Box)
    limits = zip(names, space.low, space.high, strict=True)
    return f"write {' '.join(f'{name} ({low:g} to {high:g})' for name, low, high in limits)}, recorded or quit"


def play(session: Session, world: World, lines: Iterable[str], folder: Path) -> None:
    """Do what the lines ask for, one after the other, until `quit` or their end; PNGs go into `folder`."""
    save(folder, 0, session.begun[None], "recorded")
    for line in lines:
        if not line.strip():
            continue
        if line.strip() == "quit":
            break
        try:
            command = read_command(line, world)
            if command.action is None and command.times > session.left:
                raise Problem(f"the recorded window has {session.left} more steps, not {command.times}")
        except Problem as problem:
            print(f"error: {problem}", file=sys.stderr, flush=True)
            continue
        for _ in range(command.times):
            frames = session.step(command.action)
            path = save(folder, session.steps, frames, command.word)
            print(f"step {session.steps}: {command.word}, {path}", flush=True)


def save(folder: Path, step: int, frames: np.ndarray, word: str) -> Path:
    """Write the D frames of a step (D, h, w, c), side by side, as a PNG."""
    from PIL import Image

    from viz.frames import to_rgb
    from viz.video import side_by_side

    path = folder / f"step-{step:04d}.png"
    labels = [f"step {step}: {word}", *(f"dream {number}" for number in range(2, len(frames) + 1))]
    picture = next(side_by_side(list(to_rgb(frames)[:, None]), labels, SCALE))
    with atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    return path


def session_folder(run: Run, out: str | None) -> Path:
    """Where the PNGs go: the folder given, or the first RUN/openloop/session-n that is not there. Problem if it holds others.

    What is shipped is left as it is: there RUN is runs/NAME.
    """
    if out is None:
        folder = Path("runs") / run.path.name if is_shipped(run) else run.path
        paths = (folder / "openloop" / f"session-{number}" for number in itertools.count(1))
        return next(path for path in paths if not path.exists())
    if any(Path(out).glob("step-*.png")):
        raise Problem(f"{out} holds the steps of an earlier session: give another folder with --out")
    return Path(out)


def begin(settings: Experiment, run: Run, number: int) -> Session:
    """A session that begins with one of the run's windows. Raises Problem if there is no such window, or no model."""
    from experiment.hardware import prepare
    from openloop.windows import open_recorded, read_windows

    rollouts, actions, windows = open_recorded(settings, run)
    if not 0 <= number < len(windows):
        raise Problem(f"there is no window {number}: they are 0 to {len(windows) - 1} (openloop.windows)")
    prepare(settings.hardware)
    predictor = kind_of(run).load(settings, run)
    context = settings.openloop.context
    batch = read_windows(rollouts, actions, [windows[number]], context)
    window = windows[number]
    print(
        f"{predictor.title} has seen {context} frames of window {number}, recorded episode {window.episode} from step {window.start}"
    )
    return Session(predictor, batch, context)


def interact(arguments: argparse.Namespace) -> None:
    """Check, load, and play what is typed."""
    settings, run = open_run(arguments.run, ["openloop.dreams=1", *arguments.overrides])
    kind_of(run)
    folder = session_folder(run, arguments.out)
    import_tensorflow()
    session, world = begin(settings, run, arguments.window), world_of(settings)
    print(f"pictures go into {folder}; {describe_actions(world)}; x5 behind it repeats", flush=True)
    play(session, world, typed() if sys.stdin.isatty() else sys.stdin, folder)
    print(f"{session.steps} steps, in {folder}")


def typed() -> Iterable[str]:
    """Lines from a terminal, with a prompt, until Ctrl-D."""
    while True:
        try:
            yield input("action> ")
        except EOFError:
            print()
            return


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m openloop.interactive",
        description=textwrap.dedent(TEXT).strip(),
        epilog=settings_help(CHANGEABLE, common=()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="a run folder with a trained model, or what is shipped: breakout")
    parser.add_argument("--window", metavar="N", type=int, default=0, help="which window to begin with (default 0)")
    parser.add_argument("--out", metavar="DIR", help="where the PNGs go (a new folder RUN/openloop/session-N)")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="settings, such as openloop.temperature=0.5")
    arguments = parser.parse_intermixed_args()
    interact(arguments)


if __name__ == "__main__":
    sys.exit(guard(main))
