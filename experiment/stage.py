"""The command line that every stage has: `python -m STAGE CONFIG [--preset NAME] [--run DIR] [key=value ...]`."""

import argparse
import contextlib
import io
import math
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, get_args

from experiment.beginning import settle
from experiment.config import DEFAULT_PRESET, flatten, load_config, written
from experiment.files import remove_partial
from experiment.hardware import describe_machine, import_tensorflow, use_threads
from experiment.problem import Problem, UsageProblem
from experiment.progress import duration
from experiment.run import Run
from experiment.schema import OFFLINE, Env, Experiment, for_iteration, is_of, limits_text
from experiment.surroundings import drop_variables, own_streams
from experiment.tracking import tracking

SETTING_COLUMN, HELP_WIDTH = 40, 120
DEAF = 10.0  # seconds after Ctrl-C in which another one is not heard
HELP = {"-h", "--help"}
COMMON = ("workers", "hardware")  # sections of the settings that every stage has


class Parser(argparse.ArgumentParser):
    """The command line of `python -m NAME`; a mistake in it is told in one line, with exit code 2.

    text: for --help, shown as it is.
    """

    def __init__(self, name: str, text: str, **options: Any):
        text = textwrap.dedent(text).strip()
        shown_as_it_is = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=f"python -m {name}", description=text, formatter_class=shown_as_it_is, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")


@dataclass(frozen=True)
class Stage:
    """What a stage is, for the command line and for the record in the run folder."""

    name: str  # as in `python -m NAME`
    text: str  # for --help: what it does, reads and writes
    sections: tuple[str, ...]  # of the settings that its result depends on, those of earlier stages included
    reads: tuple[str, ...] = ()  # other settings, for --help: what it makes does not depend on them
    needs: tuple[str, ...] = ()  # stages that must be complete before it
    makes: tuple[str, ...] = ()  # the attributes of Run that name its products
    lets_be: tuple[str, ...] = ()  # sections of config.yaml that it does not write, for they are the run's own
    of_last: bool = False  # whether it works on a run's last iteration, unless RUN/iterations/N names another
    whole: Callable[[Experiment, Run], bool] = lambda settings, run: True  # whether the products that exist are whole
    tensorflow: Callable[[Experiment], bool] = lambda settings: True  # whether it computes with TensorFlow

    def present(self, settings: Experiment, run: Run) -> bool:
        """Whether everything that this stage makes is there."""
        return all(getattr(run, product).exists() for product in self.makes) and self.whole(settings, run)


StageFunction = Callable[[Experiment, Run], dict[str, Any] | None]


def main(stage: Stage, function: StageFunction) -> NoReturn:
    """Run a stage as a command and exit: 0 when done, 2 for a mistake in the command, 1 for a fault, 130 for Ctrl-C."""
    sys.exit(guard(lambda: run_alone(stage, function, parse(stage))))


def guard(action: Callable[[], None]) -> int:
    """Do something for a user and return the exit code; what the user can mend is shown as one line."""
    drop_variables()
    with own_streams() as output, interrupted_once():
        try:
            action()
            output.flush()
        except Problem as problem:
            print(problem.line(), file=sys.stderr)
            return problem.exit_code
        except OSError as error:
            if error.filename is None:
                raise
            where = f"cannot use {error.filename} ({error.strerror}): mend that, or name another place"
            print(Problem(where).line(), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\ninterrupted: run the same command again to go on", file=sys.stderr)
            return 130
        if output.failure is None:
            return 0
        if not isinstance(output.failure, BrokenPipeError):  # which is no fault, as in `python -m STAGE ... | head`
            print(f"error: not all could be printed ({output.failure}); the work itself is done", file=sys.stderr)
        return 1


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """In the block Ctrl-C interrupts once; those of an impatient user would interrupt what is tidied up then."""
    last = -math.inf

    def interrupt(*_: Any) -> None:
        nonlocal last
        if time.monotonic() - last > DEAF:
            last = time.monotonic()
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # it is ignored, or a program's of which this is a part
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if last == -math.inf else signal.SIG_IGN)


def run_alone(stage: Stage, function: StageFunction, arguments: argparse.Namespace) -> None:
    """Run one stage as a command's arguments say."""
    named = run_folder(arguments)
    run = named.latest(stage.name) if stage.of_last else named
    experiment = load_config(arguments.config, arguments.preset, arguments.overrides)
    check_world(stage, experiment)
    if "begin" in stage.sections:
        experiment = settle(experiment, run, arguments.overrides)
    run_stage(stage, function, experiment, run)


