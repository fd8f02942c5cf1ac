"""The command line that every stage has: `python -m STAGE CONFIG [--preset NAME] [--run DIR] [key=value ...]`."""

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from experiment.beginning import settle
from experiment.config import DEFAULT_PRESET, flatten, load_config
from experiment.files import remove_partial
from experiment.hardware import describe_machine, import_tensorflow
from experiment.iterations import for_iteration
from experiment.problem import Problem
from experiment.progress import duration
from experiment.run import Run
from experiment.schema import Experiment, limits_text

SETTING_COLUMN, HELP_WIDTH = 40, 120


@dataclass(frozen=True)
class Stage:
    """What a stage is, for the command line and for the record in the run folder."""

    name: str
    """As in `python -m NAME`."""
    text: str
    """For --help: what it does, reads and writes."""
    sections: tuple[str, ...]
    """The sections of the settings that its result depends on, those of the stages before it included."""
    needs: tuple[str, ...] = ()
    """Stages that must be complete before it."""
    makes: tuple[str, ...] = ()
    """The attributes of Run that name its products."""
    whole: Callable[[Experiment, Run], bool] | None = None
    """Whether its products are whole, where that they exist does not tell."""

    def present(self, settings: Experiment, run: Run) -> bool:
        """Whether everything that this stage makes is there."""
        exist = all(getattr(run, product).exists() for product in self.makes)
        return exist and (self.whole is None or self.whole(settings, run))


StageFunction = Callable[[Experiment, Run], dict[str, Any] | None]


def main(stage: Stage, function: StageFunction) -> NoReturn:
    """Run a stage as a command and exit: 0 when done, 2 for a mistake in the command, 1 for a fault, 130 for Ctrl-C."""
    sys.exit(guard(lambda: run_stage(stage, function, parse(stage))))


def guard(action: Callable[[], None]) -> int:
    """Do something for a user and return the exit code; what the user can mend is shown as one line."""
    try:
        action()
        sys.stdout.flush()
    except Problem as problem:
        sys.unraisablehook = lambda _: None  # on a full disk, h5py goes on to complain of every object it cannot close
        print(f"error: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted: run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not output_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed at exit
        return 1
    return 0


def output_is_gone() -> bool:
    """Whether nobody reads what is printed any more, as in `python -m STAGE ... | head`."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


def run_stage(stage: Stage, function: StageFunction, arguments: argparse.Namespace) -> None:
    """Check, run and record one stage."""
    run = Run(arguments.run or default_run(arguments.config, arguments.preset))
    experiment = settle(load_config(arguments.config, arguments.preset, arguments.overrides), run)
    settings = for_iteration(experiment, run.iteration)
    with run.lock():
        resumed = run.record(stage.name).exists()
        if run.begin(stage.name, settings, stage.sections, stage.needs, stage.present(settings, run)):
            print(f"{stage.name}: complete in {run.path}, nothing to do")
            return
        run.write_config(experiment, stage.sections)
        remove_partial(run.path)
        import_tensorflow()
        before, began = files_in(run.path), time.monotonic()
        try:
            figures = function(settings, run) or {}
        except Problem:
            if not resumed and files_in(run.path) == before:  # nothing was made of these settings: others are welcome
                run.record(stage.name).unlink()
            raise
        seconds = time.monotonic() - began
        record_time(run, stage.name, {"seconds": round(seconds, 1), "resumed": resumed, **figures})
        run.complete(stage.name)
    print(f"{stage.name}: done in {duration(seconds)}, in {run.path}", flush=True)


def files_in(folder: Path) -> set[Path]:
    """All files in a folder and those in it."""
    return {path for path in folder.rglob("*") if path.is_file()}


def record_time(run: Run, stage: str, figures: dict[str, Any]) -> None:
    """Write a stage's figures into results.json, with the machine they were measured on.

    `seconds` are those of the process that completed the stage; `resumed` says that another had begun it.
    """
    run.update_results("machine", describe_machine())
    run.update_results("stages", stage, figures)


def default_run(config: str, preset: str | None) -> Path:
    """runs/doom for configs/doom.yaml's default preset, runs/doom-quick for another."""
    name = Path(config).stem
    return Path("runs") / (name if preset in (None, DEFAULT_PRESET) else f"{name}-{preset}")


def parse(stage: Stage, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of a stage; argparse answers --help and exits 2 on a mistake."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {stage.name}",
        description=textwrap.dedent(stage.text).strip(),
        epilog=settings_help(stage.sections),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    return parser.parse_intermixed_args(arguments)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every command shares."""
    parser.add_argument("config", metavar="CONFIG", help="an experiment, such as configs/doom.yaml")
    parser.add_argument("--preset", metavar="NAME", help="quick, laptop (the default) or paper: how much of everything")
    parser.add_argument(
        "--run", metavar="DIR", type=folder_name, help="the run folder (runs/CONFIG, or runs/CONFIG-PRESET)"
    )
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="settings that differ, such as vae.steps=100")


def folder_name(text: str) -> str:
    """The value of --run; an empty one, such as that of a variable that was never set, is a mistake."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a folder; leave it out for the default")
    return text


def settings_help(sections: Sequence[str], common: Sequence[str] = ("workers", "hardware")) -> str:
    """The settings of these sections, with defaults, limits and meaning; common: sections that every stage has."""
    lines = ["settings (defaults of experiment/schema.py; CONFIG and its presets may say otherwise):"]
    for key, value, entry in flatten(Experiment()):
        if key.split(".")[0] in (*sections, *common):
            shown = str(value).replace("'", "").replace(" ", "") if isinstance(value, list) else value
            limits = limits_text(entry)
            text = f"{entry.metadata['text']} ({limits})" if limits else entry.metadata["text"]
            first = f"  {key}={shown}".ljust(SETTING_COLUMN) + " "
            lines += textwrap.wrap(text, HELP_WIDTH, initial_indent=first, subsequent_indent=" " * (SETTING_COLUMN + 1))
    return "\n".join(lines)
