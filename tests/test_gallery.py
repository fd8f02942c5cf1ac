"""What a run looks like: dreams that branch off a real episode, what M expects, curves, sliders, and the pictures' command."""

import base64
import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from controller.report import Results
from controller.scores import summary
from experiment.backend import tf
from experiment.config import to_yaml
from experiment.files import read_json, write_json
from experiment.metrics import write_metrics
from experiment.problem import Problem, UsageProblem
from experiment.run import PRETRAINED, Run
from experiment.schema import Controller, Dream, Env, Experiment, Hardware, Rnn, Vae
from gallery import branch, expected, notebook, sliders, stepping
from gallery.__main__ import draw
from gallery.exhibit import Exhibit, open_all
from gallery.pictures import LIMIT, save_all
from gallery.runs import find, find_all
from openloop import report
from rnn.dream import noise
from rnn.mixture import sample
from rnn.model import build_rnn
from tests.commands import command_here
from tests.fake import save_agent, save_next_frames
from viz.curves import Histogram
from viz.frames import evenly

SETTINGS = Experiment(
    env=Env(max_steps=120, games=2),
    vae=Vae(z=16),
    rnn=Rnn(hidden=16, mixtures=3),
    dream=Dream(max_steps=50),
    hardware=Hardware(precision="float32"),
)
SHIPPED = Run(PRETRAINED / "doom")


def small_run(folder: Path, settings: Experiment = SETTINGS) -> Run:
    """A run with untrained V, M and C, in whose dreams nobody dies, and figures as if it had been measured."""
    run = save_agent(Run(folder), settings)
    run.config.write_text(to_yaml(settings))
    rnn = build_rnn(settings)
    rnn.output_kernel.assign(rnn.output_kernel * 3)  # so that what it expects depends on what it has seen
    rnn.output_bias.assign(tf.concat([rnn.output_bias[:-1], [-9.0]], axis=0))
    rnn.save_weights(run.rnn_weights)
    generation = np.arange(1.0, 4.0)
    columns = {
        "step": generation,
        "elapsed": generation,
        "mean": generation,
        "min": generation - 1,
        "max": generation + 1,
    }
    write_metrics(run.metrics / "controller.csv", columns)
    shutil.copy(SHIPPED.metrics / "openloop.csv", run.metrics)
    scores = [summary(np.random.default_rng(seed).uniform(50, 900, 6)) for seed in range(5)]
    cold = {"dream": scores[0] | {"temperature": 0.1, "max_steps": 50}, "game": scores[1]}
    own = {"dream": scores[2] | {"temperature": 1.15, "max_steps": 50}, "game": scores[3], "random": scores[4]}
    write_json(run.results, {"evaluations": {"sweep": {"tau-0.1": cold}, **own}})
    return run


@pytest.fixture(scope="module")
def exhibit(tmp_path_factory):
    return Exhibit(small_run(tmp_path_factory.mktemp("gallery") / "small"))


@pytest.fixture(scope="module")
def recording(exhibit):
    return exhibit.live(1, 60)


@pytest.fixture(scope="module")
def branched(exhibit, recording):
    return branch.Branch(exhibit, recording, 20)


def test_real_steps_are_recorded(exhibit, recording):
    assert len(recording.frames) == 60 and len(np.unique(np.sign(np.round(recording.raw)))) > 1
    assert exhibit.describe(recording) == "doom: 60 tics, survival in tics 60"


@pytest.mark.parametrize("at", [0, 20])
def test_a_dream_under_the_same_actions_is_that_of_a_plain_loop(exhibit, recording, at):
    """From the moment's z, h and c, step by step, with the dream's own random numbers."""
    dreamt = branch.Branch(exhibit, recording, at).under_same_actions(25, temperature=0.7, seed=3)
    rnn = exhibit.agent.rnn
    z, h, c = (part[at : at + 1] for part in (recording.z, recording.h, recording.c))
    for step in range(25):
        np.testing.assert_allclose(dreamt.z[step], z[0], atol=1e-4)
        executed = np.where(recording.raw[at + step] > 1 / 3, 1, np.where(recording.raw[at + step] < -1 / 3, -1, 0))
        inputs = np.concatenate([z, [[executed, float(at + step == 0)]]], axis=1).astype("float32")
        h, c = rnn.step(inputs, h, c)
        z = np.asarray(sample(rnn.head(h).mixture, 0.7, *noise(3, step, 1, 16)))
    assert len(np.unique(np.sign(np.round(recording.raw[at : at + 25])))) > 1, "else any action would do"
    assert dreamt.frames.shape == (25, 64, 64, 3) and dreamt.frames.dtype == np.uint8


