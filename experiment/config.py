"""Reading an experiment's YAML file, its presets and the command line's overrides into typed settings.

YAML gives the form alone; what a text means is for the schema to say. So `0200` is 200 where a number is expected, `no` is
false where true or false is, and both are themselves where a text is, whatever they are in YAML 1.1.
"""

import contextlib
import dataclasses
import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from experiment.faults import check
from experiment.files import SHIPPED, regular
from experiment.problem import UsageProblem, one_line
from experiment.schema import Experiment, limits_text, within

DEFAULT_PRESET = "laptop"
LARGEST_FILE = 2**18  # bytes; a run's whole config.yaml has 4,000
DEEPEST = 8  # levels; presets have four
SHOWN = 60  # characters of a value in a message

WHOLE = r"[-+]?[0-9]+(_[0-9]+)*"
NUMBER = r"[-+]?([0-9]+(_[0-9]+)*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def load_config(
    path: Path | str, preset: str | None = None, overrides: Sequence[str] = (), strict: Sequence[str] | None = None
) -> Experiment:
    """The settings of an experiment: schema defaults < YAML file < preset < overrides (`section.key=value`).

    strict: sections in which settings are refused that are unknown; None for everywhere.
    Raises UsageProblem, naming the key, the value and what was expected.
    """
    content, _, changes = with_preset(path, preset)
    values = read_settings(content, strict=strict)
    if changes is not None and not is_empty(changes):
        values |= read_settings(changes)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise UsageProblem(
                f"'{cut(override)}' is not a setting: write section.key=value, for example vae.steps=100"
            )
        values |= read_settings(compose(text, cut(override)), key.strip())
    settings = build(values)
    check(settings)
    return settings


def with_preset(path: Path | str, preset: str | None) -> tuple[yaml.MappingNode, str | None, yaml.Node | None]:
    """A YAML file's settings outside its presets, and the name and settings of the preset that is asked for.

    The default preset where none is asked for; None in a file without it.
    """
    content = read_yaml(str(path))
    presets: dict[str, yaml.Node] = {}
    for name, node in content.value:
        if name.value == "presets" and not is_empty(node):
            if not isinstance(node, yaml.MappingNode):
                raise wrong("presets", node, "names, each with settings")
            presets = {name.value: changes for name, changes in node.value}
    content.value = [(name, node) for name, node in content.value if name.value != "presets"]
    preset = preset or (DEFAULT_PRESET if DEFAULT_PRESET in presets else None)
    if preset is not None and preset not in presets:
        raise UsageProblem(f"{path} has no preset '{preset}': choose one of {', '.join(presets) or '(it has none)'}")
    return content, preset, presets.get(preset or "")


def to_yaml(settings: Experiment) -> str:
    """The whole settings as YAML that `load_config` reads back, in ASCII."""
    return yaml.dump(dataclasses.asdict(settings), Dumper=Quoting, sort_keys=False)


class Quoting(yaml.SafeDumper):
    """Also puts quotes round the texts that YAML 1.1 takes for texts, and `untyped` for numbers, such as 1e5."""

    def represent_str(self, data: str) -> yaml.Node:
        """As SafeDumper's."""
        plain = untyped(yaml.ScalarNode("", data)) == data if data.isprintable() else True
        return self.represent_scalar("tag:yaml.org,2002:str", data, None if plain else "'")


Quoting.add_representer(str, Quoting.represent_str)