def run_stage(stage: Stage, function: StageFunction, experiment: Experiment, run: Run) -> None:
    """Check, run and record one stage. experiment: the settings of the whole, `begin` as `settle` left it."""
    settings = for_iteration(experiment, run.iteration)
    with run.lock():
        record = run.read_record(stage.name)
        if run.begin(stage.name, settings, stage.sections, stage.needs, stage.present(settings, run)):
            print(f"{stage.name}: complete in {run.path}, nothing to do")
            return
        run.write_config(experiment, [name for name in stage.sections if name not in stage.lets_be])
        remove_partial(run.path)
        use_threads(settings.hardware)
        if stage.tensorflow(settings):
            import_tensorflow()
        before, began = files_in(run.path), time.monotonic()
        try:
            with tracking(settings, run, stage.name) if "wandb" in stage.sections else contextlib.nullcontext():
                figures = function(settings, run) or {}
        except Problem:
            # Where nothing was made of these settings, others are welcome.
            if record is None and files_in(run.path) <= before | {run.results}:
                run.record(stage.name).unlink()
            raise
        seconds = time.monotonic() - began
        # The seconds are those of the process that completed the stage; another may have begun it.
        figures = {"seconds": round(seconds, 1), "resumed": record is not None, **figures}
        keys = ["stages", stage.name]
        if record and record["complete"] and stage.name in run.read_results().get("stages", {}):
            keys.append("again")  # the figures of then stay
        else:
            run.update_results("machine", describe_machine())
        run.update_results(*keys, figures)
        run.complete(stage.name)
    print(f"{stage.name}: done in {duration(seconds)}, in {run.path}", flush=True)


def check_world(stage: Stage, experiment: Experiment) -> None:
    """Raise UsageProblem where a stage is of V, M and C and the world of the next-frame model, or the other way round."""
    world, models = experiment.env.name, {"vae", "model"} & set(stage.sections)
    if models == {"vae" if world in OFFLINE else "model"}:
        others = sorted({*get_args(Env.__annotations__["name"])} - {*OFFLINE}) if world in OFFLINE else OFFLINE
        raise UsageProblem(f"'{stage.name}' is for env.name={' or '.join(others)}, not {world}: give another CONFIG")


def files_in(folder: Path) -> set[Path]:
    """All files in a folder and those in it."""
    return {path for path in folder.rglob("*") if path.is_file()}


def run_folder(arguments: argparse.Namespace) -> Run:
    """The run that the arguments name; else runs/doom for configs/doom.yaml's default preset, runs/doom-quick for another."""
    preset = "" if arguments.preset in (None, DEFAULT_PRESET) else f"-{arguments.preset}"
    return Run(arguments.run or Path("runs") / f"{Path(arguments.config).stem}{preset}")


def parse(stage: Stage, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of a stage; argparse answers --help and exits 2 on a mistake."""
    parser = new_parser(stage.name, stage.text, (*stage.sections, *stage.reads), arguments)
    return parser.parse_intermixed_args(arguments)


def new_parser(
    name: str, text: str, sections: Sequence[str], arguments: Sequence[str] | None = None
) -> argparse.ArgumentParser:
    """A parser for `python -m NAME CONFIG ...`, whose --help shows the settings of these sections as the arguments say."""
    parser = Parser(name, text)
    parser.add_argument("config", metavar="CONFIG", help="an experiment, such as configs/doom.yaml")
    parser.add_argument("--preset", metavar="NAME", help="quick, laptop (the default) or paper: how much of everything")
    parser.add_argument(
        "--run", metavar="DIR", type=folder_name, help="the run folder (runs/CONFIG, or runs/CONFIG-PRESET)"
    )
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="settings that differ, such as vae.steps=100"
    )
    arguments = sys.argv[1:] if arguments is None else arguments
    asked_about = None
    if HELP & set(arguments):  # where CONFIG is missing or something is wrong, the defaults are shown
        with contextlib.suppress(SystemExit, Problem), contextlib.redirect_stderr(io.StringIO()):
            given, _ = parser.parse_known_intermixed_args([text for text in arguments if text not in HELP])
            asked_about = load_config(given.config, given.preset, given.overrides)
    parser.epilog = settings_help((*sections, *COMMON), asked_about)
    return parser


def folder_name(text: str) -> str:
    """The value of --run, of which no shell expands the ~ in --run=~/doom; an empty one, as of a variable that was never
    set, is a mistake."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a folder; leave it out for the default")
    return os.path.expanduser(text)


def settings_help(sections: Sequence[str], settings: Experiment | None = None) -> str:
    """The settings of these sections, or single ones by their keys, with values, limits and meaning.

    settings: whose values are shown, of what means something in their world; else the schema's defaults, of everything.
    """
    defaults = "defaults of experiment/schema.py; CONFIG and its presets may say otherwise"
    lines = [f"settings ({'as CONFIG, its preset and what follows them say' if settings else defaults}):"]
    for key, value, entry in flatten(settings or Experiment()):
        if {key, key.split(".")[0]} & {*sections} and (settings is None or is_of(settings.env.name, key, entry)):
            limits = limits_text(entry)
            text = f"{entry.metadata['text']} ({limits})" if limits else entry.metadata["text"]
            first = f"  {key}={written(value)}".ljust(SETTING_COLUMN) + " "
            lines += textwrap.wrap(text, HELP_WIDTH, initial_indent=first, subsequent_indent=" " * (SETTING_COLUMN + 1))
    return "\n".join(lines)