def test_a_dream_lasts_no_longer_than_its_actions_are_known(branched):
    assert len(branched.under_same_actions(1000).z) == 40
    shown = branch.compare(branched, 1000)
    assert [len(frames) for frames in shown.values()] == [40, 40, 40]
    np.testing.assert_array_equal(shown["real"], branched.recording.frames[20:])


def test_at_every_temperature_c_acts_from_the_same_moment(recording, branched):
    frames = branch.at_temperatures(branched, 30, (0.1, 1.3))
    cold, hot = frames["τ 0.1"], frames["τ 1.3"]
    np.testing.assert_array_equal(cold[0], hot[0])
    assert (cold[-1] != hot[-1]).any()
    one, other = (branched.with_controller(30, 1.0, seed) for seed in range(2))
    assert (one.z[5] != other.z[5]).any()
    np.testing.assert_allclose(other.z[0], recording.z[20], atol=1e-6)


def test_moments_that_there_are_not(exhibit, recording):
    with pytest.raises(Problem, match="no step 60: it has steps 0 to 59"):
        branch.Branch(exhibit, recording, 60)


def test_the_eventful_moment_is_the_one_before_most_fire(exhibit, recording):
    frames = np.zeros_like(recording.frames)
    frames[[10, 40, 44], 5, 5:8] = 255
    fired = recording._replace(frames=frames)
    assert 35 <= exhibit.eventful(fired, 10) <= 40
    assert exhibit.eventful(fired, 58) in (1, 2)
    assert exhibit.eventful(fired, 1000) == 1
    frames[:] = 0
    assert exhibit.eventful(fired, 10) == 1


def test_one_dimension_is_varied_and_the_liveliest_is_found(exhibit, recording):
    z = np.arange(16, dtype="float32")
    varied = np.tile(z, (3, 1))
    varied[:, 3] = -1, 0, 2
    shown, columns = exhibit.traverse(z, [3], [-1, 0, 2])
    np.testing.assert_array_equal(shown["z[3]"], exhibit.agent.vae.pictures(varied))
    assert columns == ["= -1", "= 0", "= 2"]
    mu = np.asarray(exhibit.agent.vae.encode(recording.frames)[0])
    assert exhibit.liveliest(recording, 4) == np.argsort(-mu.var(axis=0))[:4].tolist()
    rows, _ = exhibit.traverse(recording.z[5], [2, 7])
    assert list(rows) == ["z[2]", "z[7]"] and rows["z[2]"].shape == (7, 64, 64, 3)
    assert (rows["z[2]"][0] != rows["z[2]"][-1]).any()


def test_what_m_expects_is_what_its_head_says(exhibit, recording):
    foreseen = expected.expect(exhibit, recording, temperature=0.5)
    assert foreseen.mean.shape == (60, 3, 16) and foreseen.reward is None
    np.testing.assert_allclose(foreseen.weight.sum(axis=1), 1, atol=1e-5)
    rnn, step = exhibit.agent.rnn, 30
    head = rnn.head(recording.h[step + 1 : step + 2])  # M's state after the step, as the agent had it
    np.testing.assert_allclose(foreseen.mean[step], np.asarray(head.mixture.mean)[0], atol=1e-4)
    np.testing.assert_allclose(foreseen.std[step], np.exp(head.mixture.log_std)[0] * 0.5**0.5, rtol=1e-3)
    sharp = np.exp(np.asarray(head.mixture.log_mix)[0] / 0.5)
    np.testing.assert_allclose(foreseen.weight[step], sharp / sharp.sum(axis=0), rtol=1e-3)
    assert foreseen.done is not None
    odds = np.exp(np.asarray(head.done_logit)[0]) / SETTINGS.rnn.done_weight
    np.testing.assert_allclose(foreseen.done[step], odds / (1 + odds), rtol=1e-3)


