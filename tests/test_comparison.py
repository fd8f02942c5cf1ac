"""Fixed policies in the dream and in the world."""

import dataclasses

import numpy as np
import pytest

from envs.actions import move, to_discrete
from envs.worlds import WORLDS
from experiment.config import load_config
from experiment.files import read_json
from experiment.run import Run
from experiment.schema import Env, Experiment, Extract
from rnn import comparison
from rnn.dream import Dream
from rnn.model import MDNRNN
from rnn.starts import Starts
from tests.fake import fake_world, first_hit, length, save_untrained


def test_scripts_hold_and_do_as_they_are_named():
    world = WORLDS["doom"]
    scripts = comparison.fixed_scripts(Experiment(), world, 300)
    assert all(script.shape == (world.compared, 300) for script in scripts.values())
    executed = [set(move(script).ravel().tolist()) for script in scripts.values()]
    assert executed == [{-1, 0, 1}, {0}, {-1}, {1}, {-1, 1}]
    swing = move(scripts["there and back"][-1])
    assert np.flatnonzero(np.diff(swing)).tolist() == [61, 186]  # 62 tics, then 125 a way
    random = scripts["a random action held 1 to 10 steps"]
    assert np.mean(random[:, 1:] != random[:, :-1]) == pytest.approx(1 / 5.5, abs=0.01)  # every 5.5 steps on average


@pytest.mark.parametrize("policy", ["networks", "agent", "brownian"])
def test_a_car_is_driven_smoothly_where_the_recorded_policy_cannot_be_played_blind(policy):
    settings = Experiment(env=Env(name="carracing"), extract=Extract(policy=policy, brownian_centre=[0.0, -0.2, -0.8]))
    world = WORLDS["carracing"]
    scripts = comparison.fixed_scripts(settings, world, 50)
    assert list(scripts) == ["smooth random actions", *world.fixed]
    random = scripts["smooth random actions"]
    assert random.shape == (world.compared, 50, 3)
    assert np.abs(np.diff(random, axis=1)).mean() < 0.3 < np.abs(random[1:] - random[:-1]).mean()
    np.testing.assert_allclose(random.mean(axis=(0, 1))[:2], [0, -0.2], atol=0.15)
    for name, raw in world.fixed.items():
        assert (scripts[name] == np.float32(raw)).all()


def deadly(actions: int) -> MDNRNN:
    """An M that ends an episode as soon as its first action is 1, and whose reward is 3 until then."""
    model = MDNRNN(2, actions, 4, 1, predict_done=True, predict_reward=True)
    kernel, bias, output_kernel, output_bias = (np.zeros_like(weight) for weight in model.get_weights())
    kernel[2, 4:8] = 5  # the action into the candidate of every unit; input and output gates are half open
    bias[8:12] = -10  # forget at once
    output_kernel[:, -1], output_bias[-1] = 10, -5
    output_bias[-2] = 3
    model.set_weights([kernel, bias, output_kernel, output_bias])
    return model


@pytest.mark.parametrize("actions", [1, 3])
def test_dream_plays_each_script_in_its_row(actions):
    """Every row must end where its script first has the action that is deadly."""
    generators = {name: np.random.default_rng(seed) for seed, name in enumerate("ab")}
    scripts = {name: rng.choice([-1, 0, 1], (3, 40, 3)).astype("f") for name, rng in generators.items()}
    first = {name: script[..., 0] for name, script in scripts.items()}
    starts = Starts(*np.zeros((2, 5, 2), "f"), *np.zeros((2, 5, 4), "f"))
    dream = Dream(deadly(actions), starts)
    returns = comparison.dream_returns(dream, first if actions == 1 else scripts, temperature=1)
    for name, script in first.items():
        np.testing.assert_allclose(returns[name], 3 * (np.argmax(script == 1, axis=1) + 1))
    assert len(np.unique(list(returns.values()))) > 3


@pytest.mark.parametrize("games", [1, 3, 50])
def test_world_plays_every_script_in_its_episode(games):
    """The same seeds for every policy, however many games are played side by side."""
    settings = Experiment(env=Env(games=games))
    scripts = {name: np.full((4, 7), raw, "f") for name, raw in (("left", -1), ("stay", 0), ("right", 1))}
    scripts["right"][2] = -1
    returns, hits = comparison.in_the_world(settings, fake_world(), scripts)
    assert list(returns) == list(hits) == list(scripts)
    for name, script in scripts.items():
        for episode, raw in enumerate(script[:, 0]):
            seed = comparison.SEEDS + episode
            assert returns[name][episode] == length(seed) * (seed % 10 + to_discrete(move(raw)))
            assert hits[name][episode] == first_hit(seed)


