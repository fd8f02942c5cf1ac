"""Figures of many episodes: what is written into results.json, and the published ones to compare with."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiment.run import Run

PUBLISHED = Path(__file__).parent / "published"

NOT_MEASURED = "This run has not measured that."

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


def once(run: Run, keys: Sequence[str], of: Record, measure: Callable[[], Record]) -> Record:
    """The record at results["evaluations"][keys...], measured only if there is none of exactly the same thing.

    of: everything the returns depend on (which controller, seeds, temperature), so that a record of something else
    is never taken for it. measure: gives the `summary`, and whatever else there is to tell.
    """
    stored: Record = run.read_results().get("evaluations", {})
    with run.reading_results():
        for key in keys:
            stored = stored.get(key, {})
        if stored and all(stored.get(name) == value for name, value in of.items()):
            np.isfinite([*(stored[name] for name in ("mean", "std", "standard_error", "n")), *stored["returns"]])
            return stored
    record = {**of, **measure()}
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


def published_rows(name: str) -> list[Row]:
    """The published table of an experiment (doom, carracing), and the single episodes where they were published."""
    rows = [
        Row(line["row"] + (f", τ {line['temperature']}" if line["temperature"] else ""), line["dream"], line["game"])
        for line in published_table(name)
    ]
    episodes = published_episodes(name)
    if len(episodes):
        score = Score(episodes.mean(), episodes.std(ddof=1))
        rows.append(Row(f"the original's {len(episodes)} published episodes", None, score))
    return rows


def published_table(name: str) -> list[dict[str, Any]]:
    """The published table of an experiment, a line each: row, temperature (str, empty for none), dream, game.

    dream and game are a Score, or None where nothing was published.
    """

    def score(line: dict[str, str], place: str) -> Score | None:
        mean, std = line.get(f"{place}_mean"), line.get(f"{place}_std")
        return Score(float(mean), float(std)) if mean and std else None

    return [
        {
            "row": line["row"],
            "temperature": line.get("temperature", ""),
            "dream": score(line, "dream"),
            "game": score(line, "game"),
        }
        for line in published_lines(f"{name}_table.csv")
    ]


def published_episodes(name: str) -> np.ndarray:
    """Returns of the published controller in single episodes of the real game, (n,); n is 0 if there are none."""
    return np.array([float(line["return"]) for line in published_lines(f"{name}_episodes.csv")])


def published_curve(name: str) -> dict[str, np.ndarray]:
    """The columns of the published training curve, a number for each of its 1,800 generations; empty if there is none.

    generation, elapsed_s, return_mean, return_min, return_max and steps_mean of a generation's 64 x 16 episodes: in
    the dream for doom, in the real game for carracing.
    """
    return published_columns(f"{name}_population.csv")


def published_mean_curve(name: str) -> dict[str, np.ndarray]:
    """How the published run's CMA-ES mean did on 1,024 real episodes, every 25 generations; empty if there is none.

    Columns generation, elapsed_s and return_mean, (72,) each for carracing.
    """
    return published_columns(f"{name}_mean_eval.csv")


def published_columns(file: str) -> dict[str, np.ndarray]:
    """The columns of a published file of numbers; empty if there is no such file."""
    lines = published_lines(file)
    return {column: np.array([float(line[column]) for line in lines]) for column in (lines[0] if lines else ())}


def published_lines(file: str) -> list[dict[str, str]]:
    """The lines of a published file; none if there is no such file: not everything was published."""
    path = PUBLISHED / file
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def table(ours: Sequence[Row], published: Sequence[Row], heading: str) -> str:
    """The rows as text, ours above the published ones; a place where nobody has been has no column.

    heading: what the scores are, such as 'survival in tics' or 'return'. Without any row: NOT_MEASURED.
    """
    rows = [*ours, *published]
    if not rows:
        return NOT_MEASURED

    def cell(score: Score | None) -> str:
        if score is None:
            return ""
        error = f"  (mean ± {whole(score.standard_error)})" if score.standard_error is not None else ""
        return f"{whole(score.mean)} ± {whole(score.std)}{error}"

    def whole(value: float) -> str:
        return f"{value:z,.0f}"  # z: a return of -0.3 is 0, not -0

    columns = [
        [f"{heading}, mean ± standard deviation", *(r.name for r in rows)],
        ["in the dream", *(cell(r.dream) for r in rows)],
        ["in the game", *(cell(r.game) for r in rows)],
    ]
    columns = [column for column in columns if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    text = [
        "  ".join(part.ljust(w) for part, w in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    ]
    return "\n".join([rule, text[0], rule, *text[1 : 1 + len(ours)], rule, *text[1 + len(ours) :], rule])
