"""Rows of text as a table for a terminal."""

import itertools
from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """The rows as lines, each column as wide as it needs: the first `left` of them flush left, the others flush right."""
    columns = []
    for i, cells in enumerate(zip(*rows, strict=True)):
        width = max(map(len, cells))
        columns.append([cell.ljust(width) if i < left else cell.rjust(width) for cell in cells])
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def ruled(sections: Sequence[Sequence[Sequence[str]]], left: int) -> str:
    """The same with a rule before, between and after the sections."""
    lines = aligned([*itertools.chain(*sections)], left)
    rule = "-" * max(map(len, lines))
    for place in reversed([0, *itertools.accumulate(map(len, sections))]):
        lines.insert(place, rule)
    return "\n".join(lines)
