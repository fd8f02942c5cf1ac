"""One ViZDoom process that leaves nothing behind, however it or this program ends.

By itself the engine writes its settings into the working folder, and goes on for ever when the program that
started it is killed. So it is started in a folder of its own by a small script that notes its process id, and a
second script, waiting for this program's end on a pipe, kills it and removes its folder and shared memory.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
import weakref
from pathlib import Path

import vizdoom

from experiment.problem import Problem
from experiment.workers import without_interrupts

DIED = (
    vizdoom.ViZDoomErrorException,
    vizdoom.ViZDoomUnexpectedExitException,
    vizdoom.ViZDoomIsNotRunningException,
    vizdoom.SharedMemoryException,
    vizdoom.MessageQueueException,
)
"""What ViZDoom raises when the engine's process is gone."""

LAUNCH = """#!/bin/sh
cd {folder} || exit 1
for argument; do
  [ "$previous" = +viz_instance_id ] && echo "$argument" > instance
  previous=$argument
done
echo $$ > pid || exit 1
exec {engine} "$@"
"""

# It also writes the launching script: if this program did, another process that it happens to start meanwhile would
# hold the script open for writing, so that the system refuses to run it, and then ViZDoom crashes this program.
CLEAN_UP = """
printf %s "$2" > "$1/launch" && chmod 700 "$1/launch"
echo ready
read -r _
[ -f "$1/pid" ] && kill -9 "$(cat "$1/pid")" 2>/dev/null
[ -f "$1/instance" ] && rm -f /dev/shm/ViZDoom*"$(cat "$1/instance")"
rm -rf "$1"
"""


class Engine:
    """A running engine: `game` is ViZDoom's own object, `pid` the engine's process.

    Closed by `close`, when nothing refers to it any more, or when this program ends in whatever way.
    """

    def __init__(self, game: vizdoom.DoomGame):
        self.game = game
        folder = Path(tempfile.mkdtemp(prefix="doom-"))
        engine = Path(vizdoom.__file__).parent / "vizdoom"
        script = LAUNCH.format(folder=shlex.quote(str(folder)), engine=shlex.quote(str(engine)))
        try:
            # In a session of its own, so that Ctrl-C and a kill of the whole process group pass it by.
            cleaner = subprocess.Popen(
                ["sh", "-c", CLEAN_UP, "clean-up", str(folder), script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as fault:
            folder.rmdir()
            raise Problem(
                f"no more games can be started here ({fault.strerror}): allow more open files (ulimit -n) and processes "
                "(ulimit -u), or play fewer games side by side (env.games, workers.processes)"
            ) from fault
        self.close = weakref.finalize(self, _close, game, cleaner, folder)
        """Ends the engine and removes everything of it; harmless when called again."""
        launch = folder / "launch"
        game.set_vizdoom_path(str(launch))
        game.set_doom_config_path(str(folder / "vizdoom.ini"))
        try:
            assert cleaner.stdout is not None
            with cleaner.stdout as answer:  # closed, since each open file of each of many games counts
                answer.readline()
            if not os.access(launch, os.X_OK):
                raise Problem(
                    f"no program can be started from {folder.parent}, or it is full: set TMPDIR to another folder"
                )
            # Ctrl-C is for this program to answer. The engine never sees it, nor the script from its first moment on: where
            # that is interrupted, ViZDoom crashes this program.
            with without_interrupts():
                game.init()
            self.pid = int((folder / "pid").read_text())
        except BaseException:
            self.close()
            raise


def _close(game: vizdoom.DoomGame, cleaner: subprocess.Popen[bytes], folder: Path) -> None:
    game.close()
    (folder / "pid").unlink(missing_ok=True)  # its number may be another process's by now
    assert cleaner.stdin is not None
    cleaner.stdin.close()  # the pipe it waits on
    cleaner.wait()
    shutil.rmtree(folder, ignore_errors=True)
