"""Settings: presets and overrides take effect; every mistake is one line that names it."""

import dataclasses
import itertools
import math
from pathlib import Path

import pytest

import controller.__main__
import rnn.__main__
from experiment.config import flatten, load_config, to_yaml
from experiment.problem import UsageProblem
from experiment.schema import Experiment, within
from experiment.stage import Stage, parse, settings_help
from tests.commands import python

DOOM = Path(__file__).parents[1] / "configs" / "doom.yaml"


def test_presets_and_overrides_apply_in_order():
    assert load_config(DOOM).extract.episodes == load_config(DOOM, "laptop").extract.episodes == 10_000
    quick = load_config(DOOM, "quick", ["vae.steps=7", "controller.inputs=[z,h]"])
    assert quick.extract.episodes == 120
    assert quick.vae.steps == 7
    assert quick.controller.inputs == ["z", "h"]


def test_paper_preset_is_the_published_experiment():
    paper = load_config(DOOM, "paper")
    assert (paper.extract.episodes, paper.controller.population, paper.controller.episodes) == (10_000, 64, 16)
    assert (paper.vae.z, paper.rnn.hidden, paper.rnn.mixtures, paper.rnn.done_weight) == (64, 512, 5, 10)
    assert (paper.vae.learning_rate, paper.rnn.learning_rate, paper.controller.sigma) == (1e-4, 1e-3, 0.1)
    assert not paper.controller.adaptive_cap
    assert paper.controller.weight_decay == 0


def test_arguments_of_an_environment_have_the_types_that_they_are_written_with(tmp_path):
    given = "env.kwargs={a: null, b: 010, c: '1', g: '1e5', h: '', i: 'no', d: [1.5, x], e: {f: true}}"
    settings = load_config(DOOM.with_name("gymnasium.yaml"), None, ["env.id=CartPole-v1", given])
    texts = {"c": "1", "g": "1e5", "h": "", "i": "no"}
    assert settings.env.kwargs == {"a": None, "b": 10, **texts, "d": [1.5, "x"], "e": {"f": True}}
    (tmp_path / "config.yaml").write_text(to_yaml(settings))
    assert load_config(tmp_path / "config.yaml") == settings
    with pytest.raises(UsageProblem, match="a is given twice"):
        load_config(DOOM, None, ["env.kwargs={a: 1, a: 2}"])