def test_a_mixtures_density_and_spread(exhibit, recording):
    foreseen = expected.expect(exhibit, recording)
    z = np.linspace(-30, 30, 20_001)
    density = foreseen.density(7, 3, z)
    assert np.trapezoid(density, z) == pytest.approx(1, abs=1e-4)
    mean = np.trapezoid(z * density, z)
    spread = np.sqrt(np.trapezoid((z - mean) ** 2 * density, z))
    assert foreseen.spread[7, 3] == pytest.approx(spread, rel=1e-3)
    panel = expected.mixture_panels(foreseen, recording, 7, [3])[0]
    assert panel.series["what came"][0][0] == recording.z[8, 3]


@pytest.mark.parametrize(("done", "shown"), [(None, False), (1e-5, False), (0.02, True)])
def test_an_ending_that_is_never_likely_has_no_panel(exhibit, recording, done, shown):
    foreseen = expected.expect(exhibit, recording)
    foreseen = foreseen._replace(done=None if done is None else np.where(np.arange(60) == 50, done, 1e-6))
    titles = [panel.title for panel in expected.episode_panels(exhibit, recording, foreseen, [0, 3])]
    assert titles == ["How uncertain the next z is", "That the episode ends here"][: 1 + shown]


def test_the_shipped_agents_results_are_drawn_from_its_files():
    results = Results(SHIPPED)
    assert list(results.swept) == [0.1, 0.5, 1.0, 1.15, 1.3]
    assert "evolved at τ 1.00" in results.table() and "1,092 ± 556" in results.table()
    assert "published, dream, population mean (64 cores)" in results.training()[0].series
    assert len(results.losses()) >= 3 and len(results.temperatures()) == len(results.returns()) == 1
    histogram = results.returns()[0]
    assert isinstance(histogram, Histogram) and len(histogram.samples["this agent, real"]) == 100
    assert "always stay" in results.fixed_policies()[0].series


def test_a_controller_that_went_on_in_the_real_world_is_not_one_of_the_sweep():
    run = Run(PRETRAINED / "carracing")
    results, evaluations = Results(run), read_json(run.results)["evaluations"]
    assert list(results.swept) == [0.1, 0.5, 1.0, 1.15, 1.3]
    own, three = evaluations["game"]["mean"], ("tau-1.15", "tau-1.15-2", "tau-1.15-3")
    swept = np.mean([evaluations["sweep"][name]["game"]["mean"] for name in three])
    assert results.swept[1.15][1]["mean"] == pytest.approx(swept) and swept < own
    lines = results.table().splitlines()
    (went_on,) = (line for line in lines if line.startswith("this run, 40 generations on"))
    (of_sweep,) = (line for line in lines if line.startswith("this run, evolved at τ 1.15"))
    assert f"{own:,.0f} ±" in went_on and f"{swept:,.0f} ±" in of_sweep


def test_what_a_run_has_not_measured_is_left_out(tmp_path):
    run = Run(tmp_path)
    run.config.write_text(to_yaml(SETTINGS))
    results = Results(run)
    for panels in (results.training, results.losses, results.temperatures, results.returns, results.fixed_policies):
        assert panels() == []
    assert "868 ± 511" in results.table()


def test_a_next_frame_run_has_curves_of_its_errors_and_no_scores(tmp_path):
    run = save_next_frames(Run(tmp_path / "run"), size=20)
    run.metrics.mkdir(exist_ok=True)
    shutil.copy(PRETRAINED / "breakout" / "metrics" / "openloop.csv", run.metrics)
    results = Results(run)
    assert results.table() == notebook.plot(results.training()) == "This run has not measured that."
    for panels in (results.training, results.losses, results.temperatures, results.returns, results.fixed_policies):
        assert panels() == []
    assert set(report.error_panel(run).series) == {"open loop", "teacher-forced", "copy of last frame"}
    assert list(report.relative_panel(report.with_figures([run])).series) == ["run"]
    another = shutil.copytree(run.path, tmp_path / "elsewhere" / "run")
    assert list(report.relative_panel([run, Run(another)]).series) == [str(run.path), str(another)]
    (run.metrics / "openloop.csv").unlink()
    with pytest.raises(Problem, match="nothing to draw"):
        list(save_all([run], tmp_path, 1_000_000))


def test_two_agents_of_one_world_are_not_drawn_into_the_same_files(tmp_path):
    runs = [Run(PRETRAINED / name) for name in ("doom", "carracing", "doom")]
    with pytest.raises(Problem, match=r"pretrained/doom and .*pretrained/doom would be .* same files.*--out"):
        list(save_all(runs, tmp_path, 1_000_000))
    assert not any(tmp_path.iterdir())


