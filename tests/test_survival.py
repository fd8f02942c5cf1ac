"""Fixed policies in the dream and in the game."""

import numpy as np
import pytest

from experiment.config import load_config
from experiment.files import read_json
from experiment.run import Run
from extract.rollouts import Sequences
from rnn import survival
from rnn.dream import Dream, Starts
from rnn.model import MDNRNN, build_rnn
from vae.latents import write_latents


def test_scripts_hold_and_do_as_they_are_named():
    scripts = survival.fixed_scripts(load_config("configs/doom.yaml", overrides=["env.max_steps=300"]))
    assert [set(script.ravel().tolist()) for script in scripts.values()] == [{-1, 0, 1}, {0}, {-1}, {1}]
    random = scripts["random, held 1-10"]
    changes = np.mean(random[:, 1:] != random[:, :-1])
    assert changes == pytest.approx(2 / 3 / 5.5, abs=0.01)  # every 5.5 steps on average, two of three to another action


def test_dream_plays_each_script_in_its_row():
    """An M that ends an episode as soon as it is given action 1: every row must end where its script first has it."""
    model = MDNRNN(2, 1, 4, 1, predict_done=True)
    kernel, bias, output_kernel, output_bias = (np.zeros_like(weight) for weight in model.get_weights())
    kernel[2, 4:8] = 5  # the action into the candidate of every unit; input and output gates are half open
    bias[8:12] = -10  # forget at once
    output_kernel[:, -1], output_bias[-1] = 10, -5
    model.set_weights([kernel, bias, output_kernel, output_bias])
    scripts = {
        name: np.random.default_rng(seed).choice([-1, 0, 1], (3, 40)).astype("f") for seed, name in enumerate("ab")
    }
    starts = Starts(np.zeros((5, 2), "f"), np.zeros((5, 2), "f"))
    lengths = survival.dream_lengths(Dream(model, starts), scripts, temperature=1, max_steps=40)
    for name, script in scripts.items():
        assert lengths[name].tolist() == (np.argmax(script == 1, axis=1) + 1).tolist()


def test_game_plays_every_script():
    """Against the same episode a second time, and cut where it is to be cut."""
    script = np.full((2, 60), 1, np.float32)
    lengths = survival.game_lengths({"right": script, "again": script}, max_steps=60)
    assert lengths["right"].tolist() == lengths["again"].tolist()
    assert all(0 < length <= 60 for length in lengths["right"])


def test_comparison_warns_and_is_recorded(
    tmp_path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    settings = load_config(
        "configs/doom.yaml", overrides=["vae.z=2", "rnn.hidden=4", "env.max_steps=40", "extract.min_steps=1"]
    )
    run = Run(tmp_path)
    mu = np.zeros((4, 2), np.float32)
    one, no = np.ones(4, np.float32), np.zeros(4, bool)
    write_latents(run.latents, [(mu, mu)], Sequences(one, one, no, no, np.array([2, 2]), [2]))
    model = build_rnn(settings)
    model.output_bias.assign(np.append(np.zeros(model.mixture_size), 100))  # every dream ends at once
    model.save_weights(run.rnn_weights)
    monkeypatch.setattr(survival, "EPISODES", 2)
    survival.compare(settings, run)
    text = capsys.readouterr().out
    assert "far off for: random, held 1-10; always stay; always left; always right" in text
    recorded = read_json(run.results)["survival"]["policies"]
    assert recorded["always stay"]["dream"] == {"mean": 1.0, "lengths": [1, 1]}
    assert len(recorded["always stay"]["game"]["lengths"]) == 2
