"""Iterations: which settings each has, where it lies, and what it goes on from."""

from pathlib import Path

import pytest

from experiment.config import flatten, load_config
from experiment.files import read_json
from experiment.run import PRETRAINED, Run
from experiment.schema import for_iteration
from experiment.stage import Stage, parse, run_alone
from tests.commands import command_here
from tests.test_config import DOOM


def changed(settings, other) -> dict[str, object]:
    """The settings in which two differ, as they are in the second."""
    before = {key: value for key, value, _ in flatten(settings)}
    return {key: value for key, value, _ in flatten(other) if before[key] != value}


def test_one_iteration_is_as_the_settings_say():
    settings = load_config(DOOM, "quick", ["controller.real_generations=3"])
    assert for_iteration(settings, 1) == settings


def test_later_iterations_do_what_repeat_says():
    asked = [
        "iterations=3",
        "controller.real_generations=4",
        "extract.seed=7",
        "controller.seed=2",
        "repeat.generations=7",
    ]
    settings = load_config(DOOM, "quick", asked)
    assert changed(settings, for_iteration(settings, 1)) == {"controller.real_generations": 0}
    repeat = settings.repeat
    second = {
        "extract.policy": "agent",
        "extract.episodes": repeat.episodes,
        "extract.seed": 8,
        "vae.steps": repeat.vae_steps,
        "vae.learning_rate": settings.vae.learning_rate / 2,
        "rnn.steps": repeat.rnn_steps,
        "rnn.learning_rate": settings.rnn.learning_rate / 2,
        "controller.generations": repeat.generations,
        "controller.real_generations": 0,
        "controller.seed": 3,
    }
    assert changed(settings, for_iteration(settings, 2)) == second
    third = second | {"extract.seed": 9, "controller.seed": 4}
    del third["controller.real_generations"]  # the real world comes last, and after the last dream
    assert changed(settings, for_iteration(settings, 3)) == third
    other = for_iteration(load_config(DOOM, "quick", ["iterations=2", "repeat.noise=0.7", "repeat.max_steps=400"]), 2)
    assert (other.extract.noise, other.extract.max_steps) == (0.7, 400)


def test_a_controller_that_never_dreams_goes_on_in_the_real_world_in_every_iteration():
    settings = load_config(DOOM, "quick", ["iterations=2", "controller.generations=0", "controller.real_generations=4"])
    for number in (1, 2):
        controller = for_iteration(settings, number).controller
        assert (controller.generations, controller.real_generations) == (0, 4)


@pytest.mark.parametrize("base", ["runs/doom", "/somewhere/runs/doom", "7"])
def test_iterations_lie_in_the_run_folder(base):
    first = Run(base)
    assert (first.iteration, first.previous) == (1, None)
    assert first.all_rollouts == [Path(base) / "rollouts"]
    third = first.at(3)
    assert third.path == Path(base) / "iterations" / "3" and third.iteration == 3
    assert third.previous.path == Path(base) / "iterations" / "2"
    assert third.previous.previous.path == Path(base)
    assert third.all_rollouts == [
        Path(base) / "rollouts",
        Path(base) / "iterations" / "2" / "rollouts",
        Path(base) / "iterations" / "3" / "rollouts",
    ]
    for run in (first, third):
        assert [run.at(number).path for number in (1, 2)] == [Path(base), Path(base) / "iterations" / "2"]
    assert Run(third.path / "sweep" / "tau-1").iteration == 1


def test_a_stage_in_an_iterations_folder_has_its_settings(tmp_path):
    seen = []
    stage = Stage("second", "", sections=("extract", "rnn"))

    def work(settings, run):
        seen.append((run.iteration, settings.extract.policy, settings.rnn.steps))

    for folder in (tmp_path, tmp_path / "iterations" / "2"):
        run_alone(stage, work, parse(stage, [str(DOOM), "--run", str(folder), "iterations=2", "repeat.rnn_steps=11"]))
    assert seen == [(1, "held", 6000), (2, "agent", 11)]
    assert read_json(tmp_path / "iterations" / "2" / "stages" / "second.json")["settings"]["rnn.steps"] == 11


@pytest.fixture
def twice(tmp_path) -> Run:
    """A run of two iterations that have a controller and nothing else."""
    run = Run(tmp_path / "run")
    for number in (1, 2):
        run.at(number).path.mkdir(parents=True)
        run.at(number).config.write_text((PRETRAINED / "doom" / "config.yaml").read_text())
        run.at(number).controller.touch()
    return run


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("controller.evaluate", [DOOM, "--run", "RUN"]),
        ("controller.sweep", [DOOM, "--run", "RUN"]),
        ("controller.again", ["RUN"]),
        ("openloop", ["RUN"]),
        ("openloop.again", ["RUN"]),
        ("gallery", ["--out", "OUT", "RUN"]),
        ("gallery.export", ["--rollouts", "ALL", "RUN"]),
        ("play", ["--port", "0", "RUN"]),
    ],
)
def test_whatever_reads_a_run_says_which_iteration_it_takes(command, words, twice, tmp_path, capsys):
    """In the same words, before it finds that this one lacks all it needs."""
    first, last = twice.path, twice.at(2).path
    for run, said in (
        (first, f"{command}: of iteration 2, in {last} ({last.parent / 'N'} names another)\n"),
        (last, ""),
    ):
        places = {"RUN": run, "OUT": tmp_path / "out", "ALL": tmp_path / "all.h5"}
        assert command_here(command, *(places.get(word, word) for word in words)) in (1, 2)
        assert capsys.readouterr().out == said
