"""The reported figures: statistics, tables, what is measured once, pictures, slices, and the sweep."""

import dataclasses
import pickle
import shutil
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from controller.evaluation import evaluate, measure_best_of_random, of_others, sweep
from controller.policy import load_controller, policy_from
from controller.real import RealWorld
from controller.report import Results
from controller.scores import Row, once, published_curve, published_episodes, published_rows, summary, table, together
from envs.episodes import Played
from envs.worlds import WORLDS
from experiment.files import read_json
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Controller, Dream, Env, Evaluate, Experiment, Hardware, Rnn, Vae, Workers
from experiment.workers import Processes
from tests.fake import FakeGames, fake_world, length, save_agent

SETTINGS = Experiment(
    env=Env(max_steps=300, games=2),
    vae=Vae(z=4),
    rnn=Rnn(hidden=8, mixtures=2),
    dream=Dream(max_steps=30),
    controller=Controller(population=4, episodes=2, generations=1),
    evaluate=Evaluate(episodes=3, dreams=5, random_episodes=2, temperatures=[0.5, 1.15]),
    hardware=Hardware(precision="float32"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with V, M and C as they are before any training, and the starts of three episodes."""
    return save_agent(Run(tmp_path_factory.mktemp("run")), SETTINGS)


@pytest.fixture(scope="module")
def evaluated(run):
    evaluate(SETTINGS, run)
    return read_json(run.results)["evaluations"]


def test_summary_is_of_a_sample():
    record = summary(np.array([1.0, 2.0, 3.0, 6.0]))
    assert (record["mean"], record["n"], record["min"], record["max"]) == (3.0, 4, 1.0, 6.0)
    assert record["std"] == pytest.approx((14 / 3) ** 0.5)  # n - 1 in the denominator
    assert record["standard_error"] == pytest.approx((14 / 3) ** 0.5 / 2)
    assert record["returns"] == [1.0, 2.0, 3.0, 6.0]


def test_several_controllers_have_a_standard_error_of_their_own():
    records = [summary(np.array(returns)) | {"controller": "abc"} for returns in ([1.0, 3.0], [2.0, 4.0], [6.0, 8.0])]
    several = together([records[0] | {"counted": records[0]}, *records[1:]])
    assert (several["mean"], several["n"], several["controllers"]) == (4.0, 6, 3)
    assert several["std"] == pytest.approx((34 / 5) ** 0.5)
    assert several["standard_error"] == several["counted"]["standard_error"] == pytest.approx((7 / 3) ** 0.5)
    assert "controller" not in several and "first_hits" not in several
    unequal = together([summary(np.full(9, 100.0)), summary(np.full(2, 300.0))])
    assert (unequal["mean"], unequal["standard_error"]) == (200, pytest.approx(100))
    assert together(records[:1]) == records[0]


def test_published_figures_of_doom():
    episodes = published_episodes("doom")
    assert (len(episodes), round(episodes.mean())) == (100, 973)
    ours = [Row("ours", None, summary(np.array([100.0, 300.0])))]
    text = table(ours, SETTINGS)
    heading, first = text.splitlines()[0], text.splitlines()[4]
    assert heading == "survival in tics: mean ± standard deviation (standard error of the mean)"
    assert first.startswith("ours") and first.endswith("200 ± 141 (100)")
    for figures in ("1,092 ± 556", "2,086 ± 140", "210 ± 108", "820 ± 58", "973 ± 542"):
        assert figures in text
    curve = published_curve("doom", "population")
    assert (len(curve["return_mean"]), curve["return_mean"][0]) == (1800, 305.45)
    assert published_curve("doom", "mean_eval") == {}


def test_published_figures_of_carracing():
    ours = [Row("ours", None, summary(np.array([-20.0, 19.4])))]
    text = table(ours, CARRACING)
    columns, first = text.splitlines()[2], text.splitlines()[4]
    assert columns.strip() == "in the game"  # nobody dreamed: no such column
    assert " ".join(first.split()) == "ours 0 ± 28 (20)"  # -0.3: no -0
    for figures in ("906 ± 21", "788 ± 141", "632 ± 251", "838 ± 11", "652 ± 10", "591 ± 45", "343 ± 18"):
        assert sum(line.endswith(figures) for line in text.splitlines()) == 1
    assert [row.game["mean"] for row in published_rows("carracing") if "PyTorch" in row.name] == [860, 870]
    assert len(published_episodes("carracing")) == 0
    curve, mean = (published_curve("carracing", of) for of in ("population", "mean_eval"))
    assert [int(values[-1]) for values in curve.values()] == [1800, 4027120, 890, 813, 911, 903]
    assert [round(float(values[-1])) for values in mean.values()] == [1800, 4029137, 900]
    assert len(curve["generation"]) == 1800 and len(mean["generation"]) == 72


def test_a_dream_gets_a_column():
    record = summary(np.array([800.0, 900.0]))
    text = table([Row("ours", record, None)], CARRACING)
    assert "in the dream" in text and "850 ± 71 (50)" in text


def test_beside_a_dream_stands_what_it_counts_of_the_game():
    record = summary(np.array([800.0, 900.0]))
    game = record | {"counted": summary(np.array([500.0, 700.0]))}
    lines = table([Row("ours", record, game), Row("random", None, record)], SETTINGS).splitlines()
    assert lines[2].split("  ")[-1] == "as dreams count" and lines[4].endswith("600 ± 141 (100)")
    assert lines[5].split()[0] == "random" and lines[5].endswith("850 ± 71 (50)"), "what is not known is empty"
    for rows in ([Row("ours", record, record)], [Row("ours", None, game)]):
        assert "dreams count" not in table(rows, SETTINGS), "where that is the whole, or nothing was dreamt"


def test_long_figures_make_a_table_wider():
    record = summary(np.array([-1e9, 1e9]))
    lines = table([Row("this run, evolved at τ 1.00", record, record | {"counted": record})], CARRACING).splitlines()
    assert lines[4].startswith("this run,") and lines[4].count("1,414,213,562") == 3


def test_a_long_name_takes_several_lines_of_80_columns():
    record = summary(np.array([800.0, 2900.0]))
    name = "this run, CMA-ES mean of generation 1,800, τ 1.15, fast picture"
    lines = table([Row(name, record, record)], SETTINGS).splitlines()
    assert max(map(len, lines)) <= 80 and lines[4].count("1,850 ± 1,485 (1,050)") == 2
    assert " ".join(f"{lines[4].split('  ')[0]} {lines[5]} {lines[6]}".split()) == name


def test_what_was_not_published_is_empty():
    assert published_rows("elsewhere") == [] and published_curve("elsewhere", "population") == {}


def never():
    raise AssertionError("measured again")


def test_measured_once_for_the_same_thing_and_what_was_measured_of_something_else_stays(tmp_path):
    run = Run(tmp_path)
    of = {name: {"controller": name, "seeds": [1, 2]} for name in "abc"}
    measured = []
    for i, name in enumerate(of):
        measured.append(once(run, ["sweep", "1.00"], of[name], lambda i=i: summary(np.array([i, i + 2.0]))))
        assert measured[i]["mean"] == i + 1 and once(run, ["sweep", "1.00"], of[name], never) == measured[i]
        assert read_json(run.results)["evaluations"]["sweep"]["1.00"] == measured[i]
    assert read_json(run.results)["earlier"] == {"sweep 1.00": {"1": measured[1], "2": measured[0]}}
    assert once(run, ["sweep", "1.00"], of["a"], never) == measured[0]
    assert read_json(run.results)["earlier"] == {"sweep 1.00": {"1": measured[2], "2": measured[1]}}
    assert read_json(run.results)["evaluations"]["sweep"]["1.00"] == measured[0]


def test_evaluation_records_everything(evaluated):
    assert evaluated["game"]["seeds"] == [1_000_000, 1_000_001, 1_000_002]
    assert evaluated["game"]["n"] == len(evaluated["game"]["returns"]) == 3
    assert evaluated["random"]["seeds"] == [1_000_000, 1_000_001]
    assert (evaluated["dream"]["n"], evaluated["dream"]["temperature"]) == (5, 1.15)
    assert all(part["max"] <= limit for part, limit in ((evaluated["game"], 300), (evaluated["dream"], 30)))
    assert evaluated["game"]["counted"]["returns"] == [30.0, 30.0, 30.0], "a tic is worth 1, and a dream has 30"


def test_the_best_of_random_controllers_is_chosen_on_other_seeds(tmp_path):
    class Stub:
        """A world that rewards the sum of a controller's numbers, and knows who played which seeds."""

        settings = dataclasses.replace(SETTINGS, evaluate=Evaluate(episodes=3, random_controllers=5))
        world, final = SimpleNamespace(final=None), False
        agent = SimpleNamespace(policy=policy_from(settings))
        played: ClassVar = []

        def play(self, parameters, seeds, patience=0):
            self.played.append((parameters, list(seeds)))
            returns = np.broadcast_to(np.atleast_2d(parameters).sum(axis=1), len(seeds))
            return Played(returns, np.ones(len(seeds), int), np.ones(len(seeds), int), returns)

    record = measure_best_of_random(Stub(), Run(tmp_path))
    (candidates, tried), (chosen, tested) = Stub.played
    assert len(candidates) == 5 * SETTINGS.controller.real_episodes and max(tried) < SETTINGS.evaluate.seed
    assert np.array_equal(chosen, candidates[candidates.sum(axis=1).argmax()])
    assert tested == record["seeds"] == [1_000_000, 1_000_001, 1_000_002]
    assert record["mean"] == pytest.approx(chosen.sum()) and record["drawn"] == 5


def test_evaluation_draws(run, evaluated):
    assert (run.plots / "returns.png").stat().st_size > 1000
    names = ("game", "game-best", "game-worst", "dream")
    assert {path.name for path in run.videos.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("mp4", "gif")
    }


def test_what_was_measured_is_not_measured_again(run, evaluated, monkeypatch, capsys):
    without_videos = dataclasses.replace(SETTINGS, evaluate=dataclasses.replace(SETTINGS.evaluate, videos=False))
    monkeypatch.setattr(RealWorld, "play", lambda *_: pytest.fail("played again"))
    evaluate(without_videos, run)
    assert "best published before" in capsys.readouterr().out
    assert read_json(run.results)["evaluations"] == evaluated


def test_slices_give_what_the_whole_gives(run, evaluated):
    seeds = evaluated["game"]["seeds"]
    controller = load_controller(run.controller, policy_from(SETTINGS)).mean
    with pickle.loads(pickle.dumps(RealWorld(SETTINGS, run, final=True))) as elsewhere:
        slices = [elsewhere.play_slice((controller, part, 0)) for part in (seeds[:1], seeds[1:])]
    np.testing.assert_array_equal(np.concatenate([played.returns for played in slices]), evaluated["game"]["returns"])
    np.testing.assert_array_equal(np.concatenate([played.lengths for played in slices]), evaluated["game"]["returns"])
    assert len(set(evaluated["game"]["returns"])) > 1


def test_sweep_makes_the_papers_table(run, evaluated, capsys):
    sweep(SETTINGS, run, evolve_each=True)
    text = capsys.readouterr().out
    assert "ours, evolved at τ 0.50 " in text
    assert "ours, evolved at τ 1.15 " in text
    after = read_json(run.results)["evaluations"]
    assert after["dream"] == evaluated["dream"]  # the run's own temperature is taken from what is there
    assert after["sweep"]["tau-0.5"]["game"]["n"] == 3
    assert after["dreams"]["tau-0.5"]["temperature"] == 0.5
    assert (run.path / "sweep" / "tau-0.5" / "controller.h5").exists()
    assert (run.plots / "temperatures.png").stat().st_size > 1000
    sweep(SETTINGS, run, evolve_each=True)
    assert read_json(run.results)["evaluations"] == after
    more = dataclasses.replace(
        SETTINGS, evaluate=dataclasses.replace(SETTINGS.evaluate, controllers=2, temperatures=[0.5])
    )
    sweep(more, run, evolve_each=True)
    assert "ours, evolved at τ 0.50, 2 C " in capsys.readouterr().out
    swept = read_json(run.results)["evaluations"]["sweep"]
    assert swept["tau-0.5"] == after["sweep"]["tau-0.5"] != swept["tau-0.5-2"]
    results = Results(run, SETTINGS)
    assert results.swept[0.5][1]["n"] == 6 and "this run, evolved at τ 0.50, 2 C " in results.table()
    fewer = dataclasses.replace(SETTINGS, evaluate=dataclasses.replace(SETTINGS.evaluate, episodes=2))
    sweep(fewer, run, evolve_each=True)
    assert {k: v for k, v in read_json(run.results)["evaluations"].items() if k in ("game", "dream")} == {
        "game": after["game"],
        "dream": after["dream"],
    }, "the run's own figures stay"
    assert Results(run, SETTINGS).swept[1.15][1]["n"] == 2, "its controller is counted once"
    nothing = dataclasses.replace(SETTINGS, controller=dataclasses.replace(SETTINGS.controller, generations=0))
    with pytest.raises(Problem, match=r"controller\.generations=0: nothing is evolved"):
        sweep(nothing, run, evolve_each=True)


def test_a_sweep_in_the_other_picture_lets_the_runs_own_figures_be(tmp_path, monkeypatch):
    monkeypatch.setitem(WORLDS, "carracing", fake_world("carracing", final=FakeGames))
    run, wanted = Run(tmp_path), CARRACING.evaluate
    fast = dataclasses.replace(CARRACING, evaluate=dataclasses.replace(wanted, fast=True))
    assert not of_others(run, CARRACING) and not of_others(run, fast), "there are none"
    seeds = list(range(wanted.seed, wanted.seed + wanted.episodes))
    for picture in ("own", "fast"):
        run.update_results("evaluations", "game", {"seeds": seeds, "picture": picture})
        assert (of_others(run, CARRACING), of_others(run, fast)) == (picture == "fast", picture == "own")


CARRACING = Experiment(
    env=Env(name="carracing", max_steps=1000, games=3),
    vae=Vae(z=16),  # multiples of 16: see controller.agent
    rnn=Rnn(hidden=16, mixtures=2, predict_done=False),
    controller=Controller(inputs=["z", "h"], bias=True, generations=0, real_generations=1),
    evaluate=Evaluate(episodes=7, dreams=4, random_episodes=4),
    workers=Workers(processes=1),
    hardware=Hardware(precision="float32"),
)


def filmed(monkeypatch) -> dict[str, tuple[str, int, bool]]:
    """What videos are asked for from now on: their labels, lengths, and whether they show the real world too."""
    videos = {}

    def film(world, name, label, z, frames=None):
        assert frames is None or len(frames) == len(z)
        videos[name] = label, len(z), frames is not None

    monkeypatch.setattr("controller.evaluation.save_videos", film)
    return videos


def test_where_nothing_is_dreamt_only_the_real_world_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(WORLDS, "carracing", fake_world("carracing"))
    run, videos = save_agent(Run(tmp_path), CARRACING), filmed(monkeypatch)
    assert evaluate(CARRACING, run) == {"episodes": 11, "dreams": 0}
    evaluations = read_json(run.results)["evaluations"]
    assert set(evaluations) == {"game", "random"}
    table = capsys.readouterr().out
    assert "906 ± 21" in table and "in the dream" not in table and " 0 dreams" in table
    assert (run.plots / "returns.png").stat().st_size > 1000
    game = evaluations["game"]
    ordered = sorted(zip(game["returns"], game["seeds"], strict=True))  # (all returns differ)
    assert len({returned for returned, _ in ordered}) == 7
    expected = {"game": ordered[3], "game-best": ordered[-1], "game-worst": ordered[0]}
    assert videos == {
        name: (f"return {returned:,.0f}, {length(seed)} steps", length(seed), True)
        for name, (returned, seed) in expected.items()
    }
    videos.clear()
    evaluate(dataclasses.replace(CARRACING, evaluate=dataclasses.replace(CARRACING.evaluate, extremes=False)), run)
    assert set(videos) == {"game"}


def test_the_fast_picture_is_another_world(tmp_path, monkeypatch, capsys):
    """What is measured in one is not taken for what is asked of the other."""
    opened = []

    def kind(name):
        return lambda games, max_steps, **_: opened.append(name) or FakeGames(games, 3, max_steps)

    monkeypatch.setitem(WORLDS, "carracing", fake_world("carracing", vector=kind("fast"), final=kind("own")))
    run = save_agent(Run(tmp_path), CARRACING)
    silent = dataclasses.replace(CARRACING.evaluate, videos=False)
    for first in ("own", "fast"):
        opened.clear()
        shutil.rmtree(run.path)
        save_agent(run, CARRACING)
        second = {"own": "fast", "fast": "own"}[first]
        for name, pictures in ((first, [first]), (second, [first, second]), (first, [first, second])):
            evaluate(dataclasses.replace(CARRACING, evaluate=dataclasses.replace(silent, fast=name == "fast")), run)
            assert opened == pictures
            assert (", fast picture" in capsys.readouterr().out) == (name == "fast")


def test_where_m_predicts_rewards_dreams_return_them(tmp_path, monkeypatch):
    monkeypatch.setitem(WORLDS, "carracing", fake_world("carracing"))
    settings = dataclasses.replace(
        CARRACING,
        rnn=dataclasses.replace(CARRACING.rnn, predict_reward=True),
        dream=Dream(temperature=0.9, max_steps=25),
        controller=dataclasses.replace(CARRACING.controller, generations=1),
    )
    run, videos = save_agent(Run(tmp_path), settings), filmed(monkeypatch)
    assert evaluate(settings, run)["dreams"] == 4
    record = read_json(run.results)["evaluations"]["dream"]
    assert len(set(record["returns"])) == 4 and (record["temperature"], record["max_steps"]) == (0.9, 25)
    assert videos["dream"] == ("a dream, τ 0.9, 25 steps", 25, False)
    learnt = dataclasses.replace(settings, rnn=dataclasses.replace(settings.rnn, train=False))
    assert evaluate(learnt, save_agent(Run(tmp_path / "untrained"), learnt))["dreams"] == 0


def test_slices_are_put_together_in_their_order(tmp_path, monkeypatch):
    """Each with its controllers and seeds, whichever is done first."""
    monkeypatch.setitem(WORLDS, "carracing", fake_world("carracing"))
    run = save_agent(Run(tmp_path), CARRACING)
    policy = policy_from(CARRACING)
    controllers = np.random.default_rng(0).normal(size=(11, policy.size)).astype("float32")
    seeds, told, tasks = list(range(30, 41)), [], []

    def backwards(pool, slices):
        tasks.append(slices[-1][1:])
        for index in reversed(range(len(slices))):
            yield index, pool.function(slices[index])

    monkeypatch.setattr(Processes, "run", backwards)
    with RealWorld(CARRACING, run, final=True) as world:
        whole = [world.play(given, seeds, patience=9) for given in (controllers, controllers[0], None)]
        assert not tasks
    spread = dataclasses.replace(CARRACING, workers=Workers(processes=4))
    with RealWorld(spread, run, final=True) as world:
        parts = [world.play(given, seeds, told.append, patience=9) for given in (controllers, controllers[0], None)]
    for played, expected in zip(parts, whole, strict=True):
        np.testing.assert_allclose(played.returns, expected.returns, rtol=1e-6)  # without AVX-512, but for rounding
        np.testing.assert_array_equal(played.lengths, expected.lengths)
    assert len(np.unique(whole[0].returns - whole[1].returns)) > 5 and len(np.unique(whole[2].returns)) > 5
    assert told == [2, 3, 3, 3] * 3
    assert tasks[0] == ([39, 40], 9)


@pytest.mark.parametrize(
    ("world", "final", "episodes", "spread"),
    [
        ("carracing", True, 3, False),
        ("carracing", True, 4, True),
        ("carracing", False, 3, False),
        ("carracing", False, 1000, True),
        ("doom", False, 20, False),
        ("doom", True, 100, True),
    ],
)
def test_processes_are_started_where_they_pay(tmp_path, monkeypatch, world, final, episodes, spread):
    settings = dataclasses.replace(CARRACING, env=Env(name=world, max_steps=1000), workers=Workers())
    monkeypatch.setattr("controller.real.thread_count", lambda: 2)
    assert RealWorld(settings, Run(tmp_path), final).parts(episodes) == (2 if spread else 1)
    settings = dataclasses.replace(settings, workers=Workers(processes=3))
    assert RealWorld(settings, Run(tmp_path), final).parts(episodes) == 3


def test_a_slice_on_a_cluster_is_played_at_once(tmp_path):
    """A slice that is lost with its machine is played again, so it has no more episodes than games run side by side."""
    ray = dataclasses.replace(CARRACING, workers=Workers(backend="ray"))
    with RealWorld(CARRACING, Run(tmp_path)) as world:
        world.settings, world.pool.processes = ray, 2
        assert [world.parts(episodes) for episodes in (4, 18, 19, 300)] == [6, 6, 7, 100]


def test_games_are_opened_once_and_again_only_for_more(tmp_path, monkeypatch):
    monkeypatch.setitem(WORLDS, "carracing", fake_world("carracing"))
    with RealWorld(CARRACING, Run(tmp_path)) as world:
        two = world.games(2)
        assert two.num_envs == 2 and world.games(1) is two
        three = world.games(50)
        assert three.num_envs == 3 and two.closed and not three.closed
        assert world.games(3) is three
        seeds = [7, 12, 5, 4]
        np.testing.assert_array_equal(world.play_slice((None, seeds, 0)).lengths, [length(seed) for seed in seeds])
    assert three.closed


def test_episodes_or_their_first_steps_are_recorded(tmp_path, monkeypatch):
    monkeypatch.setitem(WORLDS, "carracing", fake_world("carracing"))
    run, controller = save_agent(Run(tmp_path), CARRACING), np.ones(policy_from(CARRACING).size, "float32")
    with RealWorld(CARRACING, run) as world:
        whole, other = world.record(controller, [13, 12])
        games = world.games(1)
        (part,) = world.record(controller, [13], steps=3)
        assert games.closed, "a game in the middle of an episode is not begun anew"
        again, _ = world.record(controller, [13, 12])
    assert len(whole.frames) == length(13) == 7 and len(other.rewards) == length(12) != 7 and len(part.frames) == 3
    assert [frame[0, 0, 1] for frame in whole.frames] == list(range(7))
    np.testing.assert_allclose(whole.rewards, 3 + whole.raw[:, 0], rtol=1e-6)  # see FakeGames
    assert not whole.h[0].any() and whole.h[1:].any(axis=1).all() and whole.c[1:].any(axis=1).all()
    for values, first, same in zip(whole, part, again, strict=True):
        np.testing.assert_array_equal(values, same)
        np.testing.assert_allclose(values[:3], first, rtol=1e-5, atol=1e-6)  # in another batch the last bit may differ


def test_trials_are_on_the_seeds_below_the_held_out_ones(tmp_path, monkeypatch):
    """Whichever of those the final evaluation begins with."""
    played = []
    monkeypatch.setattr(
        RealWorld, "play", lambda self, parameters, seeds: played.append(list(seeds)) or Played(*np.ones((4, 2)))
    )
    wanted = dataclasses.replace(CARRACING.controller, trial_episodes=2)
    for seed in (1_000_000, 3_000_000):
        settings = dataclasses.replace(CARRACING, controller=wanted, evaluate=Evaluate(seed=seed))
        RealWorld(settings, Run(tmp_path)).trial(np.zeros(3))
    assert played == [[999_998, 999_999]] * 2