def test_a_colour_means_one_thing_in_a_picture():
    agents = [Run(PRETRAINED / name) for name in ("doom", "carracing")]
    everyone = [*agents, Run(PRETRAINED / "breakout")]
    for panels in (
        [report.error_panel(run) for run in everyone] + [report.relative_panel(everyone)],
        [panel for run in agents for panel in Results(run).training()],
        [panel for run in agents for panel in Results(run).temperatures()],
    ):
        meanings: dict[str, set[str]] = {}
        for panel in panels:
            assert set(panel.series) <= set(panel.colours)
            for label in panel.series:
                meaning = label.replace("published, dream", "published, real")  # wherever it was evolved
                meanings.setdefault(panel.colours[label], set()).add(meaning)
        assert len(meanings) > 1 and all(len(labels) == 1 for labels in meanings.values())
    training, temperatures = Results(agents[0]).training()[0], Results(agents[0]).temperatures()[0]
    error = " (band: standard error)"
    assert training.colours["real, CMA-ES mean" + error] == temperatures.colours["ours, game" + error]


def test_scores_are_drawn_as_dreams_count_beside_those_of_whole_episodes():
    """Of CarRacing's 400 steps in the dream, and as many on the track."""
    (panel,) = Results(Run(PRETRAINED / "carracing")).temperatures()
    dream, whole, counted = (panel.series[f"ours, {of} (band: standard error)"][1] for of in (
        "dream", "game", "game, as dreams count"
    ))  # fmt: skip
    assert all(np.less(counted, dream)) and whole[-1] > dream[-1]


def test_compounding_curves_of_several_runs(exhibit, tmp_path):
    runs = [SHIPPED, exhibit.run]
    assert report.with_figures([*runs, Run(tmp_path)]) == runs
    panel = report.error_panel(SHIPPED, "ssim")
    assert "open loop" in panel.series and len(panel.series["copy of last frame"][0]) == 64
    relative = report.relative_panel(runs)
    assert list(relative.series) == ["doom", "small"]
    mse = report.error_panel(SHIPPED).series
    shares = mse["open loop"][1] / mse["copy of last frame"][1]
    np.testing.assert_allclose(relative.series["doom"][1], shares)
    with pytest.raises(Problem, match=r"no metrics/openloop.csv: run `python -m openloop"):
        report.error_panel(Run(tmp_path))


@pytest.fixture(scope="module")
def steps(exhibit, recording):
    return stepping.from_recording(exhibit, recording, 20)


def test_a_model_is_stepped_through_and_gone_back_to(steps, recording):
    np.testing.assert_array_equal(steps.frames[0], recording.frames[20])
    first, second, other = (steps.fork() for _ in range(3))
    left = first.type("left x3", "recorded")
    np.testing.assert_array_equal(second.type("left", "left x2", "recorded"), left)
    assert first.words == ["recorded", "left", "left", "left", "recorded"] and left.shape == (5, 64, 64, 3)
    assert (other.type("right x4")[-1] != left[-1]).any() and len(steps.frames) == 1
    assert {line: len(frames) for line, frames in stepping.futures(steps, ["stay x6", "left"]).items()} == {
        "stay x6": 7,
        "left": 2,
    }
    with pytest.raises(Problem, match="'up' is no action: write stay"):
        first.type("up")
    with pytest.raises(Problem, match="39 more steps, not 40"):
        steps.fork().type("recorded x40")


def test_the_last_frame_cannot_be_gone_on_from(exhibit, recording):
    with pytest.raises(Problem, match="no frame follows step 59: the episode has steps 0 to 59"):
        stepping.from_recording(exhibit, recording, 59)


def test_a_next_frame_model_begins_with_a_recorded_window(tmp_path):
    run = save_next_frames(Run(tmp_path / "run"), size=20)
    steps = stepping.begin_steps(run, seed=1, steps=60, seconds=1.0)
    assert steps.name == "breakout" and steps.frames[0].shape == (20, 20, 3) and steps.frames[0].std() > 0
    left, right = stepping.futures(steps, ["left x2", "right x2"]).values()
    assert left.shape == (3, 20, 20, 3) and (left[2] != right[2]).any()


def test_a_model_begins_where_its_agents_episode_shows_most(exhibit):
    begun = stepping.begin_steps(exhibit.run, seed=1, steps=60, seconds=0.5)
    whole = exhibit.live(1, 60)
    np.testing.assert_array_equal(begun.frames[0], whole.frames[exhibit.eventful(whole, 18)])


