"""The run folder: stages know what they need, what they were made with, and what is complete."""

import errno
import io
import json
import os
from dataclasses import replace

import pytest
from PIL import Image

import controller.evaluate
import nextframe.__main__
import vae.__main__
from experiment import hardware
from experiment.config import load_config
from experiment.files import LOCK, PARTIAL, atomic, remove_partial, write_json
from experiment.metrics import Metrics, read_events, read_metrics
from experiment.problem import Problem, UsageProblem
from experiment.run import Run
from experiment.schema import Hardware
from experiment.stage import Stage, guard, parse, run_alone
from tests.commands import python
from tests.test_config import DOOM

FIRST = Stage("first", "The first.", sections=("env", "extract"), makes=("vae_weights",))
SECOND = Stage("second", "The second.", sections=("env", "extract", "vae"), needs=("first",))


@pytest.fixture
def begin(tmp_path):
    """Begin a stage in one run folder with overrides; returns whether it is complete."""
    run = Run(tmp_path / "run")

    def begin(stage, *overrides):
        settings = load_config(DOOM, None, overrides)
        return run.begin(stage.name, settings, stage.sections, stage.needs, stage.present(settings, run))

    begin.run = run
    return begin


def test_stage_before_the_one_it_needs_is_refused(begin):
    with pytest.raises(Problem, match=r"no complete 'first'.*python -m first"):
        begin(SECOND)
    begin(FIRST)  # begun is not complete
    with pytest.raises(Problem, match="no complete 'first'"):
        begin(SECOND)


def test_complete_stage_is_skipped_until_its_product_is_gone(begin):
    assert begin(FIRST) is False
    begin.run.vae_weights.touch()
    begin.run.complete("first")
    assert begin(FIRST) is True
    assert begin(SECOND) is False
    begin.run.vae_weights.unlink()
    assert begin(FIRST) is False


def test_what_is_asked_for_beyond_what_was_done_is_not_complete(begin):
    begin(FIRST)
    begin.run.complete("first")
    asked = [load_config(DOOM, None, overrides) for overrides in ([], ["vae.steps=3"], ["extract.episodes=20000"])]
    assert [begin.run.is_complete("first", settings, FIRST.sections) for settings in asked] == [True, True, False]
    assert not begin.run.is_complete("second", asked[0], SECOND.sections)


def test_other_settings_are_refused_by_name(begin):
    begin(FIRST)
    begin.run.vae_weights.touch()
    begin.run.complete("first")
    for stage in (FIRST, SECOND):
        with pytest.raises(Problem, match=r"'first' made with extract\.seed=0, not 1"):
            begin(stage, "extract.seed=1")
    assert begin(FIRST, "vae.steps=3") is True, "a later stage's settings do not matter to an earlier one"
    assert begin(FIRST, "workers.processes=2", "hardware.threads=1") is True, "nor does who does the work"
    assert begin(FIRST, "env.games=3") is True, "or how many games at once"
    record = begin.run.read_record("first")
    assert "env.games" not in record["settings"] and "env.max_steps" in record["settings"]
    write_json(begin.run.record("first"), {**record, "settings": {**record["settings"], "env.games": 50}})
    assert begin(FIRST, "env.games=3") is True, "earlier versions wrote that down"


def test_extendable_setting_reopens_a_stage(begin):
    controller = Stage("controller", "", sections=("controller",))
    begin(controller, "controller.generations=3")
    begin.run.complete("controller")
    assert begin(controller, "controller.generations=3") is True
    assert begin(controller, "controller.generations=5") is False
    with pytest.raises(Problem, match=r"controller\.sigma"):
        begin(controller, "controller.sigma=0.2")


def test_run_stage_records_skips_and_locks(tmp_path, capsys):
    calls = []

    def work(settings, run):
        calls.append(settings.vae.steps)
        with pytest.raises(Problem, match="another process"), Run(run.path).lock():
            pass
        return {"frames_per_second": 12.5}

    arguments = parse(SECOND, [str(DOOM), "--run", str(tmp_path / "r"), "vae.steps=4"])
    stage = Stage("second", "", sections=("vae",))
    run_alone(stage, work, arguments)
    run_alone(stage, work, arguments)
    assert calls == [4]
    assert "nothing to do" in capsys.readouterr().out
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["stages"]["second"]["frames_per_second"] == 12.5
    assert results["machine"]["cores"] >= 1


