"""Rows of text as a table for a terminal."""

import itertools
from collections.abc import Sequence

Row = Sequence[str]


def aligned(rows: Sequence[Row], left: int) -> list[str]:
    """The rows as lines, each column as wide as it needs: the first `left` of them flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def ruled(sections: Sequence[Sequence[Row]], left: int) -> str:
    """The same with a rule before, between and after the sections."""
    lines = aligned([*itertools.chain(*sections)], left)
    rule = "-" * max(map(len, lines))
    for place in reversed([0, *itertools.accumulate(map(len, sections))]):
        lines.insert(place, rule)
    return "\n".join(lines)