def test_resolved_config_reads_back(tmp_path):
    settings = load_config(DOOM, "quick", ["dream.temperature=1.3"])
    (tmp_path / "config.yaml").write_text(to_yaml(settings))
    assert load_config(tmp_path / "config.yaml") == settings


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("vae.step=1", ["vae.step", "did you mean vae.steps"]),
        ("nothing.like.it=1", ["nothing", "python -m experiment --help"]),
        ("vae.steps=many", ["vae.steps", "many", "whole number"]),
        ("vae.steps=-3", ["vae.steps=-3", "from 1 to 1,000,000,000"]),
        ("data.val_ratio=1", ["data.val_ratio=1", "below 1"]),
        ("data.val_ratio=0.00001", ["data.val_ratio", "no episode"]),
        ("controller.sigma=nan", ["controller.sigma", "above 0", "not nan"]),
        ("controller.sigma=1e999", ["controller.sigma=inf", "at most 100"]),
        ("controller.inputs=[z,q]", ["controller.inputs", "z, c, h"]),
        ("controller.inputs=[]", ["controller.inputs", "z, c, h"]),
        ("controller.inputs=[z,z]", ["controller.inputs", "each once"]),
        ("evaluate.temperatures=[1.0,0]", ["evaluate.temperatures", "above 0"]),
        ("extract.policy=greedy", ["extract.policy", "greedy", "held"]),
        ("extract.min_steps=2100", ["extract.min_steps=2100", "env.max_steps=2100"]),
        ("extract.max_steps=100", ["extract.min_steps=100", "extract.max_steps=100"]),
        ("extract.max_steps=2101", ["extract.max_steps=2101", "env.max_steps=2100"]),
        ("repeat.max_steps=2101", ["repeat.max_steps=2101", "env.max_steps=2100"]),
        ("controller.generations=0", ["controller.real_generations=0", "evolved somewhere"]),
        ("dream.start_steps=[9,5]", ["dream.start_steps=[9, 5]", "the first not above the second"]),
        ("dream.start_steps=[5]", ["dream.start_steps=[5]", "two steps"]),
        ("dream.start_steps=[]", ["dream.start_steps=[]", "two steps"]),
        ("dream.start_steps=[1,2,3]", ["dream.start_steps=[1, 2, 3]", "two steps"]),
        ("dream.start_steps=[-1,5]", ["dream.start_steps", "from 0 to"]),
        ("dream.start_steps=[0,5]", ["dream.start_steps=[0, 5]", "[0,0]", "rnn.predict_done"]),
        ("rnn.reward_limits=[3,3]", ["rnn.reward_limits=[3.0, 3.0]", "the first below the second"]),
        ("rnn.reward_limits=[3]", ["rnn.reward_limits=[3.0]", "two numbers"]),
        ("rnn.predict_done=false", ["controller.generations=20", "rnn.predict_done", "rnn.predict_reward"]),
        ("iterations=0", ["iterations=0", "from 1 to"]),
        ("vae=3", ["for vae (in vae=3)", "settings such as vae.z", "not 3"]),
        ("vae=", ["for vae (in vae=)", "settings such as vae.z"]),
        ("vae=???", ["for vae", "settings such as vae.z"]),
        ("vae.steps=???", ["for vae.steps", "expected a whole number", "not ???"]),
        ("vae.steps=${rnn.steps}", ["for vae.steps", "${rnn.steps} is not looked up"]),
        ("wandb.project=${oc.env:HOME}", ["for wandb.project", "${oc.env:HOME} is not looked up"]),
        ("controller.inputs=['${oc.env:HOME}']", ["for controller.inputs", "is not looked up"]),
        ("vae.steps=1:30", ["for vae.steps", "not 1:30"]),
        ("vae.steps=0x10", ["for vae.steps", "not 0x10"]),
        ("vae.steps=2020-13-45", ["for vae.steps", "not 2020-13-45"]),
        pytest.param(f"vae.steps={'9' * 5000}", ["for vae.steps", "not 99", "9..."], id="5000 digits"),
        ("vae.steps=!!int abc", ["vae.steps=!!int abc", "tags"]),
        ("vae={z: 3, z: 4}", ["z is given twice"]),
        ("wandb.project=~", ["for wandb.project", "expected a text"]),
        ('wandb.project="\\e[31m"', ["for wandb.project", r'not "\e[31m"']),
        ("extract.brownian_centre=5", ["for extract.brownian_centre", "a list such as [0.0]", "not 5"]),
        ("controller.inputs[0]=q", ["controller.inputs[0]", "did you mean controller.inputs?"]),
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
        ("vae: {steps: 5", ["not valid YAML (line 1)"]),
        ("vae: {z: 32}\nvae: {steps: 5}", ["bad.yaml", "(line 2)", "vae is given twice, the first time in line 1"]),
        ("presets: {quick: {vae: {z: 1, z: 2}}}", ["z is given twice"]),
        ("vae: {z: 3}\nvae.z: 4", ["vae.z is given twice", "bad.yaml, line 2"]),
        ("rnn: {hidden: 4}\nvae:\n  z: 1:30\n", ["for vae.z", "bad.yaml, line 3", "whole number", "not 1:30"]),
        ("vae: {z: 5}\nrnn: {hidden: 1_000_000}", ["rnn.hidden=1000000", "bad.yaml, line 2", "from 1 to"]),
        ("vae: {<<: {z: 5}}", ["vae.<<"]),
        ("vae: &v {z: 5}\nrnn: *v", ["(line 1)", "anchors"]),
        ("vae: {z: !!binary abc}", ["tags"]),
        ("vae:\n\tz: 5", ["(line 2)"]),
        ("? [1]\n: 2", ["a name is expected before the colon"]),
        ("'\\e[31m': 2\n\"\\e[31m\": 2", ["[31m"]),
        ('vae: {z: "\\UFFFFFFFF"}', ["not valid YAML"]),
        pytest.param("[" * 100_000, ["brackets in brackets"], id="deep"),
        pytest.param("#" * 300_000, ["more than 262,144 bytes"], id="large"),
        ("vae: {z: 5}\n---\nvae: {z: 6}", ["another document"]),
        ("- a list", ["not an experiment"]),
        ("vae: {stepz: 5}", ["vae.stepz", "did you mean"]),
        ("vae: [1]", ["for vae (in", "bad.yaml", "settings such as vae.z", "not [1]"]),
        ("vae:", ["for vae (in", "settings such as vae.z"]),
        ("controller: {inputs: {z: 1}}", ["for controller.inputs", "a list such as"]),
        ("presets: {quick: {vae: {steps: 0}}}", ["vae.steps=0"]),
        ("presets: {quick: 5}", ["bad.yaml", "sections such as vae", "not 5"]),
        ("presets: [quick]", ["for presets", "names", "not [quick]"]),
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


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("extract.episodes=0200", 200),
        ("vae.steps=1_000", 1000),
        ("vae.learning_rate=1e-3", 0.001),
        ("vae.kl_floor=1", 1.0),
        ("rnn.predict_reward=yes", True),
        ("evaluate.videos=OFF", False),
        ("wandb.project=no", "no"),
        ("wandb.project=010", "010"),
        ("wandb.project=2020-01-01", "2020-01-01"),
        ("wandb.project='~'", "~"),
        ("train.seed=4294967295", 2**32 - 1),
    ],
)
def test_a_value_is_read_as_it_is_written_in_files_and_overrides(tmp_path, override, value):
    key, _, text = override.partition("=")
    section, _, name = key.partition(".")
    (tmp_path / "some.yaml").write_text(f"{section}:\n  {name}: {text}\n")
    for settings in (load_config(DOOM, None, [override]), load_config(tmp_path / "some.yaml")):
        read = getattr(getattr(settings, section), name)
        assert read == value and type(read) is type(value)