def test_sliders_draw_anew(exhibit, recording, branched):
    box = sliders.temperature_slider(branched, 20, count=4)
    before = box.children[1].value
    box.children[0].value = 1.8
    assert box.children[1].value != before
    box = sliders.latent_sliders(exhibit, recording.z[20], [1, 5])
    before = box.children[2].value
    box.children[1].value = 3.5
    changed = box.children[2].value
    assert changed != before
    box.children[1].value = round(float(recording.z[20][5]), 1)
    assert box.children[2].value != changed


def test_typed_actions_are_done_and_mistakes_are_said(steps):
    own = steps.fork()
    text, said, picture = sliders.typed_steps(own).children
    assert text.placeholder == "write stay (0), left (1), right (2) or recorded; x5 behind it repeats"
    before = picture.value
    text.value = "left x2"
    assert len(own.frames) == 3 and picture.value != before and text.value == "" and said.value == ""
    text.value = "jump"
    assert len(own.frames) == 3 and said.value.startswith("'jump' is no action")


def test_a_picture_of_few_colours_keeps_the_rare_ones():
    picture = np.random.default_rng(0).integers(60, 90, (64, 64, 3), dtype=np.uint8)
    picture[5:7, 5:7] = 250, 240, 90  # a fireball far off
    shown = np.asarray(Image.open(io.BytesIO(notebook.png(picture))).convert("RGB"))
    assert np.abs(shown.astype(int) - picture).max() < 12
    assert len(notebook.png(picture)) < picture.nbytes


def test_frames_are_chosen_evenly():
    frames = np.arange(30)
    shown, columns = evenly({"long": frames, "short": frames[:15]}, 4, 30, fps=10)
    assert {label: row.tolist() for label, row in shown.items()} == {"long": [0, 10, 19, 29], "short": [0, 10]}
    assert columns == ["0.0 s", "1.0 s", "1.9 s", "2.9 s"]
    assert evenly({"": frames[:3]}, 8, 3)[1] == ["step 0", "step 1", "step 2"]


def test_a_short_dream_leaves_the_rest_of_its_strip_empty(branched):
    width = [
        Image.open(
            io.BytesIO(notebook.timeline({"τ 1": branched.with_controller(steps, 1.0).frames}, 30, 35).data)
        ).width
        for steps in (5, 30)
    ]
    assert width[0] == width[1] > 8 * 128


def test_a_video_that_is_not_played_shows_its_first_frame(recording):
    html = notebook.video({"game": recording.frames}, 35)._repr_html_()
    poster = base64.b64decode(html.split('poster="data:image/png;base64,')[1].split('"')[0])
    shown = np.asarray(Image.open(io.BytesIO(poster)).convert("RGB"))[28:].astype(int)
    assert np.abs(shown - recording.frames[0].repeat(3, axis=0).repeat(3, axis=1)).mean() < 2


def test_runs_are_found_by_name(exhibit, tmp_path, monkeypatch, capsys):
    assert find("doom").path == SHIPPED.path and find("doom").title == "doom"
    assert find(str(exhibit.run.path)).path == exhibit.run.path
    shutil.copytree(exhibit.run.path, tmp_path / "runs" / "mine")
    monkeypatch.setattr("gallery.runs.PROJECT", tmp_path)
    for name in ("mine", "runs/mine"):
        assert find(name).path == tmp_path / "runs" / "mine"
    with pytest.raises(UsageProblem, match="elsewhere is neither shipped"):
        find("elsewhere")
    assert [run.path.name for run in find_all(["mine", "elsewhere"])] == ["mine"]
    assert capsys.readouterr().out.startswith("left out: elsewhere is neither shipped")


def test_agents_that_are_not_whole_are_left_out(exhibit, tmp_path, capsys):
    run = Run(shutil.copytree(exhibit.run.path, tmp_path / "part"))
    run.rnn_weights.unlink()
    assert [one.run.path for one in open_all([str(run.path), str(exhibit.run.path)])] == [exhibit.run.path]
    assert "rnn.weights.h5 is missing" in capsys.readouterr().out
    with pytest.raises(Problem, match=r"none of .*part is an agent"):
        open_all([str(run.path)])


