"""`python -m gallery.export RUN NAME`: make a run's models small enough to ship, as the run folder pretrained/NAME.

Or write them, or its rollouts, as other tools read them; see gallery.formats.
"""

import dataclasses
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from controller.report import history
from experiment.arrays import open_hdf5, written
from experiment.config import to_yaml
from experiment.files import atomic, write_json
from experiment.hardware import import_tensorflow, prepare
from experiment.metrics import write_metrics
from experiment.problem import Problem
from experiment.run import CONFIG_HEADER, PRETRAINED, Run, find_run
from experiment.schema import Experiment, Openloop
from experiment.stage import Parser, guard
from extract.recorded import open_rollouts
from extract.rollouts import Episode, Rollouts, new_shard, shard_path
from gallery.formats import link_rollouts, write_safetensors
from openloop.predictor import load_predictor, trained_stages
from openloop.record import is_of, origin
from openloop.windows import Window, open_recorded

SECTIONS = ("env", "extract", "data", "vae", "rnn", "dream", "controller", "evaluate", "model", "openloop")
STARTS = 1000  # moments that dreams can begin at, at most
WINDOWS = 16  # held-out windows that a player of a next-frame model begins with, at most
CONTROLLER = ("controller", "controller_real", "controller_both")  # metrics of C, those of several iterations as one
METRICS = ("vae", "vae_heldout", "rnn", "rnn_losses", "openloop")  # others that are kept, some kilobytes each
RESULTS = ("machine", "stages", "evaluations", "survival", "openloop")
COMPRESSION = hdf5plugin.Zstd(clevel=19)  # written once, read by everyone
TEXT = """
Make pretrained/NAME from a finished run: its weights in float16, its config, the metrics of its training, and a
results.json with where it comes from and how it does. It is a run folder: whatever takes one takes this.
Of V, M and C the moments where dreams begin are kept too; the agent that is shipped plays evaluate.episodes real
episodes first, so that the figures are its own. Of a next-frame model some of the held-out windows are kept that
`python -m openloop RUN` has measured it on, so that it can be played and evaluated without any data; the figures of the
shipped model on these are added.
With --rollouts and --safetensors, a run is written for other tools instead.
"""


def main() -> None:
    parser = Parser("gallery.export", TEXT)
    parser.add_argument("run", metavar="RUN", help="the run folder; of several iterations, the last")
    parser.add_argument("name", metavar="NAME", nargs="?", help="what it is to be called")
    parser.add_argument(
        "--rollouts", metavar="FILE.h5", type=Path, help="write one HDF5 file, in stable-worldmodel's layout, through "
        "which all rollouts are seen where they are (open it with hdf5plugin)",
    )  # fmt: skip
    parser.add_argument("--safetensors", metavar="FOLDER", type=Path, help="write weights there, and a model card")
    arguments = parser.parse_args()
    if not (arguments.name or arguments.rollouts or arguments.safetensors):
        parser.error("expected a NAME, --rollouts or --safetensors")
    run = find_run(arguments.run, "gallery.export")
    if arguments.name:
        export(run, PRETRAINED / arguments.name)
    if arguments.rollouts:
        rollouts = link_rollouts(run, arguments.rollouts)
        print(f"{arguments.rollouts}: {rollouts.frames:,} frames in {rollouts.episodes:,} episodes")
    if arguments.safetensors:
        print(*write_safetensors(run, arguments.safetensors), sep="\n")


def export(run: Run, folder: Path) -> None:
    """Write `folder`. Raises Problem if the run is not finished, or its next-frame model was not measured."""
    told = (ship_nextframe if "nextframe" in trained_stages(run) else ship_agent)(run, Run(folder))
    print(f"{folder}: {size_of(folder):.1f} MB; {told}")


def ship_agent(run: Run, shipped: Run) -> str:
    """Write what is shipped of V, M and C; returns how they do, in words."""
    settings = run.settings(SECTIONS)
    if not run.controller.exists():
        raise Problem(f"{run.controller} is missing: finish the run first")
    with atomic(shipped.controller) as temporary:
        shutil.copyfile(run.controller, temporary)
    kept = keep(settings, run, shipped)
    import_tensorflow()
    prepare(settings.hardware)
    figures = measure_agent(settings, run, shipped)
    kept["evaluations"] = {**kept.get("evaluations", {}), **figures}
    write_json(shipped.results, kept)
    return "{mean:,.0f} ± {std:,.0f} in {n} real episodes".format(**figures["game"])


def ship_nextframe(run: Run, shipped: Run) -> str:
    """The same of a next-frame model."""
    settings = as_measured(run.settings(SECTIONS), run)
    rollouts, _, windows = open_recorded(settings, run)
    keep_windows(rollouts, choose(windows), settings.openloop.context, shipped)
    kept = keep(settings, run, shipped)
    import_tensorflow()
    precision = prepare(settings.hardware)
    own = kept["shipped"] = {"precision": precision, **measure_windows(settings, shipped)}
    write_json(shipped.results, kept)
    means = [(k, at["mse"]["open_loop"][0], at["mse"]["copy"][0]) for k, at in own["horizons"].items()]
    errors = "; ".join(f"{k}: {open_loop:.2g}, copy {copy:.2g}" for k, open_loop, copy in means)
    return f"MSE in its {own['windows']} windows at horizon {errors}"


