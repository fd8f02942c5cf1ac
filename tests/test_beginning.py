"""`begin`: what a run may begin with, what is recorded of it, and what is refused before any work."""

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from experiment.__main__ import where_everything_is
from experiment.beginning import REMEDY, beginning, settle
from experiment.config import load_config
from experiment.files import write_json
from experiment.problem import Problem, UsageProblem
from experiment.run import PRETRAINED, Run, find_run
from experiment.schema import Experiment
from experiment.stage import Stage, parse, run_alone
from rnn.model import load_rnn
from tests.test_config import DOOM
from vae.model import load_vae

CONFIGS = DOOM.parent


def quick(*overrides: str, world: str = "doom"):
    return load_config(CONFIGS / f"{world}.yaml", "quick", overrides)


def made(path: Path, settings) -> Run:
    """A run folder with complete V, M and C, as far as `begin` looks at them."""
    run = Run(path)
    path.mkdir(parents=True)
    run.write_config(settings, ())
    for weights in (run.vae_weights, run.rnn_weights, run.controller):
        h5py.File(weights, "w").close()
    return run


@pytest.fixture
def iterated(tmp_path) -> Run:
    """A run of two iterations and the beginning of a third."""
    first = made(tmp_path / "other", quick("begin="))
    made(first.at(2).path, quick("begin="))
    first.at(3).path.mkdir()
    return first


@pytest.mark.parametrize("world", ["doom", "carracing", "breakout", "coinrun"])
def test_quick_begins_with_what_is_shipped(world, tmp_path):
    settings = settle(quick(world=world), Run(tmp_path))
    assert settings.begin == world
    assert beginning(settings, Run(tmp_path), "vae").path == PRETRAINED / world


@pytest.mark.parametrize(
    ("overrides", "warned"),
    [
        (["extract.episodes=80"], True),
        (["data.val_ratio=0.2"], True),
        (["extract.episodes=80", "extract.seed=7"], False),
        (["vae.steps=7"], False),
    ],
)
def test_who_has_learnt_from_what_is_held_out_is_told(tmp_path, capsys, overrides, warned):
    made(tmp_path / "other", quick("begin="))
    settle(quick(f"begin={tmp_path / 'other'}", *overrides), Run(tmp_path / "run"))
    assert ("held-out figures will look too good" in capsys.readouterr().err) == warned


def test_an_empty_one_is_none(tmp_path):
    settings = settle(quick("begin="), Run(tmp_path))
    assert settings.begin == "" and beginning(settings, Run(tmp_path), "vae") is None


