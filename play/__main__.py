"""`python -m play [NAME or RUN] [--host H] [--port P]`: drive in the dream, in a browser."""

import contextlib
import ipaddress
import sys
from collections.abc import Sequence

from experiment.problem import Problem, UsageProblem, one_line
from experiment.run import find_run
from experiment.stage import Parser, guard
from play.hosts import Hosts, is_local
from play.models import kind_of, load_models

TEXT = """
Opens a local web page in which you drive in the dream of a trained M, or in the real game with V's reconstruction
beside it, with keyboard, touch or gamepad, at the game's own speed. C plays at first, until you take over, and
whenever you hand back to it. Of a next-frame model: in its own prediction, or in the real game with what it predicted of
each frame beside it.

NAME is a shipped model (doom) or a run folder (runs/doom).
"""


def main() -> None:
    parser = Parser("play", TEXT)
    parser.add_argument("name", metavar="NAME", nargs="?", default="doom", help="what to play in (doom)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets others in the network play too (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes one that is free (8000)")
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a name that browsers know the player by behind a proxy (none; may be repeated)",
    )
    parser.add_argument("--sessions", type=int, default=4, help="tabs that may play at once (4)")
    arguments = parser.parse_args()
    serve(**vars(arguments))


def serve(name: str, host: str, port: int, sessions: int, allow_host: Sequence[str] = ()) -> None:
    """Load a run's models and serve the page. Raises Problem where that cannot be."""
    if sessions < 1:
        raise UsageProblem(f"--sessions {sessions}: expected at least 1")
    hosts, run = Hosts(host, allow_host), find_run(name, "play")
    kind_of(run)
    try:
        from play.server import Site, listen_on, make_server, reachable_at
    except ModuleNotFoundError as error:
        raise Problem(f"the player needs {error.name}: bash launch_scripts/setup.bash play") from error

    with listen_on(host, port) as listening:
        print(f"play: loading {one_line(str(run.path))}", flush=True)
        models = load_models(run)
        for what, reason in models.missing.items():
            print(f"play: without the {what} ({one_line(reason)})", flush=True)
        models.warm_up()
        site = Site(models, run.title, sessions, hosts)
        address, port = listening.getsockname()[:2]
        shown = reachable_at(address)
        shown = f"[{shown}]" if ":" in shown else shown
        print(f"play: open http://{shown}:{port} in a browser; Ctrl-C ends it", flush=True)
        if ipaddress.ip_address(address).is_unspecified:
            print(f"play: on this machine http://localhost:{port} will do", flush=True)
        if not is_local(host):
            print("play: everyone who can reach this machine can play", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            make_server(site).run(sockets=[listening])


if __name__ == "__main__":
    sys.exit(guard(main))
