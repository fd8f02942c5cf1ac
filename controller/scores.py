"""Figures of many episodes: what is written into results.json, and the published ones to compare with."""

import csv
import itertools
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.episodes import Played
from envs.worlds import dream_steps, world_of
from experiment.metrics import read_metrics
from experiment.run import Run, difference
from experiment.schema import Experiment
from experiment.tables import ruled

PUBLISHED = Path(__file__).parent / "published"
UNSAID = {"picture": "own"}  # in records of an earlier version
NOT_MEASURED = "This run has not measured that."
WIDTH, NAME = 80, 16  # of a table, and at least of a row's name

Record = dict[str, Any]  # a part of an evaluation as in results.json: what it is of, and what `summary` gives


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


def together(records: Sequence[Record]) -> Record:
    """The records of several controllers as one, with all their returns; its standard error is over controllers, not episodes."""
    if len(records) == 1:
        return records[0]
    # A part that a record lacks is its whole.
    parts = [part for part in ("first_hits", "counted") if any(part in record for record in records)]
    means = [record["mean"] for record in records]
    return {
        **{key: value for key, value in records[0].items() if key in ("temperature", "max_steps")},
        **summary(np.concatenate([record["returns"] for record in records])),
        **{part: together([record.get(part, record) for record in records]) for part in parts},
        "mean": float(np.mean(means)),
        "standard_error": float(np.std(means, ddof=1)) / len(means) ** 0.5,
        "controllers": len(records),
    }


def both_together(pairs: Sequence[tuple[Record, Record]]) -> tuple[Record, Record]:
    """What several controllers did in the dream, and in the real world."""
    return together([dream for dream, _ in pairs]), together([game for _, game in pairs])


def once(run: Run, keys: Sequence[str], of: Record, measure: Callable[[], Record]) -> Record:
    """The record at results["evaluations"][keys...], measured only if there is none of exactly the same thing.

    of: everything the returns depend on (which controller, seeds, temperature), so that a record of something else
    is never taken for it, but kept in results["earlier"]. measure: gives the `summary`, and whatever else there is to tell.
    """
    results, name = run.read_results(), " ".join(keys)
    with run.reading_results():
        present = results.get("evaluations", {})
        for key in keys:
            present = present.get(key, {})
        kept: list[Record] = [*([present] if present else []), *results.get("earlier", {}).get(name, {}).values()]
        record = next((record for record in kept if difference(record, of, unsaid=UNSAID) is None), {})
        if record:
            np.isfinite([*(record[key] for key in ("mean", "std", "standard_error", "n")), *record["returns"]])
    record = record or {**of, **measure()}
    if record is not present:
        others = [other for other in kept if other is not record]
        if others:
            run.update_results("earlier", name, {str(number): other for number, other in enumerate(others, start=1)})
        run.update_results("evaluations", *keys, record)
    return record


def counted(settings: Experiment, played: Played) -> np.ndarray:
    """Real returns (n,) as a dream counts: in no more steps than it has, and until the first hit where it ends at each.

    That is where an ending that is rather unlikely ends it; where endings are drawn, they are those of episodes.
    """
    ends = settings.rnn.predict_done and settings.dream.done == "threshold"
    if ends and (played.first_hits < played.lengths).any():
        return np.minimum(played.first_hits, dream_steps(settings))
    return played.early


class Row(NamedTuple):
    """A line of the table: what was reached in the dream and in the game, as far as it was.

    Of what was published there are only mean and std, sometimes the temperature τ of the dream it was evolved in.
    """

    name: str
    dream: Record | None
    game: Record | None
    temperature: str = ""


def swept_row(whose: str, temperature: float, dream: Record, game: Record) -> Row:
    """That of one or more controllers evolved at a temperature."""
    several = f", {number} C" if (number := game.get("controllers")) else ""
    return Row(f"{whose}, evolved at τ {temperature:.2f}{several}", dream, game)


def published_rows(name: str) -> list[Row]:
    """The published table of an experiment (doom, carracing), and the single episodes where they were published."""

    def score(line: dict[str, str], place: str) -> Record | None:
        mean, std = line.get(f"{place}_mean"), line.get(f"{place}_std")
        return {"mean": float(mean), "std": float(std)} if mean and std else None

    path, rows = PUBLISHED / f"{name}_table.csv", []
    for line in csv.DictReader(path.read_text("utf-8").splitlines()) if path.exists() else ():
        temperature = line.get("temperature", "")
        label = line["row"] + (f", τ {temperature}" if temperature else "")
        rows.append(Row(label, score(line, "dream"), score(line, "game"), temperature))
    if len(episodes := published_episodes(name)):
        of = {"mean": episodes.mean(), "std": episodes.std(ddof=1)}
        rows.append(Row(f"the original's {len(episodes)} published episodes", None, of))
    return rows


def published_episodes(name: str) -> np.ndarray:
    """Returns of the published controller in single episodes of the real game, (n,); n is 0 if there are none."""
    return read_metrics(PUBLISHED / f"{name}_episodes.csv").get("return", np.zeros(0))


def published_curve(name: str, of: str) -> dict[str, np.ndarray]:
    """The columns of a published training curve; empty if there is none.

    of: 'population', a number for each of the 1,800 generations: generation, elapsed_s, return_mean, return_min, return_max
    and steps_mean of its 64 x 16 episodes, in the dream for doom, in the real game for carracing. Or 'mean_eval', how the
    CMA-ES mean did on 1,024 real episodes, every 25 generations: generation, elapsed_s and return_mean.
    """
    return read_metrics(PUBLISHED / f"{name}_{of}.csv")


def table(ours: Sequence[Row], settings: Experiment) -> str:
    """The rows as text, ours above those published of this world; NOT_MEASURED without any.

    It has WIDTH columns, or more where figures are long.
    A place where nobody has been has no column. Beside whole games there is what of them a dream counts, if that is less.
    """
    world, published = world_of(settings), published_rows(settings.env.name)
    if not ours and not published:
        return NOT_MEASURED

    def rounded(value: float) -> str:
        return f"{value:z,.{world.digits}f}"  # z: a return of -0.3 is 0, not -0

    def cell(record: Record | None) -> str:
        if not record:
            return ""
        error = f" ({rounded(record['standard_error'])})" if "standard_error" in record else ""
        return f"{rounded(record['mean'])} ± {rounded(record['std'])}{error}"

    rows = [*ours, *published]
    columns = {"in the dream": [cell(row.dream) for row in rows], "in the game": [cell(row.game) for row in rows]}
    if any(row.dream for row in ours):
        columns["as dreams count"] = [cell((row.game or {}).get("counted")) for row in rows]
    columns = {place: cells for place, cells in columns.items() if any(cells)}
    room = max(NAME, WIDTH - sum(2 + max(map(len, [place, *cells])) for place, cells in columns.items()))
    lines = []
    for row, *cells in zip(rows, *columns.values(), strict=True):
        first, *others = textwrap.wrap(row.name, room, subsequent_indent="  ")
        lines.append([[first, *cells], *([other, *[""] * len(cells)] for other in others)])
    sections = [list(itertools.chain(*part)) for part in (lines[: len(ours)], lines[len(ours) :])]
    about = f"{world.score}: mean ± standard deviation (standard error of the mean)"
    return f"{about}\n{ruled([[['', *columns]], *sections], left=1 + len(columns))}"
