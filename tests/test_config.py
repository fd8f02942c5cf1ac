"""Settings: presets and overrides take effect; every mistake is one line that names it."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiment.config import flatten, load_config, to_yaml
from experiment.problem import UsageProblem

DOOM = Path(__file__).parents[1] / "configs" / "doom.yaml"


def test_presets_and_overrides_apply_in_order():
    assert load_config(DOOM).extract.episodes == load_config(DOOM, "laptop").extract.episodes == 10_000
    quick = load_config(DOOM, "quick", ["vae.steps=7", "controller.inputs=[z,h]"])
    assert quick.extract.episodes == 200
    assert quick.vae.steps == 7
    assert quick.controller.inputs == ["z", "h"]


def test_paper_preset_is_the_published_experiment():
    paper = load_config(DOOM, "paper")
    assert (paper.extract.episodes, paper.controller.population, paper.controller.episodes) == (10_000, 64, 16)
    assert (paper.vae.z, paper.rnn.hidden, paper.rnn.mixtures, paper.rnn.done_weight) == (64, 512, 5, 10)
    assert (paper.vae.learning_rate, paper.rnn.learning_rate, paper.controller.sigma) == (1e-4, 1e-3, 0.1)
    assert not paper.controller.adaptive_cap
    assert paper.controller.weight_decay == 0


def test_resolved_config_reads_back(tmp_path):
    settings = load_config(DOOM, "quick", ["dream.temperature=1.3"])
    (tmp_path / "config.yaml").write_text(to_yaml(settings))
    assert load_config(tmp_path / "config.yaml") == settings


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("vae.step=1", ["vae.step", "did you mean vae.steps"]),
        ("nothing.like.it=1", ["nothing", "--help"]),
        ("vae.steps=many", ["vae.steps", "many", "Integer"]),
        ("vae.steps=-3", ["vae.steps=-3", "at least 1"]),
        ("data.val_ratio=1", ["data.val_ratio=1", "below 1"]),
        ("data.val_ratio=0.00001", ["data.val_ratio", "no episode"]),
        ("controller.sigma=nan", ["controller.sigma=nan", "above 0"]),
        ("controller.inputs=[z,q]", ["controller.inputs", "z, c, h"]),
        ("controller.inputs=[]", ["controller.inputs", "z, c, h"]),
        ("evaluate.temperatures=[1.0,0]", ["evaluate.temperatures", "above 0"]),
        ("extract.policy=greedy", ["extract.policy", "greedy", "held"]),
        ("extract.min_steps=2100", ["extract.min_steps=2100", "env.max_steps=2100"]),
        ("extract.max_steps=100", ["extract.min_steps=100", "extract.max_steps=100"]),
        ("extract.max_steps=2101", ["extract.max_steps=2101", "env.max_steps=2100"]),
        ("repeat.max_steps=2101", ["repeat.max_steps=2101", "env.max_steps=2100"]),
        ("controller.generations=0", ["controller.real_generations=0", "evolved somewhere"]),
        ("env.max_steps=2101", ["env.max_steps=2101", "doom lasts at most 2,100 steps"]),
        ("env.name=carracing", ["env.max_steps=2100", "carracing lasts at most 1,000 steps"]),
        ("dream.start_steps=[9,5]", ["dream.start_steps=[9, 5]", "the first not above the second"]),
        ("dream.start_steps=[5]", ["dream.start_steps=[5]", "two steps"]),
        ("dream.start_steps=[]", ["dream.start_steps=[]", "two steps"]),
        ("dream.start_steps=[1,2,3]", ["dream.start_steps=[1, 2, 3]", "two steps"]),
        ("dream.start_steps=[-1,5]", ["dream.start_steps", "at least 0"]),
        ("dream.start_steps=[0,5]", ["dream.start_steps=[0, 5]", "[0,0]", "rnn.predict_done"]),
        ("rnn.reward_limits=[3,3]", ["rnn.reward_limits=[3.0, 3.0]", "the first below the second"]),
        ("rnn.reward_limits=[3]", ["rnn.reward_limits=[3.0]", "two numbers"]),
        ("rnn.predict_done=false", ["controller.generations=20", "rnn.predict_done", "rnn.predict_reward"]),
        ("iterations=0", ["iterations=0", "at least 1"]),
        ("nothing.like.it=1", ["python -m experiment --help"]),
        ("vae=3", ["for vae (in vae=3)", "settings such as vae.z", "not 3"]),
        ("vae=", ["for vae (in vae=)", "settings such as vae.z"]),
        ("vae=???", ["for vae", "settings such as vae.z"]),
        ("vae.steps=???", ["for vae.steps", "expected a value"]),
        ("iterations=???", ["for iterations", "expected a value"]),
        ("vae.steps=${foo.bar}", ["for vae.steps", "foo.bar", "expected a value"]),
        ("vae.steps=${env.name}", ["for vae.steps", "doom", "Integer"]),
        ("vae.steps=${vae.steps}", ["for vae.steps", "Recursive", "expected a value"]),
        ("extract.brownian_centre=5", ["for extract.brownian_centre", "a list such as [0.0]", "not 5"]),
        ("controller.inputs[0]=q", ["for controller.inputs", "a list such as ['z', 'c', 'h']"]),
        ("workers.address=auto", ["workers.address=auto", "set workers.backend=ray"]),
        ("vae..steps=1", ["vae..steps=1", "section.key=value"]),
        ("vae.steps", ["vae.steps", "section.key=value"]),
        ("vae.steps=[", ["vae.steps=["]),
    ],
)
def test_wrong_override_is_one_line_naming_it(override, words):
    with pytest.raises(UsageProblem) as caught:
        load_config(DOOM, None, [override])
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "overrides",
    [
        ["controller.generations=0", "controller.real_generations=3", "rnn.predict_done=false"],
        ["rnn.predict_done=false", "rnn.predict_reward=true", "dream.start_steps=[0,50]"],
        ["env.name=carracing", "env.max_steps=1000"],
        ["dream.start_steps=[0,0]"],
        ["dream.start_steps=[7,7]"],
        ["workers.address=auto", "workers.backend=ray"],
    ],
)
def test_what_is_possible_is_not_refused(overrides):
    settings = {key: value for key, value, _ in flatten(load_config(DOOM, None, overrides))}
    for override in overrides:
        key, value = override.split("=")
        assert str(settings[key]).lower().replace(" ", "") == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("vae: {steps: 5", ["not valid YAML"]),
        ("- a list", ["not an experiment"]),
        ("vae: {stepz: 5}", ["vae.stepz", "did you mean"]),
        ("vae: [1]", ["for vae (in", "bad.yaml", "settings such as vae.z", "not [1]"]),
        ("vae:", ["for vae (in", "settings such as vae.z"]),
        ("controller: {inputs: {z: 1}}", ["for controller.inputs", "a list such as"]),
        ("presets: {quick: {vae: {steps: 0}}}", ["vae.steps=0"]),
        ("presets: {quick: 5}", ["bad.yaml, preset quick", "sections such as vae", "not 5"]),
        ("presets: [quick]", ["for presets", "names", "['quick']"]),
        ("presets: 5", ["for presets", "names", "not 5"]),
    ],
)
def test_wrong_file_is_one_line_naming_it(tmp_path, content, words):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(UsageProblem) as caught:
        load_config(path, "quick" if "presets" in content else None)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_number_that_is_none_is_refused_where_there_are_no_limits():
    with pytest.raises(UsageProblem) as caught:
        load_config(DOOM, None, ["extract.brownian_centre=[nan]"])
    assert str(caught.value) == "impossible value extract.brownian_centre=nan: expected a number"


def test_a_value_may_be_that_of_another_setting():
    assert load_config(DOOM, None, ["vae.steps=${rnn.steps}", "rnn.steps=7"]).vae.steps == 7


def test_a_preset_may_be_a_number(tmp_path):
    path = tmp_path / "numbers.yaml"
    path.write_text("presets: {1: {vae: {steps: 4}}}")
    assert load_config(path, "1").vae.steps == 4
    with pytest.raises(UsageProblem, match="no preset '2': choose one of 1"):
        load_config(path, "2")


def test_every_setting_is_in_the_help_of_the_whole_experiment():
    """Where the message about an unknown one says that they are."""
    done = subprocess.run(
        [sys.executable, "-m", "experiment", "--help"], cwd=DOOM.parents[1], capture_output=True, text=True, check=True
    )
    listed = {line.split("=")[0].strip() for line in done.stdout.splitlines() if line.startswith("  ")}
    assert {key for key, _, _ in flatten(load_config(DOOM))} <= listed


def test_missing_file_and_unknown_preset(tmp_path):
    with pytest.raises(UsageProblem, match="there is no config"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UsageProblem, match="no preset 'huge': choose one of quick, laptop, paper"):
        load_config(DOOM, "huge")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["iterations=2", "repeat.episodes=3"], ["data.val_ratio", "repeat.episodes=3"]),
        (["iterations=2", "repeat.max_steps=90"], ["extract.min_steps=100", "repeat.max_steps=90"]),
        (["dream.start_steps=[100,200]", "extract.max_steps=150"], ["dream.start_steps", "extract.max_steps=150"]),
        (
            ["iterations=2", "dream.start_steps=[100,200]", "repeat.max_steps=150"],
            ["dream.start_steps", "repeat.max_steps=150"],
        ),
        (["rnn.train=false"], ["controller.generations", "rnn.train=false", "controller.real_generations"]),
        (["extract.brownian_centre=[0,0]"], ["extract.brownian_centre", "one number"]),
        (["evaluate.seed=5000000000"], ["evaluate.seed", "2,000,000,000"]),
    ],
)
def test_what_would_fail_in_a_later_stage_or_iteration_is_refused_at_once(overrides, words):
    with pytest.raises(UsageProblem) as caught:
        load_config(DOOM, None, overrides)
    assert all(word in str(caught.value) for word in words), caught.value


def test_an_impossible_repeat_does_not_matter_without_iterations():
    assert load_config(DOOM, None, ["repeat.episodes=3"]).repeat.episodes == 3
