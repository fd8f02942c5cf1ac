"""`python -m benchmarks [NAME ...]`: measure, print a table, and write it as JSON."""

import importlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measure import Measurement
from experiment.files import read_json, write_json
from experiment.hardware import describe_machine, import_tensorflow, matmul_peak, prepare, thread_count
from experiment.schema import Hardware
from experiment.stage import Parser, guard

NAMES = ("extraction", "networks", "pytorch", "dream", "agent", "racing", "workers", "nextframe", "player")
OUTPUT = Path(__file__).parent / "results" / "speed.json"
TEXT = """
Measure extraction, training of V and M, encoding, the dream, the real agent loop, workers, the next-frame model and the player, each
against a plain baseline in the same run; for matrix work also the share of the machine's own measured matrix-product
peak. Takes some minutes; anything else that runs on the machine spoils it. Where only some are measured, what the file
says of the others on the same machine is kept.
"""


def main() -> None:
    """Run the benchmarks that were asked for."""
    parser = Parser("benchmarks", TEXT)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)} (default: all)")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="where the JSON goes (benchmarks/results/speed.json)"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    import_tensorflow()
    precision = prepare(Hardware())
    peaks = {dtype: matmul_peak(dtype, seconds=2.0) for dtype in ("float32", "bfloat16")}
    print(f"{describe_machine()['processor']}, {thread_count()} threads, {precision}")
    print(
        "matrix product of 4,096 squared: "
        + ", ".join(f"{dtype} {peak / 1e9:,.0f} GFLOP/s" for dtype, peak in peaks.items())
    )
    print(f"\n{'':<24} {'a second':>20} {'plain':>10} {'ratio':>8} {'of peak':>8}   the plain baseline")
    about = {"machine": describe_machine(), "precision": precision, "matmul_peak": peaks}
    rows = kept(arguments.output, about)
    for name in arguments.names or NAMES:
        for row in importlib.import_module(f"benchmarks.{name}").measure():
            share = row.rate * row.flop / peaks[precision] if row.flop else None
            rows[row.name] = {**asdict(row), "ratio": row.rate / row.baseline, "share_of_peak": share}
            print(line(row, share), flush=True)
            write_json(arguments.output, {**about, "rows": list(rows.values())})
    print(f"\nwritten to {arguments.output}")


def kept(path: Path, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name, the rows that are there from this machine in this precision."""
    there = read_json(path, {})
    machines = there.get("machine", {}), about["machine"]
    same = all(len({machine.get(key) for machine in machines}) == 1 for key in ("processor", "cores"))
    return {row["name"]: row for row in there["rows"]} if same and there.get("precision") == about["precision"] else {}


def line(row: Measurement, share: float | None) -> str:
    """A row of the table."""
    rate = f"{row.rate:,.0f} {row.unit}"
    of_peak = f"{share:.0%}" if share else ""
    return (
        f"{row.name:<24} {rate:>20} {row.baseline:>10,.0f} {row.rate / row.baseline:>7.1f}x {of_peak:>8}   {row.plain}"
    )


if __name__ == "__main__":
    sys.exit(guard(main))