def test_the_last_iteration_is_taken_and_kept(iterated, tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    second = str(iterated.at(2).path)
    assert settle(quick("begin=other"), run).begin == second
    assert settle(quick(f"begin={second}"), run).begin == second
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settle(quick("begin=~/other"), run).begin == second
    write_json(run.record("vae"), {"complete": False, "settings": {"begin": second}})
    iterated.at(3).config.write_text(iterated.config.read_text())
    iterated.at(3).controller.touch()
    assert settle(quick("begin=other"), run).begin == second, "begun with the second, before there was a third"
    assert beginning(settle(quick("begin=other"), run), run, "rnn").path == iterated.at(2).path
    iterated.path.rename(tmp_path / "elsewhere")
    assert settle(quick("begin=other"), run).begin == second


def test_a_run_folder_with_the_name_of_what_is_shipped_is_found_by_its_path(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(PRETRAINED / "doom", "doom")
    for path in ("./doom", "doom/", tmp_path / "doom"):
        assert find_run(path).path.absolute() == tmp_path / "doom"
        assert settle(quick(f"begin={path}"), Run("new")).begin == str(tmp_path / "doom")
    assert capsys.readouterr().err == ""
    assert find_run("doom").path == PRETRAINED / "doom"
    assert capsys.readouterr().err == "doom: what is shipped is taken; for the run folder of that name write ./doom\n"
    assert where_everything_is(Experiment(), Run("doom")).endswith(".venv/bin/python -m play ./doom")


def test_another_size_is_refused_too_where_it_has_begun_already(tmp_path):
    run = Run(tmp_path / "run")
    write_json(run.record("vae"), {"complete": True, "settings": {"begin": "doom"}})
    with pytest.raises(UsageProblem, match=r"cannot begin with .*pretrained/doom .*made with rnn\.hidden=512, not 256"):
        settle(quick("begin=doom", "rnn.hidden=256"), run, ["rnn.hidden=256"])


@pytest.mark.parametrize("load, name", [(load_vae, "vae"), (load_rnn, "rnn")])
def test_nobody_is_told_to_delete_what_another_run_has_learnt(iterated, load, name):
    with pytest.raises(Problem, match=f"{name}.weights.h5 is damaged .*: {REMEDY}$"):
        load(iterated, quick("begin="), REMEDY)


def test_an_earlier_iteration_is_taken_where_it_is_named(iterated, tmp_path):
    run, first = Run(tmp_path / "run"), iterated.path / "iterations" / "1"
    settings = settle(quick(f"begin={first}"), run)
    assert settings.begin == str(first), "the run's own folder would stand for its last iteration"
    assert settle(settings, run) == settings
    assert beginning(settings, run, "vae").path == iterated.path


def test_m_begins_with_the_same_iteration_as_v_though_there_is_a_later_one_by_now(tmp_path):
    run, other = Run(tmp_path / "run"), made(tmp_path / "other", quick("begin="))
    settings = settle(quick(f"begin={other.path}"), run)
    assert beginning(settings, run, "vae").path == other.path
    write_json(run.record("vae"), {"complete": True, "settings": {"begin": settings.begin}})
    made(other.at(2).path, quick("begin="))
    assert beginning(settle(quick(f"begin={other.path}"), run), run, "rnn").path == other.path


def test_a_later_iteration_begins_with_the_one_before(tmp_path):
    run = Run(tmp_path)
    settings = settle(quick("iterations=2"), run.at(2))
    assert beginning(settings, run.at(2), "vae").path == tmp_path


@pytest.mark.parametrize(
    "world, override",
    [("doom", name) for name in ("vae.z=63", "rnn.hidden=32", "rnn.mixtures=4", "rnn.action=raw", "rnn.predict_reward=true")]
    + [("breakout", name) for name in ("env.size=64", "env.grey=false", "model.channels=32", "model.name=plain")],
)  # fmt: skip
def test_other_sizes_are_refused(world, override, tmp_path):
    key = override.split("=")[0]
    with pytest.raises(UsageProblem, match=f"begin={world}.*made with {key}="):
        settle(quick(override, world=world), Run(tmp_path))


def test_m_need_not_fit_where_it_is_not_trained(tmp_path):
    untrained = ("rnn.train=false", "rnn.hidden=32", "controller.generations=0", "controller.real_generations=1")
    assert settle(quick(*untrained), Run(tmp_path)).begin == "doom"


def test_what_cannot_be_begun_with_is_refused(iterated, tmp_path):
    def refused(begin: object, said: str) -> None:
        with pytest.raises(UsageProblem, match=said) as caught:
            settle(quick(f"begin={begin}"), Run(tmp_path / "run"))
        assert "\n" not in str(caught.value)

    refused("carracing", "env.name=carracing, not doom")
    refused("dom", r"dom is neither shipped \(breakout, carracing, coinrun, doom\)")
    second = iterated.at(2)
    second.rnn_weights.write_bytes(second.rnn_weights.read_bytes()[:50])
    refused(iterated.path, "rnn.weights.h5 is damaged")
    second.rnn_weights.unlink()
    refused(iterated.path, "rnn.weights.h5 is not there")
    write_json(second.record("vae"), {"complete": False, "settings": {}})
    refused(iterated.path, "vae.weights.h5 is not there, or not complete")


def test_another_beginning_later_is_refused(tmp_path):
    run = Run(tmp_path)
    settings = settle(quick(), run)
    run.begin("vae", settings, ("begin", "vae"), (), present=True)
    assert '"begin": "doom"' in run.record("vae").read_text()
    for other in ("", "/elsewhere"):
        with pytest.raises(Exception, match="made with begin=doom, not"):
            run.begin("vae", replace(settings, begin=other), ("begin", "vae"), (), present=True)


def test_sizes_that_are_asked_for_outweigh_where_a_preset_begins(tmp_path, capsys):
    """But not a `begin` that is asked for too; and to record is not refused in any case."""
    arguments = [str(DOOM), "--preset", "quick", "--run", str(tmp_path), "vae.z=3"]
    records = Stage("records", "", sections=("env", "extract"))
    learns = Stage("learns", "", sections=("env", "extract", "begin", "vae"), needs=("records",))
    run_alone(records, lambda settings, run: None, parse(records, [*arguments, "begin=doom"]))
    with pytest.raises(UsageProblem, match=r"cannot begin with .*made with vae\.z=64, not 3"):
        run_alone(learns, lambda settings, run: None, parse(learns, [*arguments, "begin=doom"]))
    run_alone(learns, lambda settings, run: None, parse(learns, arguments))
    assert "beginning with random weights: vae.z=3 is asked for, and " in capsys.readouterr().out
    assert Run(tmp_path).read_record("learns")["settings"]["begin"] == ""