def flatten(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any, "dataclasses.Field[Any]"]]:
    """Every setting as (dotted key, value, field)."""
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if dataclasses.is_dataclass(value):
            yield from flatten(value, f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name, value, entry


@cache
def known() -> dict[str, "dataclasses.Field[Any]"]:
    """Dotted key -> field of every setting."""
    return {key: entry for key, _, entry in flatten(Experiment())}


def build(values: Mapping[str, Any]) -> Experiment:
    """The settings with these values, by dotted key, and the defaults of the others."""
    settings = Experiment()
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        if section:
            value, name = dataclasses.replace(getattr(settings, section), **{name: value}), section
        settings = dataclasses.replace(settings, **{name: value})
    return settings


class Form(yaml.BaseLoader):
    """The form of a YAML text: nodes of mappings, lists and texts, without what could multiply or stand for something else."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if event.anchor or event.tag:
            self.refuse("anchors (&), aliases (*) and tags (!) are not for settings: write the value itself", event)
        if self.depth > DEEPEST:
            self.refuse("brackets in brackets so deep are not for settings", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.MappingNode):
            first: dict[str, yaml.Node] = {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    self.refuse("a name is expected before the colon", key)
                if key.value in first:
                    line = first[key.value].start_mark.line + 1
                    self.refuse(f"{source(key)} is given twice, the first time in line {line}", key)
                first[key.value] = key
        return node

    def refuse(self, problem: str, at: yaml.Event | yaml.Node) -> None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def compose(text: str, name: str) -> yaml.Node:
    """The nodes of a YAML text, an empty text if there is nothing. Raises UsageProblem if it is none.

    name: of the file, or the override, for messages.
    """
    try:
        loader = Form(text)
        loader.name = name
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise UsageProblem(f"{name} is not valid YAML{line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the others of numbers in directives and escapes
        raise UsageProblem(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None
    return node or compose("''", name)


def read_yaml(path: str) -> yaml.MappingNode:
    """The mapping in a YAML file; configs/NAME is ours in a folder without it. Raises UsageProblem if there is none."""
    ours = not os.path.exists(path) and os.path.dirname(path) == "configs"
    if os.path.isdir(path):
        raise UsageProblem(f"{path} is a folder: give a YAML file, such as configs/doom.yaml")
    try:
        with open(regular(SHIPPED / path if ours else path), "rb") as file:
            data = file.read(LARGEST_FILE + 1)
        content = data.decode()
    except FileNotFoundError:
        raise UsageProblem(
            f"there is no config {path} here: give the path of a YAML file, such as configs/doom.yaml"
        ) from None
    except (OSError, ValueError) as error:  # also a name with a NUL in it, and what is not UTF-8
        raise UsageProblem(f"cannot read the config {path}: {error}") from None
    if len(data) > LARGEST_FILE:
        raise UsageProblem(f"{path} is not an experiment: it has more than {LARGEST_FILE:,} bytes")
    node = compose(content, path)
    if not isinstance(node, yaml.MappingNode):
        raise UsageProblem(f"{path} is not an experiment: expected sections such as 'vae:' and 'presets:'")
    return node


def read_settings(node: yaml.Node, key: str = "", strict: Sequence[str] | None = None) -> dict[str, Any]:
    """The values of all settings in a node, by dotted key. Raises UsageProblem for what is unknown or wrong.

    key: of the node, "" for the whole. strict: see load_config.
    """
    if key in known():
        return {key: read_value(node, key)}
    inside = [name for name in known() if not key or name.startswith(f"{key}.")]
    if not inside:
        if strict is not None and key.partition(".")[0] not in strict:
            return {}
        close = difflib.get_close_matches(key[:SHOWN], known(), n=1)
        hint = f"did you mean {close[0]}?" if close else "`python -m experiment --help` lists them all"
        raise UsageProblem(f"unknown setting {cut(key)} (in {place(node)}): {hint}")
    if not isinstance(node, yaml.MappingNode):
        raise wrong(key, node, f"settings such as {inside[0]}" if key else "sections such as vae")
    values: dict[str, Any] = {}
    for name, child in node.value:
        found = read_settings(child, f"{key}.{name.value}" if key else name.value, strict)
        if twice := values.keys() & found:
            raise UsageProblem(f"{min(twice)} is given twice (in {place(name)}): leave one of them out")
        values |= found
    return values


def read_value(node: yaml.Node, key: str) -> Any:
    """The value of a setting. Raises UsageProblem if it is not of its type, or outside its limits."""
    entry = known()[key]
    if "${" in source(node):
        written = f"{source(node)} is not looked up anywhere, write the value itself"
        raise UsageProblem(f"wrong value for {key} (in {place(node)}): {written}")
    try:
        value = typed(node, entry.type)
    except ValueError:
        raise wrong(key, node, expected(entry)) from None
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, int | float) and not isinstance(number, bool) and not within(number, entry):
            raise UsageProblem(
                f"impossible value {key}={cut(str(number))} (in {place(node)}): expected a number {limits_text(entry)}"
            )
    return value


def wrong(key: str, node: yaml.Node, expected: str) -> UsageProblem:
    """What is said of a node that is not of the form that belongs there."""
    what = f" for {key}" if key else ""
    return UsageProblem(f"wrong value{what} (in {place(node)}): expected {expected}, not {source(node)}")


def typed(node: yaml.Node, kind: Any) -> Any:
    """A node's value as that type of the schema. Raises ValueError if it is none."""
    if get_origin(kind) is list and isinstance(node, yaml.SequenceNode):
        return [typed(item, get_args(kind)[0]) for item in node.value]
    if get_origin(kind) is dict and isinstance(node, yaml.MappingNode):
        return {name.value: untyped(item) for name, item in node.value}
    if isinstance(node, yaml.ScalarNode):
        text = node.value
        if get_origin(kind) is Literal and text in get_args(kind):
            return text
        if kind is bool and text.lower() in TRUTH:
            return TRUTH[text.lower()]
        if kind is int and re.fullmatch(WHOLE, text):
            return int(text)  # ValueError from 4,300 digits on
        if kind is float and re.fullmatch(NUMBER, text):
            return float(text)
        if kind is str and text.isprintable() and (node.style or text.lower() not in ("null", "~")):
            return text
    raise ValueError


def untyped(node: yaml.Node) -> Any:
    """A node's value as None, or that of the first type that it can be; of what is written in quotes, a text."""
    if isinstance(node, yaml.SequenceNode):
        return [untyped(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {name.value: untyped(item) for name, item in node.value}
    if is_empty(node):
        return None
    for kind in () if node.style else (bool, int, float):
        with contextlib.suppress(ValueError):
            return typed(node, kind)
    return typed(node, str)


def expected(entry: "dataclasses.Field[Any]") -> str:
    """In words, what a setting takes."""
    if get_origin(entry.type) is Literal:
        return f"one of {', '.join(get_args(entry.type))}"
    if get_origin(entry.type) is list:
        assert callable(entry.default_factory)
        return f"a list such as {written(entry.default_factory())}"
    if get_origin(entry.type) is dict:
        return "names with values, such as {name: value}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return f"{words[entry.type]} {limits_text(entry)}".rstrip()  # type: ignore[index]


def written(value: Any) -> Any:
    """A value as it is given on a command line: a list as [z,h]."""
    return str(value).replace("'", "").replace(" ", "") if isinstance(value, list) else value


def is_empty(node: yaml.Node) -> bool:
    """Whether nothing is written there."""
    return isinstance(node, yaml.ScalarNode) and not node.style and node.value in ("", "~", "null")


def source(node: yaml.Node) -> str:
    """A node as it is written, as far as a message shows it."""
    first, last = node.start_mark, node.end_mark
    return cut(" ".join(first.buffer[first.pointer : last.pointer].split())) or "nothing"


def place(node: yaml.Node) -> str:
    """Where a node stands: the file, and the line if it has several; or the override."""
    mark = node.start_mark
    return f"{mark.name}, line {mark.line + 1}" if "\n" in mark.buffer.strip("\n\0") else mark.name


def cut(text: str) -> str:
    """The beginning of a text that may be long, as it can be shown."""
    return one_line(text[: SHOWN + 1], SHOWN)