def test_texts_that_could_be_something_else_read_back(tmp_path):
    for project in ("no", "1e3", "~", "0200", "a: b", "τ", ""):
        settings = dataclasses.replace(Experiment(), wandb=dataclasses.replace(Experiment().wandb, project=project))
        (tmp_path / "config.yaml").write_text(to_yaml(settings), encoding="ascii")
        assert load_config(tmp_path / "config.yaml") == settings


def test_anchors_that_multiply_are_refused(tmp_path):
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]" for before, name in itertools.pairwise("abcdefghij")]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(UsageProblem, match=r"anchors \(&\), aliases"):
        load_config(tmp_path / "config.yaml", strict=())


def test_every_number_has_limits_at_both_ends_and_its_default_within_them():
    for key, value, entry in flatten(Experiment()):
        numbers = value if isinstance(value, list) else [value]
        if key != "controller.inputs" and not isinstance(numbers[0], bool | str | dict):
            for ends in (("least", "above"), ("most", "below")):
                assert sum(math.isfinite(entry.metadata[end]) for end in ends) == 1, key
            assert all(within(number, entry) for number in numbers), key
            assert not within(float("nan"), entry)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["vae.z=4096", "rnn.mixtures=100", "rnn.hidden=16384"], "M's weights"),
        (["controller.population=100000", "controller.episodes=10000"], "a generation's dreams"),
        (["controller.hidden=4096"], "covariance matrix"),
        (["controller.components=512", "controller.hidden=64", "controller.diagonal=true"], "directions"),
        (["evaluate.random_controllers=100000", "controller.real_episodes=1000"], "the random ones"),
        (["model.channels=4096", "model.blocks=100"], "the next-frame model's weights"),
        (["train.batch=16384", "env.size=1024"], "a batch of frames"),
    ],
)
def test_what_cannot_fit_together_is_refused(overrides, words):
    with pytest.raises(UsageProblem) as caught:
        load_config(DOOM, None, overrides)
    assert words in str(caught.value) and overrides[0].split("=")[0] in str(caught.value)


def test_a_preset_may_be_a_number(tmp_path):
    path = tmp_path / "numbers.yaml"
    path.write_text("presets: {1: {vae: {steps: 4}}}")
    assert load_config(path, "1").vae.steps == 4
    with pytest.raises(UsageProblem, match="no preset '2': choose one of 1"):
        load_config(path, "2")


