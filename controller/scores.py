"""Figures of many episodes: what is written into results.json, and the published ones to compare with."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiment.files import read_json
from experiment.run import Run

PUBLISHED = Path(__file__).parent / "published"

Record = dict[str, Any]
"""A part of an evaluation as in results.json: what it is of, and what `summary` gives."""


def summary(returns: np.ndarray) -> Record:
    """mean, std (of a sample: n - 1 in the denominator), standard_error (std / √n), n, min, max and all returns."""
    std = float(np.std(returns, ddof=1))
    return {
        "mean": float(np.mean(returns)),
        "std": std,
        "standard_error": std / len(returns) ** 0.5,
        "n": len(returns),
        "min": float(np.min(returns)),
        "max": float(np.max(returns)),
        "returns": [float(value) for value in returns],
    }


def once(run: Run, keys: Sequence[str], of: Record, measure: Callable[[], np.ndarray]) -> Record:
    """The record at results["evaluations"][keys...], measured only if there is none of exactly the same thing.

    of: everything the returns depend on (which controller, seeds, temperature), so that a record of something else
    is never taken for it. measure: gives the returns (n,).
    """
    stored = read_json(run.results, {}).get("evaluations", {})
    for key in keys:
        stored = stored.get(key, {})
    if stored and all(stored.get(name) == value for name, value in of.items()):
        return stored
    record = {**of, **summary(measure())}
    run.update_results("evaluations", *keys, record)
    return record


class Score(NamedTuple):
    """mean ± std, and the standard error of the mean where it is known."""

    mean: float
    std: float
    standard_error: float | None = None


class Row(NamedTuple):
    """A line of the table: what was reached in the dream and in the game."""

    name: str
    dream: Score | None
    game: Score | None


def row(name: str, dream: Record | None, game: Record | None) -> Row:
    """A line of our own, from records."""

    def score(record: Record | None) -> Score | None:
        return Score(record["mean"], record["std"], record["standard_error"]) if record else None

    return Row(name, score(dream), score(game))


def published_rows() -> list[Row]:
    """The paper's table for DoomTakeCover, and the 100 episodes that were published with the code."""
    rows = [
        Row(line["row"] + (f", τ {line['temperature']}" if line["temperature"] else ""), line["dream"], line["game"])
        for line in published_table()
    ]
    episodes = published_episodes()
    return [*rows, Row("the original's 100 published episodes", None, Score(episodes.mean(), episodes.std(ddof=1)))]


def published_table() -> list[dict[str, Any]]:
    """The paper's table, a line each: row (str), temperature (str, empty for none), dream and game (Score or None)."""

    def score(line: dict[str, str], place: str) -> Score | None:
        mean, std = line[f"{place}_mean"], line[f"{place}_std"]
        return Score(float(mean), float(std)) if mean else None

    with open(PUBLISHED / "doom_table.csv", newline="") as file:
        return [{**line, "dream": score(line, "dream"), "game": score(line, "game")} for line in csv.DictReader(file)]


def published_episodes() -> np.ndarray:
    """Survival of the published controller in 100 episodes of the real game, (100,)."""
    return np.loadtxt(PUBLISHED / "doom_real_100_episodes.csv", delimiter=",", skiprows=1)[:, 1]


def published_curve() -> dict[str, np.ndarray]:
    """The columns of the published training curve in the dream, a number for each of its 1,800 generations."""
    with open(PUBLISHED / "doom_dream_population.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    return {column: np.array([float(line[column]) for line in lines]) for column in lines[0]}


def table(ours: Sequence[Row], published: Sequence[Row]) -> str:
    """The rows as text, ours above the published ones."""

    def cell(score: Score | None) -> str:
        if score is None:
            return ""
        error = f"  (mean ± {score.standard_error:,.0f})" if score.standard_error is not None else ""
        return f"{score.mean:,.0f} ± {score.std:,.0f}{error}"

    lines = [(r.name, cell(r.dream), cell(r.game)) for r in (*ours, *published)]
    heading = ("survival in tics, mean ± standard deviation", "in the dream", "in the game")
    widths = [max(map(len, column)) for column in zip(heading, *lines, strict=True)]
    rule = "-" * (sum(widths) + 4)
    text = [
        "  ".join(part.ljust(w) for part, w in zip(line, widths, strict=True)).rstrip() for line in (heading, *lines)
    ]
    return "\n".join([rule, text[0], rule, *text[1 : 1 + len(ours)], rule, *text[1 + len(ours) :], rule])