def keep(settings: Experiment, run: Run, shipped: Run) -> dict[str, Any]:
    """Write the config, the weights and the metrics of any run; returns what is kept of its results.json."""
    results = run.read_results()
    with atomic(shipped.config) as temporary:
        temporary.write_text(CONFIG_HEADER + to_yaml(settings), encoding="utf-8")
    for stage in trained_stages(run):
        copy_half(run.weights(stage), shipped.weights(stage))
    keep_metrics(run, shipped)
    return {key: results[key] for key in RESULTS if key in results}


def size_of(folder: Path) -> float:
    """All files in a folder, in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def copy_half(source: Path, target: Path) -> None:
    """Copy an HDF5 file of weights, its float32 arrays as float16."""
    with open_hdf5(source, "finish the run first") as old, written(target, libver="earliest") as (new, _):

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values = item[()]
                new.create_dataset(name, data=values.astype("float16") if values.dtype == np.float32 else values)
            else:
                new.require_group(name)
            new[name].attrs.update(item.attrs)

        old.visititems(copy)
        new.attrs.update(old.attrs)


def keep_metrics(run: Run, shipped: Run) -> None:
    """Keep the metrics that a run's curves are drawn from, as far as there are any."""
    for name in CONTROLLER:
        if columns := history(run, name):
            write_metrics(shipped.metrics / f"{name}.csv", columns)
    for name in METRICS:
        if (path := run.metrics / f"{name}.csv").exists():
            with atomic(shipped.metrics / path.name) as temporary:
                shutil.copyfile(path, temporary)


def measure_agent(settings: Experiment, run: Run, shipped: Run) -> dict[str, Any]:
    """Keep some of the run's starts, and let the shipped agent play and dream: its evaluations.game and .dream."""
    from controller.arenas import InDream
    from controller.evaluation import measure_dream, measure_real
    from controller.policy import load_controller, policy_from
    from controller.real import RealWorld
    from rnn.dream import can_dream, load_dream
    from rnn.model import load_rnn
    from rnn.starts import Starts, load_starts, made_with, write_starts

    policy = policy_from(settings)
    controller = load_controller(shipped.controller, policy)
    figures = {}
    shipped.results.unlink(missing_ok=True)
    if can_dream(settings):
        starts = load_starts(settings, run, load_rnn(run, settings))
        chosen = np.linspace(0, len(starts.mu) - 1, min(STARTS, len(starts.mu))).astype(int)
        fewer = Starts(*(part[chosen].astype("float16") for part in starts))
        write_starts(shipped.starts, fewer, made_with(settings, shipped))
        arena = InDream(settings, load_dream(settings, shipped), policy)
        figures["dream"] = measure_dream(arena, controller, shipped, "dream")
    with RealWorld(settings, shipped, final=True) as world:
        figures["game"] = measure_real(world, controller, shipped, "game")
    return figures


def as_measured(settings: Experiment, run: Run) -> Experiment:
    """The settings that `python -m openloop` has measured these weights with. Raises Problem if it was not run."""
    record = run.read_results().get("openloop", {})
    names = {entry.name for entry in dataclasses.fields(Openloop)}
    used = {name: value for name, value in record.get("of", {}).items() if name in names}
    settings = dataclasses.replace(settings, openloop=dataclasses.replace(settings.openloop, **used))
    if not is_of(record, origin(settings, run)):
        raise Problem(
            f"the model of {run.path} was not measured yet: run `python -m openloop {shlex.quote(str(run.path))}` first"
        )
    return settings


def choose(windows: Sequence[Window]) -> list[Window]:
    """WINDOWS of the windows that the model was measured on, evenly spread over those that last longest."""
    longest = max(window.steps for window in windows)
    whole = [window for window in windows if window.steps == longest]
    return [whole[i] for i in np.linspace(0, len(whole) - 1, min(WINDOWS, len(whole))).astype(int)]


def keep_windows(rollouts: Rollouts, windows: Sequence[Window], context: int, shipped: Run) -> None:
    """Write windows as held-out episodes of their own."""
    about = {**rollouts.shards[0].attributes, "held_out": True}
    with new_shard(shard_path(shipped.rollouts, 0), about, compression=COMPRESSION) as shard:
        for window in windows:
            part = slice(window.start, window.start + context + window.steps)
            *series, seed = rollouts.episode(window.episode)
            frames, actions, rewards, terminated, _ = (values[part] for values in series)
            cut = (np.arange(len(actions)) == len(actions) - 1) & ~terminated
            shard.append(Episode(frames, actions, rewards, terminated, cut, seed))


def measure_windows(settings: Experiment, shipped: Run) -> dict[str, Any]:
    """How the shipped model does in the shipped windows, as `python -m openloop` records it."""
    from openloop.evaluation import evaluate
    from openloop.report import record_of

    rollouts, o = open_rollouts(settings, shipped), settings.openloop
    windows = [Window(number, number, 0, length - o.context) for number, length in enumerate(rollouts.lengths.tolist())]
    return record_of(evaluate(load_predictor(settings, shipped), rollouts, rollouts.actions, windows, o))


if __name__ == "__main__":
    sys.exit(guard(main))