def test_opened_again_a_complete_stage_keeps_its_figures(tmp_path):
    """Whether it is asked for more, or has nothing left to do."""
    stage = Stage("second", "", sections=("controller",))

    def figures(generations):
        arguments = parse(stage, [str(DOOM), "--run", str(tmp_path), f"controller.generations={generations}"])
        run_alone(stage, lambda settings, run: {"generations": settings.controller.generations}, arguments)
        return Run(tmp_path).read_results()["stages"]["second"]

    first = figures(3)
    assert first["generations"] == 3 and not first["resumed"]
    for generations in (5, 2):
        kept = figures(generations)
        assert kept.pop("again")["generations"] == generations and kept == first


def test_what_auto_precision_comes_to_is_decided_once_a_run(tmp_path, monkeypatch):
    run = Run(tmp_path)
    for measured in ("float32", "bfloat16"):
        monkeypatch.setattr(hardware, "faster_precision", lambda measured=measured: measured)
        for each in (run, run.at(2)):
            assert hardware.prepare(Hardware(), each) == "float32" == each.precision()
    assert hardware.prepare(Hardware()) == "bfloat16"
    assert hardware.prepare(Hardware(precision="bfloat16"), run) == "bfloat16" and run.precision() == "float32"
    run.update_results("hardware", "precision", "float16")
    with pytest.raises(Problem, match=r"results\.json is not what was written there"):
        hardware.prepare(Hardware(), run)
    hardware.prepare(Hardware(precision="float32"))


def test_failed_stage_is_not_complete(tmp_path):
    def work(settings, run):
        run.vae_weights.touch()
        raise Problem("no luck")

    arguments = parse(FIRST, [str(DOOM), "--run", str(tmp_path)])
    with pytest.raises(Problem):
        run_alone(FIRST, work, arguments)
    assert json.loads((tmp_path / "stages" / "first.json").read_text())["complete"] is False
    with pytest.raises(Problem, match=r"made with extract\.seed=0, not 1"):
        run_alone(FIRST, work, parse(FIRST, [str(DOOM), "--run", str(tmp_path), "extract.seed=1"]))


def test_a_stage_that_cannot_begin_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    second = Stage("second", "", ("vae",), needs=("first",))
    arguments = parse(second, [str(DOOM), "--run", "runs/new"])
    with pytest.raises(Problem, match="no complete 'first'"):
        run_alone(second, lambda settings, run: None, arguments)
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    with pytest.raises(Problem, match="no complete 'first'"):
        run_alone(second, lambda settings, run: None, arguments)
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "mine"]


def test_what_was_refused_before_anything_was_made_may_be_asked_for_otherwise(tmp_path):
    def work(settings, run):
        if settings.extract.seed == 0:
            run.update_results("hardware", "precision", "float32")
            raise Problem("try another seed")

    with pytest.raises(Problem, match="another seed"):
        run_alone(FIRST, work, parse(FIRST, [str(DOOM), "--run", str(tmp_path)]))
    run_alone(FIRST, work, parse(FIRST, [str(DOOM), "--run", str(tmp_path), "extract.seed=1"]))
    assert load_config(tmp_path / "config.yaml").extract.seed == 1


def test_a_stage_writes_its_own_part_of_the_config(tmp_path):
    def stage(stage, *overrides):
        run_alone(stage, lambda settings, run: None, parse(stage, [str(DOOM), "--run", str(tmp_path), *overrides]))

    def written():
        settings = load_config(tmp_path / "config.yaml")
        return settings.vae.steps, settings.rnn.hidden

    second = replace(SECOND, makes=("rnn_weights",))  # never there: done again each time
    stage(replace(FIRST, makes=()), "vae.steps=7", "rnn.hidden=32")
    stage(second, "vae.steps=8")
    assert written() == (8, 32), "M's settings are those that it was told with"
    stage(replace(FIRST, makes=()), "vae.steps=9", "rnn.hidden=64")  # complete: nothing to do
    assert written() == (8, 32)


def test_the_config_of_an_iteration_is_that_of_the_whole_experiment(tmp_path):
    """Given to a command, it makes the same run again: what iterations change is not in it."""
    overrides = ["iterations=3", "controller.real_generations=4"]
    wanted = load_config(DOOM, None, overrides)
    for folder in (tmp_path, tmp_path / "iterations" / "2"):
        run_alone(FIRST, lambda settings, run: None, parse(FIRST, [str(DOOM), "--run", str(folder), *overrides]))
        assert load_config(folder / "config.yaml") == wanted


