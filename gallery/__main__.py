"""`python -m gallery [--out DIR] RUN...`: the pictures of the README, from real runs."""

import sys
import tempfile
from pathlib import Path

from experiment.hardware import import_tensorflow
from experiment.problem import UsageProblem
from experiment.schema import HELD_OUT, LAST
from experiment.stage import Parser, guard

SEED = HELD_OUT + 2
TEXT = """
Draw what runs look like, into docs/ or another folder. Of an agent (V, M and C), with ENV its world:

  ENV_imagined.gif, .png   the real world, V's reconstruction, and what M imagines under the same actions
  ENV_dreams.gif, .png     dreams from one moment at several temperatures, C acting
  ENV_dream.gif            a dream alone
  ENV_latent.png           V's pictures along single latent dimensions
  ENV_fireballs.png        (CarRacing: _kerbs) what is small and matters, and what V keeps of it
  ENV_training.png, _temperatures.png, _returns.png   as far as the run has measured them

and of all runs that `python -m openloop` has measured, next-frame models too: compounding_error.png.

RUN is a shipped agent (doom) or a run folder (runs/doom); of each world's agents one at a time.
"""


def main() -> None:
    parser = Parser("gallery", TEXT)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a shipped agent or a run folder")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("docs"), help="where the pictures go (docs)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the real episodes that are shown ({SEED})")
    arguments = parser.parse_args()
    if not HELD_OUT <= arguments.seed <= LAST:
        raise UsageProblem(f"expected a --seed from {HELD_OUT:,}, which no training uses, to {LAST:,}")
    draw(arguments.runs, arguments.out, arguments.seed)


def draw(names: list[str], out: Path, seed: int) -> None:
    """All pictures of some runs. Raises Problem for a name that there is not, or an agent without weights."""
    from gallery.runs import find

    runs = [find(name, "gallery") for name in names]
    out.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=out).close()  # where nothing can be written, that is found before minutes of work
    import_tensorflow()
    from gallery.pictures import save_all

    for path in save_all(runs, out, seed):
        print(f"{path}  {path.stat().st_size / 1e3:,.0f} KB", flush=True)


if __name__ == "__main__":
    sys.exit(guard(main))
