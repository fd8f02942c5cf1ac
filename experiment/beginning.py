"""Where V and M, or the next-frame model, have their first weights from: the setting `begin`, or the last iteration."""

import dataclasses
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiment.arrays import open_hdf5
from experiment.config import flatten
from experiment.files import checksum
from experiment.problem import Problem, UsageProblem
from experiment.run import ITERATIONS, Run, find_run, is_shipped, section_settings, shipped
from experiment.schema import OFFLINE, Experiment

SIZES = {
    "vae": ("vae.z",),
    "rnn": ("rnn.hidden", "rnn.mixtures", "rnn.action", "rnn.predict_done", "rnn.predict_reward"),
    "nextframe": ("env.size", "env.grey", "model"),
}
"""What has to be the same there, beside the world; a section's name stands for all in it."""
REMEDY = "use the settings that it was made with, or begin with another run"
"""Where weights cannot be begun with after all; they are not this run's to delete."""


def settle(settings: Experiment, run: Run, overrides: Sequence[str] = ()) -> Experiment:
    """The settings with `begin` as it is recorded: a shipped name, or the absolute path of one iteration's folder.

    What a run has begun with it keeps, whether or not there is a later iteration of that by now. overrides: those of the
    command line: who asks there for another size, and not for `begin`, gets random weights in its place, and is told.
    Raises UsageProblem if it cannot be begun with: it is not there, not complete, damaged, or of another world or size.
    """
    if not settings.begin:
        return settings
    given = os.path.expanduser(settings.begin)
    for stage in trained(settings):
        recorded = str((run.at(1).read_record(stage) or {"settings": {}})["settings"].get("begin") or "")
        if recorded and (recorded == given or Run(recorded).at(1).path == Path(os.path.abspath(given))):
            found = source_of(recorded)
            if found.config.exists() and (other := other_size(settings, found)):
                raise of_other_size(settings, found, *other)
            return dataclasses.replace(settings, begin=recorded)
    found = find_run(given)
    if other := other_size(settings, found):
        key, made, wanted = other
        asked = {text.split("=")[0].strip() for text in overrides}
        if "begin" in asked or not asked & {key, key.split(".")[0]}:
            raise of_other_size(settings, found, *other)
        why = f"{key}={wanted} is asked for, and {found.path} was made with {made}"
        print(f"beginning with random weights: {why}", flush=True)
        return dataclasses.replace(settings, begin="")
    check(settings, found)
    if were_taught_what_is_held_out(settings, found):
        print(
            f"warning: {found.path} has learnt from episodes that are held out here (extract.seed={settings.extract.seed} in "
            "both, but another number of episodes): held-out figures will look too good; ask for another extract.seed",
            file=sys.stderr,
        )
    folder = found.path / ITERATIONS / "1" if found.one and found.iteration == 1 else found.path
    name = found.path.name if is_shipped(found) else os.path.abspath(folder)
    return dataclasses.replace(settings, begin=name)


def were_taught_what_is_held_out(settings: Experiment, found: Run) -> bool:
    """Whether a run recorded the same episodes, but held out others: which ones are depends on how many there are."""
    made, wanted = (section_settings(of, ("extract", "data")) for of in (found.settings(()), settings))
    amounts = ("episodes", "steps", "shard_episodes", "shard_steps")
    keys = [f"extract.{name}" for name in amounts] + ["data.val_ratio"]
    return bool(made["extract.seed"] == wanted["extract.seed"] and any(made[key] != wanted[key] for key in keys))


def trained(settings: Experiment) -> tuple[str, ...]:
    """The stages that begin with weights."""
    if settings.env.name in OFFLINE:
        return ("nextframe",)
    return ("vae", "rnn") if settings.rnn.train else ("vae",)


def other_size(settings: Experiment, found: Run) -> tuple[str, Any, Any] | None:
    """The first setting in which a run is of another world or size, and its value there and here; None if there is none."""
    wanted = {key: value for key, value, _ in flatten(settings)}
    made = {key: value for key, value, _ in flatten(found.settings(()))}
    sizes = {"env.name", *itertools.chain(*(SIZES[stage] for stage in trained(settings)))}
    keys = (key for key in wanted if key in sizes or key.split(".")[0] in sizes)
    return next(((key, made[key], wanted[key]) for key in keys if made[key] != wanted[key]), None)


def of_other_size(settings: Experiment, found: Run, key: str, made: Any, wanted: Any) -> UsageProblem:
    """What is said of a run that cannot be begun with for that; see other_size."""
    return UsageProblem(
        f"cannot begin with {found.path} (begin={settings.begin}): it was made with {key}={made}, not {wanted}; give "
        "another, or the same setting, or begin= for random weights"
    )


def check(settings: Experiment, found: Run) -> None:
    """Raise UsageProblem unless the weights of a run are complete."""
    where = f"cannot begin with {found.path} (begin={settings.begin})"
    for stage in trained(settings):
        weights = found.weights(stage)
        if not found.is_trained(stage):
            raise UsageProblem(f"{where}: its {weights.name} is not there, or not complete; finish that run first")
        try:
            with open_hdf5(weights, "give another"):
                pass
        except Problem as problem:
            raise UsageProblem(f"{where}: {problem}") from None


def source_of(begin: str) -> Run:
    """The run that `settle` meant: that iteration, though there may be later ones by now."""
    return shipped(begin) or Run(begin)


def beginning(settings: Experiment, run: Run, stage: str) -> Run | None:
    """The run whose weights the training of a stage begins with: the last iteration, or `begin` as `settle` left it.

    None where there is neither. Which weights these are is said, and kept in results.json.
    """
    source = run.previous
    if source is None and settings.begin:
        source = source_of(settings.begin)
    if source is not None:
        weights = source.weights(stage)
        print(f"{stage}: begins with {weights}", flush=True)
        crc32 = f"{checksum(weights):08x}" if weights.exists() else ""
        run.update_results("began_with", stage, {"weights": str(weights), "crc32": crc32})
    return source