def test_guard_turns_faults_into_one_line_and_a_code(capsys):
    def problem():
        raise Problem("mend this")

    def interrupt():
        raise KeyboardInterrupt

    assert guard(problem) == 1
    assert capsys.readouterr().err == "error: mend this\n"
    assert guard(interrupt) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_atomic_leaves_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "1\n"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_full_disk_is_a_problem_that_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(Problem, match=r"disk is full while writing .*a\.json"), atomic(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "1\n"


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{PARTIAL}-x-shard.h5").touch()
    (tmp_path / "deep" / "shard.h5").touch()
    remove_partial(tmp_path)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["shard.h5"]


def test_what_another_process_is_writing_is_not_removed(tmp_path):
    run, names = Run(tmp_path / "run"), [f"{PARTIAL}-a-shard.h5", f"{PARTIAL}-b-shard.h5"]
    run.config.parent.mkdir()
    run.config.touch()
    with run.at(2).lock():
        for folder, name in zip((run.rollouts, run.at(2).rollouts), names, strict=True):
            folder.mkdir()
            (folder / name).touch()
        remove_partial(run.path)
        assert [path.name for path in run.path.rglob(f"{PARTIAL}-*")] == names[1:]
    remove_partial(run.at(2).path)
    assert (run.at(2).path / LOCK).exists() and not list(run.path.rglob(f"{PARTIAL}-*"))


def test_metrics_resume_drops_what_will_be_written_again(tmp_path):
    path, folder = tmp_path / "m.csv", tmp_path / "events"
    with Metrics(path, folder) as metrics:
        for step in (1, 2, 3):
            metrics.write(step, loss=step / 2)
    with open(path, "a") as file:
        file.write("4,0.51")  # killed while writing a row
    with Metrics(path, folder, resume_from=2) as metrics:
        metrics.write(3, loss=9.0)
        with pytest.raises(Problem, match="step, loss and not step, other"):
            metrics.write(4, other=1.0)
    columns = read_metrics(path)
    assert columns["step"].tolist() == [1, 2, 3]
    assert columns["loss"].tolist() == [0.5, 1.0, 9.0]


@pytest.mark.parametrize(
    "content",
    [b"stop,loss\n1,0.5\n", b"step,loss\nabc,0.5\n", b"step,loss\n1,0.5,7\n", b"step,loss\n1,\xe9\n", b"\0\xff" * 99,
     b"step,loss\n1," + b"9" * 200_000 + b"\n", None],
)  # fmt: skip
def test_damaged_metrics_are_named_before_training_goes_on(tmp_path, content):
    path = tmp_path / "m.csv"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(Problem, match=r"m\.csv is (damaged \(.*\): delete it|a folder, not a file)"):
        Metrics(path, tmp_path / "events", resume_from=1)


def test_metrics_of_other_columns_are_named(tmp_path):
    (tmp_path / "m.csv").write_text("step,lose\n1,0.5\n")
    with (
        Metrics(tmp_path / "m.csv", tmp_path / "events", resume_from=1) as metrics,
        pytest.raises(Problem, match="step, lose and not step, loss"),
    ):
        metrics.write(2, loss=0.5)


def test_tensorboard_has_the_rows_of_the_csv_after_a_kill(tmp_path):
    path, folder = tmp_path / "m.csv", tmp_path / "rnn_losses"
    with Metrics(path, folder) as metrics:
        for step in range(1, 5):
            metrics.write(step, loss=0.5 * step)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-3])  # killed while writing
    (folder / "damaged.tfevents").write_bytes(b"damaged" * 99)
    with Metrics(path, folder, resume_from=2) as metrics:
        metrics.write(3, loss=9.0)
        Image.new("RGB", (30, 20)).save(tmp_path / "frames.png")
        metrics.show(3, {"frames": tmp_path / "frames.png"})
    (file,) = folder.iterdir()
    *scalars, shown = [event for event in read_events(file) if event.summary.value]
    rows = [(event.step, value.tag, value.tensor.float_val[0]) for event in scalars for value in event.summary.value]
    assert rows == [(1, "M/loss", 0.5), (2, "M/loss", 1.0), (3, "M/loss", 9.0)]
    (value,) = shown.summary.value
    assert (shown.step, value.tag, value.image.width, value.image.height) == (3, "M/frames", 30, 20)
    assert Image.open(io.BytesIO(value.image.encoded_image_string)).size == (30, 20)
    assert read_metrics(path)["step"].tolist() == [1, 2, 3]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from experiment.hardware import import_tensorflow