def test_comparison_warns_and_is_recorded(
    tmp_path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    settings = load_config(
        "configs/doom.yaml", overrides=["vae.z=2", "rnn.hidden=4", "env.max_steps=40", "extract.min_steps=1"]
    )
    run = Run(tmp_path)
    save_untrained(run, settings, done_bias=100)  # every dream ends at once
    monkeypatch.setitem(WORLDS, "doom", dataclasses.replace(WORLDS["doom"], compared=2))
    comparison.compare(settings, run)
    text = capsys.readouterr().out
    assert "far off for: a random action held 1 to 10 steps; always stay; always left; always right" in text
    recorded = read_json(run.results)["survival"]
    assert recorded["max_steps"] == 40
    assert recorded["policies"]["always stay"]["dream"] == {"mean": 1.0, "returns": [1, 1]}
    assert recorded["policies"]["always stay"]["game"] == {"mean": 40.0, "returns": [40, 40]}  # no one dies so soon


@pytest.mark.parametrize(
    ("done", "places"), [("threshold", ["dream", "game", "first hits"]), ("drawn", ["dream", "first hits", "game"])]
)
def test_a_dream_whose_endings_are_drawn_is_compared_with_the_game_itself(done, places, tmp_path, monkeypatch):
    settings = load_config("configs/doom.yaml", overrides=["vae.z=2", "rnn.hidden=4", f"dream.done={done}"])
    run, shown = Run(tmp_path), []
    save_untrained(run, settings, done_bias=100)
    fared = {"always stay": np.array([1.0, 2.0])}
    monkeypatch.setattr(comparison, "in_the_world", lambda *_: (fared, fared))
    monkeypatch.setattr(comparison, "dream_returns", lambda *_: fared)
    monkeypatch.setattr(comparison, "fixed_scripts", lambda *_: fared)
    monkeypatch.setattr(comparison, "table", lambda compared, *_: shown.extend(compared) or [])
    comparison.compare(settings, run)
    assert shown == places


@pytest.mark.parametrize(
    ("dream", "world", "warned"),
    [
        ([100, 120], [110, 130], False),
        ([300, 320], [110, 130], True),
        ([110, 130], [300, 320], True),  # also where the dream is the harder one
        ([10, 10, 10, 10, 10, 1300], [90, 110], False),  # more than twice as much, but within the spread
        ([-20, -18], [30, 32], True),
        ([-20, 20], [-10, 30], False),
    ],
)
def test_only_what_is_clearly_far_off_is_warned_of(dream, world, warned):
    places = {"dream": {"idle": np.array(dream)}, "game": {"idle": np.array(world)}}
    lines = comparison.table(places, 1.0, "return")
    assert ("warning" in lines[-1]) == warned
    assert lines[2].split()[0] == "idle" and lines[2].split()[1] == f"{np.mean(dream):.0f}"


def test_a_dream_is_compared_with_the_first_hits_where_these_are_known():
    dream, world, hits = ({"idle": np.array(values)} for values in ([100, 120], [300, 320], [110, 130]))
    lines = comparison.table({"dream": dream, "game": world, "first hits": hits}, 1.0, "tics")
    assert lines[-1].split() == ["idle", "110", "±", "10", "310", "±", "10", "120", "±", "10"]
    assert "first hits" in lines[1] and "warning" in comparison.table({"dream": dream, "game": world}, 1.0, "tics")[-1]


@pytest.mark.parametrize(
    "rnn", ["rnn.train=false controller.generations=0", "rnn.predict_done=false controller.generations=0"]
)
def test_an_m_without_a_dream_is_not_compared(tmp_path, capsys, rnn):
    overrides = [*rnn.split(), "controller.real_generations=1"]
    comparison.compare(load_config("configs/doom.yaml", overrides=overrides), Run(tmp_path))
    assert "no fixed policies to compare" in capsys.readouterr().out and not list(tmp_path.iterdir())