def test_a_c_that_sees_nothing_of_m_has_no_memory_to_go_on_from(exhibit, recording):
    import copy

    blind = copy.copy(exhibit)
    blind.agent = copy.copy(exhibit.agent)
    blind.agent.policy = dataclasses.replace(exhibit.agent.policy, inputs=("z",))
    for look in (lambda: branch.Branch(blind, recording, 3), lambda: expected.expect(blind, recording)):
        with pytest.raises(Problem, match="there is no memory to go on from"):
            look()


def test_carracing_with_its_rewards_and_three_actions(tmp_path):
    settings = dataclasses.replace(
        SETTINGS,
        env=Env(name="carracing", max_steps=200, games=2),
        rnn=dataclasses.replace(SETTINGS.rnn, predict_reward=True),
        controller=Controller(inputs=["z", "h"], bias=True),
    )
    driver = Exhibit(small_run(tmp_path / "driver", settings))
    recording = driver.live(1, 40)
    assert recording.raw.shape == (40, 3)
    assert driver.describe(recording) == f"carracing: 40 steps, return {recording.rewards.sum():,.0f}"
    shown = branch.compare(branch.Branch(driver, recording, 10), 12)
    assert [frames.shape for frames in shown.values()] == [(12, 64, 64, 3)] * 3
    foreseen = expected.expect(driver, recording)
    rnn = driver.agent.rnn
    np.testing.assert_allclose(foreseen.reward[:-1], np.asarray(rnn.head(recording.h[1:]).reward), atol=1e-4)
    panel = expected.episode_panels(driver, recording, foreseen, [1])[-1]
    np.testing.assert_allclose(panel.series["real"][1][-1], recording.rewards.sum())
    steps = stepping.from_recording(driver, recording, 10)
    straight, left = stepping.futures(steps, ["0 0.3 0 x5", "-1 0.3 0 x5"]).values()
    assert len(straight) == 6 and (straight[-1] != left[-1]).any()


def test_the_command_draws_everything(exhibit, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gallery.pictures.EPISODE", 80)
    monkeypatch.setattr("gallery.pictures.SECONDS", 0.5)
    monkeypatch.setattr("gallery.pictures.DREAMT", 1.0)
    draw([str(exhibit.run.path)], tmp_path, seed=1)
    names = {path.name for path in tmp_path.iterdir()}
    animations = {f"doom_{name}.gif" for name in ("imagined", "dreams", "dream")}
    strips = {f"doom_{name}.png" for name in ("imagined", "dreams", "latent")}
    plots = {f"doom_{name}.png" for name in ("training", "temperatures", "returns")} | {"compounding_error.png"}
    assert names - {"doom_fireballs.png"} == animations | strips | plots
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.width > 100 and path.stat().st_size < LIMIT
            assert getattr(picture, "n_frames", 1) > 1 or path.suffix == ".png"
    said = capsys.readouterr().out
    assert all(name in said for name in names)


def test_a_gif_is_kept_small(tmp_path, monkeypatch):
    from gallery.pictures import save_small_gif

    noisy = {"noise": np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)}
    save_small_gif(tmp_path / "noise.gif", noisy, 12, 1)
    whole = (tmp_path / "noise.gif").stat().st_size
    monkeypatch.setattr("gallery.pictures.LIMIT", whole - 1)
    save_small_gif(tmp_path / "noise.gif", noisy, 12, 1)
    assert (tmp_path / "noise.gif").stat().st_size < whole
    monkeypatch.setattr("gallery.pictures.LIMIT", 1000)
    with pytest.raises(Problem, match=r"noise.gif has 0.0 MB with 25 frames"):
        save_small_gif(tmp_path / "noise.gif", noisy, 12, 1)


def test_the_command_names_a_run_that_there_is_not(tmp_path, capsys):
    assert command_here("gallery", "--out", tmp_path / "out", "nowhere") == 2
    assert capsys.readouterr().err.startswith("error: nowhere is neither shipped")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", [-1, 999_999])
def test_seeds_that_training_may_use_are_refused(tmp_path, capsys, seed):
    assert command_here("gallery", "--out", tmp_path, "--seed", seed, "doom") == 2
    assert "--seed from 1,000,000" in capsys.readouterr().err


def test_a_run_without_weights_is_one_line(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(to_yaml(SETTINGS))
    assert command_here("gallery", "--out", tmp_path / "out", tmp_path) == 1
    error = capsys.readouterr().err
    assert "vae.weights.h5 is missing" in error and len(error.splitlines()) == 1
