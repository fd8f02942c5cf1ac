"""Reading an experiment's YAML file, its presets and the command line's overrides into typed settings."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiment.iterations import for_iteration
from experiment.problem import UsageProblem
from experiment.schema import OFFLINE, Experiment, limits_text

DEFAULT_PRESET = "laptop"


def load_config(path: Path | str, preset: str | None = None, overrides: Sequence[str] = ()) -> Experiment:
    """The settings of an experiment: schema defaults < YAML file < preset < overrides (`section.key=value`).

    Raises UsageProblem, naming the key, the value and what was expected.
    """
    return resolve(read_yaml(path), preset, overrides, str(path))


def resolve(content: dict[str, Any], preset: str | None, overrides: Sequence[str], path: str) -> Experiment:
    """The settings of a YAML file's content; see load_config."""
    presets = content.pop("presets", None) or {}
    if not isinstance(presets, dict):
        raise UsageProblem(f"wrong value for presets (in {path}): expected names, each with settings, not {presets}")
    presets = {str(name): changes for name, changes in presets.items()}
    preset = preset or (DEFAULT_PRESET if DEFAULT_PRESET in presets else None)
    if preset is not None and preset not in presets:
        raise UsageProblem(f"{path} has no preset '{preset}': choose one of {', '.join(presets) or '(it has none)'}")
    merged = OmegaConf.structured(Experiment)
    merged = merge(merged, content, path)
    if preset is not None:
        merged = merge(merged, presets[preset] or {}, f"{path}, preset {preset}")
    for override in overrides:
        merged = merge(merged, parse_override(override), override)
    try:
        settings = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:  # what is taken from elsewhere, as in vae.steps=${rnn.steps}, is found here
        raise UsageProblem(
            f"wrong value for {error.full_key}: {first_line(error)}; expected a value, or ${{section.key}} for that of "
            "another setting"
        ) from None
    assert isinstance(settings, Experiment)
    check(settings)
    return settings


def load_made(path: Path | str, sections: Sequence[str], overrides: Sequence[str] = ()) -> Experiment:
    """The settings that a run folder was made with, from its config.yaml, perhaps by an earlier version.

    What this version does not know is left out, except in `sections`, where it would matter.
    Raises UsageProblem as load_config does.
    """
    content = read_yaml(path)
    known = {key for key, _, _ in flatten(Experiment())}
    for section, values in content.items():
        if isinstance(values, dict) and section not in sections:
            content[section] = {name: value for name, value in values.items() if f"{section}.{name}" in known}
    return resolve(content, None, overrides, str(path))


