"""The run folder: where everything of one run lies, and which settings each stage was made with.

What is shipped, in pretrained/, are run folders small enough to be kept with the code, and found by name.
"""

import dataclasses
import fcntl
import functools
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from experiment.config import flatten, load_config, to_yaml
from experiment.files import (
    JSON_REMEDY,
    LOCK,
    ROLLOUTS,
    SHIPPED,
    atomic,
    check_folder,
    read_json,
    reading,
    regular,
    write_json,
)
from experiment.problem import Problem, UsageProblem
from experiment.schema import EXTENDABLE, UNRECORDED, Experiment

ITERATIONS = "iterations"
PRETRAINED = SHIPPED / "pretrained"  # run folders of agents that are shipped, by name
CONFIG_HEADER = "# What this run is made with. Give this file to a command as its CONFIG to make the same run again.\n"
ALWAYS_WRITTEN = ("iterations", "repeat", "workers", "hardware")  # sections of config.yaml that no stage has alone


def difference(made: Mapping[str, Any], wanted: Mapping[str, Any], unsaid: Mapping[str, Any]) -> str | None:
    """The first key in which what was made is not what is wanted; None if it need not be made again.

    made: what is recorded of it, such as settings, seeds and checksums of weights; unsaid: what holds where that says nothing.
    """
    told = {**unsaid, **made}
    return next((key for key, value in wanted.items() if key not in told or not np.array_equal(told[key], value)), None)


def section_settings(settings: Experiment, sections: Sequence[str]) -> dict[str, Any]:
    """Dotted key -> value, of these sections, without those that what is made does not depend on."""
    return {
        key: value for key, value, _ in flatten(settings) if key.split(".")[0] in sections and key not in UNRECORDED
    }