def test_every_setting_is_in_the_help_of_the_whole_experiment():
    """Where the message about an unknown one says that they are."""
    done = python("-m", "experiment", "--help")
    assert done.returncode == 0
    listed = {line.split("=")[0].strip() for line in done.stdout.splitlines() if line.startswith("  ")}
    assert {key for key, _, _ in flatten(load_config(DOOM))} <= listed


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], ["(defaults of experiment/schema.py", "vae.steps=6000 ", "vae.batch=100 "]),
        ([str(DOOM), "--help"], ["(as CONFIG", "vae.steps=10000 ", "vae.batch=100 "]),
        (["-h", str(DOOM), "--preset", "quick", "vae.batch=7"], ["(as CONFIG", "vae.steps=30 ", "vae.batch=7 "]),
        ([str(DOOM), "vae.batch=0", "--help"], ["(defaults of", "vae.steps=6000 ", "vae.batch=100 "]),
        (["nothing.yaml", "--help"], ["(defaults of", "vae.steps=6000 "]),
    ],
)
def test_help_shows_the_values_of_the_config_that_is_given(capsys, arguments, shown):
    with pytest.raises(SystemExit) as end:
        parse(Stage("vae", "", sections=("vae",)), arguments)
    printed = capsys.readouterr()
    assert end.value.code == 0 and not printed.err
    assert all(text in printed.out for text in shown), printed.out


@pytest.mark.parametrize(
    ("world", "shown", "left_out"),
    [
        ("doom", {"env.screen", "env.max_steps", "vae.z"}, {"env.id", "env.size", "evaluate.fast", "model.patch"}),
        ("carracing", {"env.dashboard", "evaluate.fast"}, {"env.flashes", "train.batch"}),
        ("gymnasium", {"env.id", "env.crop", "rnn.hidden"}, {"env.grey", "env.start_tic"}),
        ("coinrun", {"env.grey", "model.patch", "train.batch", "openloop.windows"}, {"env.id", "vae.z", "iterations"}),
    ],
)
def test_help_shows_the_settings_that_mean_something_in_the_world(world, shown, left_out):
    everything = [entry.name for entry in dataclasses.fields(Experiment)]
    lines = settings_help(everything, load_config(DOOM.with_stem(world))).splitlines()
    keys = {line.split("=")[0].strip() for line in lines}
    assert shown <= keys and not left_out & keys


@pytest.mark.parametrize(
    ("stage", "shown", "left_out"),
    [
        (rnn.__main__.STAGE, {"dream.temperature", "dream.done", "dream.max_steps"}, {"dream.starts"}),
        (controller.__main__.STAGE, {"evaluate.dreams", "dream.starts"}, {"evaluate.videos"}),
    ],
)
def test_help_shows_what_a_stage_reads_of_other_sections(capsys, stage, shown, left_out):
    with pytest.raises(SystemExit):
        parse(stage, [str(DOOM), "--help"])
    keys = {line.split("=")[0].strip() for line in capsys.readouterr().out.splitlines()}
    assert shown <= keys and not left_out & keys


def test_missing_file_and_unknown_preset(tmp_path):
    with pytest.raises(UsageProblem, match="there is no config"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UsageProblem, match="is a folder: give a YAML file"):
        load_config(tmp_path)
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
        (["vae.learning_rate=1e-5"], ["vae.final_rate=5e-05", "begins at 1e-05"]),
        (["iterations=2", "repeat.rate=0.01"], ["vae.final_rate=5e-05", "begins at 1e-05"]),
        (["rnn.train=false"], ["controller.generations", "rnn.train=false", "controller.real_generations"]),
        (["extract.policy=agent"], ["extract.policy=agent", "first iteration", "iterations=2"]),
        (["evaluate.seed=5000000000"], ["evaluate.seed", "2,000,000,000"]),
    ],
)
def test_what_would_fail_in_a_later_stage_or_iteration_is_refused_at_once(overrides, words):
    with pytest.raises(UsageProblem) as caught:
        load_config(DOOM, None, overrides)
    assert all(word in str(caught.value) for word in words), caught.value


def test_an_impossible_repeat_does_not_matter_without_iterations():
    assert load_config(DOOM, None, ["repeat.episodes=3"]).repeat.episodes == 3