def to_yaml(settings: Experiment) -> str:
    """The whole settings as YAML that `load_config` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(settings))


def flatten(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any, "dataclasses.Field[Any]"]]:
    """Every setting as (dotted key, value, field)."""
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if dataclasses.is_dataclass(value):
            yield from flatten(value, f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name, value, entry


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UsageProblem if there is none."""
    try:
        content = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UsageProblem(f"there is no config {path}: give a YAML file such as configs/doom.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"cannot read the config {path}: {error}") from None
    except yaml.YAMLError as error:
        raise UsageProblem(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UsageProblem(f"{path} is not an experiment: expected sections such as 'vae:' and 'presets:'")
    return content


def parse_override(override: str) -> Any:
    """`vae.batch=50` as nested dictionaries. Raises UsageProblem if it is not of that form."""
    key, equals, value = override.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise UsageProblem(f"'{override}' is not a setting: write section.key=value, for example vae.steps=100")
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([override if value else f"{key}=''"]))
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise UsageProblem(f"cannot read '{override}': {first_line(error)}") from None


def merge(base: DictConfig, changes: Any, source: str) -> DictConfig:
    """`base` with `changes`, type-checked against the schema. Raises UsageProblem naming the source and the key."""
    check_form(changes, source)
    try:
        result = OmegaConf.merge(base, changes)
    except OmegaConfBaseException as error:
        key = error.full_key or str(error.key)
        if "not in" in str(error) or type(error).__name__ == "ConfigKeyError":
            known = [name for name, _, _ in flatten(Experiment())]
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "`python -m experiment --help` lists them all"
            raise UsageProblem(f"unknown setting {key} (in {source}): {hint}") from None
        raise UsageProblem(f"wrong value for {key} (in {source}): {first_line(error)}") from None
    except (TypeError, ValueError) as error:
        raise UsageProblem(f"wrong value (in {source}): {first_line(error)}") from None
    assert isinstance(result, DictConfig)
    return result


def check_form(changes: Any, source: str) -> None:
    """Raise UsageProblem for what OmegaConf would not see, or would not name: sections and lists that are none, and ???."""
    if not isinstance(changes, Mapping):
        raise UsageProblem(f"wrong value (in {source}): expected sections such as vae, not {changes}")
    for key, default, _ in flatten(Experiment()):
        section, _, name = key.rpartition(".")
        values = changes.get(section, {}) if section else changes
        if not isinstance(values, Mapping):
            raise UsageProblem(
                f"wrong value for {section} (in {source}): expected settings such as {key}, not {values}"
            )
        value = values.get(name, default)
        if value == "???":  # in OmegaConf, a value still to be given
            raise UsageProblem(f"wrong value for {key} (in {source}): expected a value, not ???")
        if isinstance(default, list) and not isinstance(value, list) and not str(value).startswith("${"):
            raise UsageProblem(f"wrong value for {key} (in {source}): expected a list such as {default}, not {value}")


def check(settings: Experiment) -> None:
    """Raise UsageProblem if a value is impossible, alone or together with another."""
    for key, value, entry in flatten(settings):
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not isinstance(number, bool) and not within(number, entry.metadata):
                raise UsageProblem(f"impossible value {key}={number}: expected a number {limits_text(entry)}".rstrip())
    inputs = settings.controller.inputs
    if not inputs or len(set(inputs)) != len(inputs) or not set(inputs) <= {"z", "c", "h"}:
        raise UsageProblem(f"impossible value controller.inputs={inputs}: expected some of z, c, h, each once")
    if not settings.evaluate.temperatures or min(settings.evaluate.temperatures) <= 0:
        raise UsageProblem(
            f"impossible value evaluate.temperatures={settings.evaluate.temperatures}: expected numbers above 0"
        )
    if not settings.controller.generations and not settings.controller.real_generations:
        raise UsageProblem(
            "impossible value controller.generations=0 with controller.real_generations=0: C has to be evolved somewhere"
        )
    numbers = {"doom": 1, "carracing": 3}.get(settings.env.name, 1)
    for name in ("brownian_centre", "brownian_spread"):
        if len(value := getattr(settings.extract, name)) not in (1, numbers):
            raise UsageProblem(
                f"impossible value extract.{name}={value}: expected one number"
                + (f", or {numbers}, one for each of an action's" if numbers > 1 else "")
            )
    limit = {"doom": 2100, "carracing": 1000, "breakout": 27_000, "coinrun": 1000}[settings.env.name]
    if settings.env.max_steps > limit:
        raise UsageProblem(
            f"impossible value env.max_steps={settings.env.max_steps}: {settings.env.name} lasts at most {limit:,} steps"
        )
    low, high = (settings.dream.start_steps + [-1, -1])[:2]
    if len(settings.dream.start_steps) != 2 or low > high:
        raise UsageProblem(
            f"impossible value dream.start_steps={settings.dream.start_steps}: expected two steps, the first not above the second"
        )
    if low == 0 < high and settings.rnn.predict_done:
        raise UsageProblem(
            f"impossible value dream.start_steps={settings.dream.start_steps}: M is told where episodes begin (rnn.predict_done), "
            "so all dreams begin there ([0,0]), or all after it"
        )
    if len(settings.rnn.reward_limits) != 2 or settings.rnn.reward_limits[0] >= settings.rnn.reward_limits[1]:
        raise UsageProblem(
            f"impossible value rnn.reward_limits={settings.rnn.reward_limits}: expected two numbers, the first below the second"
        )
    if settings.controller.generations and not (settings.rnn.predict_done or settings.rnn.predict_reward):
        raise UsageProblem(
            f"impossible value controller.generations={settings.controller.generations}: in the dream of an M that predicts "
            "neither done nor reward nothing can be learnt (rnn.predict_done, rnn.predict_reward)"
        )
    if settings.controller.generations and not settings.rnn.train:
        raise UsageProblem(
            f"impossible value controller.generations={settings.controller.generations}: in the dream of an M that was never "
            "trained (rnn.train=false) nothing can be learnt; set controller.generations=0 and let C evolve in the real world "
            "(controller.real_generations)"
        )
    if settings.env.name in OFFLINE:
        if settings.extract.policy not in ("held", "per_step", "sticky"):
            raise UsageProblem(
                f"impossible value extract.policy={settings.extract.policy}: in {settings.env.name}, which has actions "
                "to choose from and no V, M and C, expected held, per_step or sticky"
            )
        if settings.iterations > 1:
            raise UsageProblem(
                f"impossible value iterations={settings.iterations}: in {settings.env.name} there is no controller to go on "
                "with, expected 1"
            )
        if settings.env.size % settings.model.patch:
            raise UsageProblem(
                f"impossible value model.patch={settings.model.patch}: env.size={settings.env.size} is not a multiple of it"
            )
    if settings.workers.address and settings.workers.backend != "ray":
        raise UsageProblem(
            f"impossible value workers.address={settings.workers.address}: only Ray has a cluster, set workers.backend=ray too"
        )
    for key, cut in (("extract", settings.extract.max_steps), ("repeat", settings.repeat.max_steps)):
        if cut > settings.env.max_steps:
            raise UsageProblem(
                f"impossible value {key}.max_steps={cut}: no episode is longer than env.max_steps={settings.env.max_steps}"
            )
    for number in range(1, min(settings.iterations, 2) + 1):  # later ones are like the second
        check_recording(for_iteration(settings, number), "extract" if number == 1 else "repeat")


def check_recording(settings: Experiment, section: str) -> None:
    """Raise UsageProblem if what an iteration records cannot be what it learns from; section: where that is set."""
    extract, offline = settings.extract, settings.env.name in OFFLINE
    held_out = extract.episodes * settings.data.val_ratio
    if not extract.steps and not 1 <= round(held_out) < extract.episodes:
        raise UsageProblem(
            f"impossible value data.val_ratio={settings.data.val_ratio}: with {section}.episodes={extract.episodes} "
            "it leaves no episode to train on or to validate on"
        )
    longest, where = extract.max_steps or settings.env.max_steps, f"{section if extract.max_steps else 'env'}.max_steps"
    if extract.min_steps >= longest:
        raise UsageProblem(
            f"impossible value extract.min_steps={extract.min_steps}: no episode is longer than {where}={longest}"
        )
    dreams = settings.controller.generations > 0 and not offline
    if dreams and settings.dream.start_steps[1] >= longest:
        raise UsageProblem(
            f"impossible value dream.start_steps={settings.dream.start_steps}: no recorded episode is longer than {where}={longest}"
        )


def within(value: float, limits: Mapping[str, float | None]) -> bool:
    """Whether least <= value <= most and above < value < below, for those limits that are set (NaN never is)."""
    least, most, above, below = (limits.get(name) for name in ("least", "most", "above", "below"))
    return (
        value == value
        and (least is None or value >= least)
        and (most is None or value <= most)
        and (above is None or value > above)
        and (below is None or value < below)
    )


def first_line(error: Exception) -> str:
    """What an exception says, without the lines of context below it."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