class Run:
    """Paths and records of a run folder, which holds all that a run reads and writes."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        absolute = Path(os.path.abspath(path))
        self.one = absolute.parent.name == ITERATIONS  # whether a single iteration was named, not a run with several
        if self.one and self.path.parent.name != ITERATIONS:
            self.path = absolute  # named from inside `iterations`, as in `--run 2`
        if self.one and self.path.name == "1":
            self.path = self.path.parent.parent
        self.config = self.path / "config.yaml"
        self.rollouts = self.path / ROLLOUTS
        self.vae_weights = self.weights("vae")
        self.latents = self.path / "latents.h5"
        self.rnn_weights = self.weights("rnn")
        self.starts = self.path / "starts.h5"
        self.controller = self.path / "controller.h5"
        self.nextframe_weights = self.weights("nextframe")
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics"
        self.tensorboard = self.path / "tensorboard"
        self.plots = self.path / "plots"
        self.videos = self.path / "videos"
        self.results = self.path / "results.json"
        self.stages = self.path / "stages"

    @property
    def iteration(self) -> int:
        """Which iteration this is of (see experiment.schema): 1 unless the folder lies in another's `iterations`.

        Raises UsageProblem for a number that no iteration there has.
        """
        if self.path.parent.name != ITERATIONS or not self.path.name.isdecimal():
            return 1
        number = int(self.path.name)
        if number < 2 or self.path.name != str(number):
            raise UsageProblem(
                f"{self.path} cannot be an iteration: they are {self.path.parent / '1'} (which is "
                f"{self.path.parent.parent} itself), {self.path.parent / '2'} and so on (--run)"
            )
        return number

    @property
    def previous(self) -> "Run | None":
        """The iteration before this one, if there is one."""
        return self.at(self.iteration - 1) if self.iteration > 1 else None

    def at(self, number: int) -> "Run":
        """Iteration `number` of the same run."""
        base = self.path.parent.parent if self.iteration > 1 else self.path
        return Run(base if number == 1 else base / ITERATIONS / str(number))

    @property
    def title(self) -> str:
        """What the run is called where it is shown: its folder's name, whichever iteration it is."""
        return Path(os.path.abspath(self.at(1).path)).name

    def latest(self, command: str = "") -> "Run":
        """The last iteration that has a controller, or the first where none has; of a single iteration, itself.

        command: the name of one that is to say so where it is not the first.
        """
        last = self
        for number in itertools.count(2) if not self.one else ():
            if not self.at(number).controller.exists():
                break
            last = self.at(number)
        if command and last is not self:
            another = self.path / ITERATIONS / "N"
            print(f"{command}: of iteration {last.iteration}, in {last.path} ({another} names another)", flush=True)
        return last

    def settings(self, strict: Sequence[str], overrides: Sequence[str] = ()) -> Experiment:
        """What this run was made with, perhaps by an earlier version.

        What this version does not know is left out, except in the sections `strict`, where it would matter.
        """
        return load_config(self.config, None, overrides, strict)

    @property
    def all_rollouts(self) -> list[Path]:
        """The folders of everything recorded up to this iteration."""
        return [self.at(number).rollouts for number in range(1, self.iteration + 1)]

    def begin(
        self, stage: str, settings: Experiment, sections: Sequence[str], needs: Sequence[str], present: bool
    ) -> bool:
        """Check that `stage` may run here with these settings and record them; return whether it is complete already.

        sections: the settings sections that its result depends on. needs: stages that must be complete.
        present: whether its products are there; a stage whose product is gone is not complete.
        Raises Problem if a needed stage is missing, if this stage or one before it was made with other settings, or if
        results.json, which it will be recorded in, cannot be read.
        """
        self.read_results()
        for needed in needs:
            record = self.read_record(needed)
            if record is None or not record["complete"]:
                raise Problem(
                    f"{self.path} has no complete '{needed}' yet, which '{stage}' needs: run `python -m {needed}` with the same arguments first"
                )
            self.compare(needed, record["settings"], settings)
        current = section_settings(settings, sections)
        record = self.read_record(stage) or {"complete": False, "settings": current}
        self.compare(stage, record["settings"], settings)
        complete = present and self.is_complete(stage, settings, sections)
        if not complete:
            write_json(self.record(stage), {"complete": False, "settings": current})
        return complete

    def is_complete(self, stage: str, settings: Experiment, sections: Sequence[str]) -> bool:
        """Whether a stage has done all that these settings ask for, by its record."""
        record, current = self.read_record(stage), section_settings(settings, sections)
        return bool(record and record["complete"] and difference(record["settings"], current, unsaid=current) is None)

    def write_config(self, settings: Experiment, sections: Sequence[str]) -> None:
        """Write config.yaml: these sections as they are in the settings, and the others as they were, if it was there.

        settings: those of the whole experiment, before experiment.schema.for_iteration.
        """
        if self.config.exists():
            given = {name: getattr(settings, name) for name in (*sections, *ALWAYS_WRITTEN)}
            settings = dataclasses.replace(self.settings(()), **given)
        with atomic(self.config) as temporary:
            temporary.write_text(CONFIG_HEADER + to_yaml(settings), encoding="utf-8")

    def complete(self, stage: str) -> None:
        """Record that a stage has done all it has to."""
        write_json(self.record(stage), {**(self.read_record(stage) or {}), "complete": True})

    def record(self, stage: str) -> Path:
        """The file that says which settings a stage was made with, and whether it is complete."""
        return self.stages / f"{stage}.json"

    def read_record(self, stage: str) -> dict[str, Any] | None:
        """What is recorded of a stage: `complete` and `settings`; None if it was never begun. Raises Problem if it is damaged."""
        record: dict[str, Any] | None = read_json(self.record(stage))
        if record is not None and (type(record.get("complete")), type(record.get("settings"))) != (bool, dict):
            raise Problem(f"{self.record(stage)} is not what was written there: {JSON_REMEDY}")
        return record

    def weights(self, stage: str) -> Path:
        """What a stage trains: V, M or the next-frame model."""
        return self.path / f"{stage}.weights.h5"

    def is_trained(self, stage: str) -> bool:
        """Whether those weights are there, and the stage is complete; of what is shipped there is no record of stages."""
        return (self.read_record(stage) or {"complete": True})["complete"] and self.weights(stage).exists()

    def precision(self) -> str | None:
        """What hardware.precision=auto has come to in this run (see experiment.hardware.prepare); None if it was never asked."""
        with self.reading_results():
            found: str | None = self.read_results().get("hardware", {}).get("precision")
            if found not in (None, "float32", "bfloat16"):
                raise ValueError(f"a precision of {found}")
        return found or (self.previous.precision() if self.previous is not None else None)

    def compare(self, stage: str, recorded: dict[str, Any], settings: Experiment) -> None:
        """Raise Problem naming the first setting that differs from what `stage` was made with here."""
        fixed = {key for key in recorded if not {key, key.split(".")[0]} & {*EXTENDABLE, *UNRECORDED}}
        wanted = {key: value for key, value, _ in flatten(settings) if key in fixed}
        if key := difference(recorded, wanted, unsaid={}):
            asked = "nothing" if wanted[key] == "" else wanted[key]
            raise Problem(
                f"{self.path} holds '{stage}' made with {key}={recorded[key]}, not {asked}: "
                f"use another folder (--run), or the same setting ({key}={recorded[key]})"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run folder for this process; raises Problem if another process is working in it.

        Where the file system has no locks, a warning asks the user to see to that. Raises UsageProblem if it cannot be a
        run folder: not a folder, not ours to write in, or an iteration without the one before it; Problem if it has
        something in it that nobody should work with. A folder that is made here, and stays empty, is removed at the end.
        """
        if self.previous is not None and not self.previous.config.exists():
            raise UsageProblem(
                f"{self.path} would be iteration {self.iteration}, but there is no iteration {self.iteration - 1} in "
                f"{self.previous.path}: run that first, or use another folder (--run)"
            )
        try:
            made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            # Neither followed where it is a link, nor waited for where it is a pipe, nor emptied.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            file = open(os.open(self.path / LOCK, flags, 0o666), "rb")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise UsageProblem(
                f"{self.path} cannot be a run folder ({error.strerror}: {error.filename}): use another one (--run)"
            ) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Problem(
                    f"another process is working in {self.path}: wait for it, or use another run folder"
                ) from None
            except OSError as error:
                warn_of_no_lock(self.path, error.strerror)
            self.check()
            try:
                yield
            finally:
                with suppress(OSError):  # another run has begun beside it, or it is gone
                    if made and os.listdir(self.path) == [LOCK]:
                        (self.path / LOCK).unlink()
                        for folder in made:
                            folder.rmdir()

    def check(self) -> None:
        """Raise Problem if something in the folder cannot be worked with, would be waited for, or leads out of it."""
        for path in (path for path in vars(self).values() if isinstance(path, Path) and path != self.path):
            if path.suffix and path.exists():
                regular(path)
            elif not path.suffix and os.path.lexists(path) and not path.is_dir():
                raise Problem(f"{path} is not a folder: move it away")
        check_folder(self.path)

    def read_results(self) -> dict[str, Any]:
        """results.json, a dictionary of dictionaries; empty where there is none. Raises Problem if it is something else."""
        results: dict[str, Any] = read_json(self.results, {})
        with self.reading_results():
            for part in (*results.values(), *results.get("evaluations", {}).values()):
                part.keys()
        return results

    def reading_results(self) -> AbstractContextManager[None]:
        """Problem, naming results.json, for whatever goes wrong in a block that relies on what is in it."""
        if not self.results.exists():
            return nullcontext()
        return reading(self.results, JSON_REMEDY, "is not what was written there")

    def update_results(self, *keys_and_value: Any) -> None:
        """results.json with one value set: update_results("evaluations", "game", {...}) sets results["evaluations"]["game"]."""
        *keys, last, value = keys_and_value
        place = results = self.read_results()
        for key in keys:
            place = place.setdefault(key, {})
        place[last] = value
        write_json(self.results, results)


@functools.cache
def warn_of_no_lock(folder: Path, reason: str) -> None:
    """Say once that a run folder cannot be locked."""
    print(
        f"warning: {folder} cannot be locked ({reason}): do not let two processes work in it at once", file=sys.stderr
    )


def shipped(name: str) -> Run | None:
    """What is shipped under a name, if there is such a thing; a path is none, not even ./doom."""
    run = Run(PRETRAINED / name)
    return run if os.sep not in name and run.config.exists() else None


def is_shipped(run: Run) -> bool:
    """Whether a run folder is one of those."""
    return run.path.resolve().is_relative_to(PRETRAINED.resolve())


def find_run(name: "Path | str | Run", command: str = "") -> Run:
    """What is shipped under a name, or the run folder there; see Run.latest. What was found already is found again.

    Where there are both it says which it takes. Raises UsageProblem if there is none.
    """
    if isinstance(name, Run):
        return name
    own = Run(name)
    run = shipped(str(name)) or own
    if run is not own and own.config.exists() and not is_shipped(own):
        print(f"{name}: what is shipped is taken; for the run folder of that name write ./{name}", file=sys.stderr)
    if not run.config.exists():
        names = sorted(path.parent.name for path in PRETRAINED.glob("*/config.yaml"))
        raise UsageProblem(
            f"{name} is neither shipped ({', '.join(names) or 'nothing is'}) nor a run folder such as runs/doom"
        )
    return run.latest(command)