from experiment.metrics import Events, Metrics
from experiment.stage import guard

def fill(folder: Path) -> None:
    with Metrics(folder / "m.csv", folder / "events") as metrics:
        for step in range(2000):
            metrics.write(step, **{f"a_loss_with_a_long_name_{i}": 0.5 for i in range(10)})

if sys.argv[2] == "csv":
    Events.write = lambda *_: None  # else they are what first finds no room
else:
    import_tensorflow()  # without its messages
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(guard(lambda: fill(Path(sys.argv[1]))))
"""


@pytest.mark.parametrize("where", ["csv", "events"])
def test_a_full_disk_while_training_is_one_line(tmp_path, where):
    done = python("-c", FULL_DISK, tmp_path, where, timeout=120)
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()  # TensorFlow may complain too
    assert (
        last
        == f"error: the disk is full while writing {tmp_path / 'm.csv'}: free some space and run the same command again"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("file", ["cannot be a run folder", "File exists"]),
        ("file/run", ["cannot be a run folder", "Not a directory"]),
        ("a" * 300, ["cannot be a run folder", "name too long"]),
        ("X/iterations/0", ["X itself", "iterations/2"]),
        ("X/iterations/2", ["would be iteration 2", "no iteration 1"]),
        ("X/iterations/3", ["would be iteration 3", "no iteration 2", "run that first"]),
    ],
)
def test_what_cannot_be_a_run_folder_is_refused_in_one_line(tmp_path, folder, words):
    (tmp_path / "file").touch()
    with pytest.raises(UsageProblem) as caught:
        run_alone(FIRST, lambda settings, run: None, parse(FIRST, [str(DOOM), "--run", str(tmp_path / folder)]))
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in [folder, *words]), caught.value
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


@pytest.mark.parametrize(
    ("stage", "config", "words"),
    [
        (nextframe.__main__, "doom", "'nextframe' is for env.name=breakout or coinrun, not doom"),
        (vae.__main__, "coinrun", "'vae' is for env.name=carracing or doom or gymnasium, not coinrun"),
        (controller.evaluate, "breakout", "'controller.evaluate' is for env.name=carracing or doom or gymnasium"),
    ],
)
def test_a_stage_of_another_world_is_refused(tmp_path, stage, config, words):
    path = DOOM.with_name(f"{config}.yaml")
    with pytest.raises(UsageProblem, match=words):
        run_alone(stage.STAGE, stage.run, parse(stage.STAGE, [str(path), "--run", str(tmp_path / "run")]))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "words"), [([], "required: CONFIG;"), ([str(DOOM), "--rnu", "x"], "unrecognized arguments: --rnu x;")]
)
def test_a_mistake_in_the_command_is_told_in_one_line(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        parse(FIRST, arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1 and words in error


def test_an_empty_run_folder_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(FIRST, [str(DOOM), "--run", ""])
    assert caught.value.code == 2
    assert "argument --run: expected a folder" in capsys.readouterr().err


def test_a_run_folder_may_be_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse(FIRST, [str(DOOM), "--run=~/doom"]).run == str(tmp_path / "doom")


def test_an_iteration_may_be_named_from_inside(tmp_path, monkeypatch):
    folder = tmp_path / "run" / "iterations"
    (folder / "3").mkdir(parents=True)
    for place, name in ((folder, "2"), (folder / "3", "../2"), (tmp_path / "run", "iterations/2")):
        monkeypatch.chdir(place)
        run = Run(name)
        assert run.iteration == 2
        assert [os.path.abspath(run.at(number).path) for number in (1, 3)] == [str(tmp_path / "run"), str(folder / "3")]


def test_a_chart_has_one_meaning(tmp_path):
    """`real` is a return in controller_both, and in controller says which arena it was."""
    tags = {}
    for name in ("controller", "controller_real", "controller_both"):
        with Metrics(tmp_path / f"{name}.csv", tmp_path / name) as metrics:
            metrics.write(1, real=1.0)
        *_, event = read_events(next((tmp_path / name).iterdir()))
        tags[name] = event.summary.value[0].tag
    assert tags == {"controller": "C/real", "controller_real": "C/real", "controller_both": "C/both/real"}
