"""What a command is started in: the user's variables, streams and interruptions, and the container's share of the processor."""

import io
import json
import math
import os
import signal
import time

import pytest

from experiment.hardware import THREADS, core_count, cpu_quota, thread_count, use_threads
from experiment.problem import Problem
from experiment.progress import Progress, duration, percent
from experiment.schema import Hardware
from experiment.stage import guard
from experiment.surroundings import Stream, drop_variables
from tests.commands import python

KERAS = """
import os
import rnn.dream
from experiment.backend import keras
print(keras.config.backend(), keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())
print(os.environ["KERAS_BACKEND"])
"""


@pytest.mark.parametrize("backend", ["torch", "numpy"])  # numpy is always installed
def test_keras_is_as_the_project_needs_it_and_the_variables_stay_the_users(tmp_path, backend):
    theirs = {"backend": backend, "floatx": "float64", "epsilon": 0.5, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(theirs))
    done = python("-c", KERAS, KERAS_BACKEND=backend, KERAS_HOME=str(tmp_path), timeout=120)
    assert done.stdout.splitlines() == ["tensorflow float32 1e-07 channels_last", backend], done.stderr
    assert json.loads((tmp_path / "keras.json").read_text()) == theirs


APART = """
import ctypes, importlib, sys
for package in sys.argv[1:]:
    sys.modules.pop("experiment", None)
    importlib.import_module(package)
    assert "experiment" in sys.modules, package
import tensorflow as tf
print(hasattr(ctypes.CDLL(None), "TF_Version"), tf.function(lambda x: x + 1, jit_compile=True)(1).numpy())
"""


def test_tensorflow_keeps_its_symbols_to_itself_whichever_package_loads_it():
    """Others crash on them, those with an LLVM of their own. Its compiler still works."""
    done = python("-c", APART, "controller", "gallery", "nextframe", "openloop", "play", "rnn", "vae", timeout=120)
    assert done.stdout == "False 2\n", done.stderr


def test_variables_that_change_results_are_dropped_and_those_that_choose_devices_stay(monkeypatch):
    dropped = ["TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "TF_XLA_FLAGS", "TF2_BEHAVIOR", "KERAS_MAX_EPOCHS", "MPLBACKEND"]
    kept = ["TF_CPP_MIN_LOG_LEVEL", "TF_GPU_ALLOCATOR", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MPLCONFIGDIR"]
    for name in dropped + kept:
        monkeypatch.setenv(name, "0")
    drop_variables()
    assert not [name for name in dropped if name in os.environ]
    assert not [name for name in kept if name not in os.environ]


WARNS = """
import multiprocessing, sys, warnings
from experiment.stage import guard

def work():
    warnings.warn("old")
    process = multiprocessing.get_context("spawn").Process(target=warnings.warn, args=["old"])
    process.start()
    process.join()
    sys.exit(process.exitcode)

if __name__ == "__main__":
    guard(work)
"""


def test_a_warning_is_not_an_error_because_the_user_says_so():
    assert python("-c", WARNS, PYTHONWARNINGS="error", PYTHONDEVMODE="1", timeout=120).returncode == 0


def test_docstrings_are_there_whatever_the_user_says():
    code = "import sys; from experiment.stage import guard; guard(lambda: print(guard.__doc__ is not None))"
    assert python("-c", code, PYTHONOPTIMIZE="2", timeout=120).stdout == "True\n"


def test_what_a_terminal_lacks_is_replaced_and_what_it_would_obey_is_shown():
    raw = io.BytesIO()
    stream = Stream(io.TextIOWrapper(raw, "latin-1"), keep="\r")
    print("τ 0.5 ± 1\x1b[2J\x9b\x07\r\tend", file=stream, flush=True)
    assert raw.getvalue().decode("latin-1") == "? 0.5 ± 1\\x1b[2J\\x9b\\x07\r\tend\n"
    assert Problem("a\x1b[2J\nb\rc").line() == "error: a\\x1b[2J b c"


WORKS = """
import sys
from pathlib import Path
from experiment.stage import guard

def work():
    with open(sys.argv[1], "w") as file:  # which is the first that is opened
        print("said", flush=True)
        print("complained", file=sys.stderr, flush=True)
        sys.stdin.read()
        file.write("done")

sys.exit(guard(work))
"""


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("<&- >&- 2>&-", 0, ""),
        ("</dev/null >&-", 0, "complained\n"),
        ("</dev/null 2>&-", 0, ""),
        ("</dev/null >/dev/full", 1, "complained\nerror: not all could be printed ([Errno 28]"),
        ("</dev/null > >(true)", 1, "complained\n"),
    ],
)
def test_streams_that_are_closed_or_full_do_not_end_the_work(tmp_path, shell, code, said):
    delayed = WORKS.replace("def work():", "import time\ndef work():\n    time.sleep(0.2)")  # until `true` has ended
    done = python("-c", delayed, str(tmp_path / "made"), shell=shell, timeout=120)
    assert (tmp_path / "made").read_text() == "done"
    assert done.returncode == code and done.stderr.startswith(said) and "Traceback" not in done.stderr


def test_a_place_that_cannot_be_used_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert guard(lambda: (tmp_path / "file" / "folder").mkdir()) == 1
    assert capsys.readouterr().err.startswith(f"error: cannot use {tmp_path / 'file' / 'folder'} (Not a directory)")


def test_a_second_ctrl_c_does_not_interrupt_what_is_tidied_up(capsys):
    tidied = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            tidied.append(True)

    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        assert guard(work) == 130 and tidied
        assert "interrupted" in capsys.readouterr().err
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, math.inf),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000", "cpu.max": "400000 100000"}, 0.5),
        ("0::/../../other", {"cpu.max": "200000 100000"}, 2),
        ("4:cpu,cpuacct:/docker/x", {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "50000"}, 2),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("nonsense", {"cpu.max": "nonsense"}, math.inf),
        (None, {"cpu.max/folder": ""}, math.inf),
    ],
)  # fmt: skip
def test_the_quota_of_a_container_counts(tmp_path, own, files, quota):
    if own is not None:
        (tmp_path / "own").write_text(own + "\n")
    for name, text in files.items():
        path = tmp_path / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert cpu_quota(tmp_path / "own", tmp_path / "mounted") == quota


@pytest.mark.parametrize(("quota", "cores"), [(0.2, 1), (1.5, 2), (math.inf, 8)])
def test_a_part_of_a_core_is_a_core(monkeypatch, quota, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("experiment.hardware.cpu_quota", lambda: quota)
    assert core_count() == cores


def test_the_setting_for_threads_holds_in_this_process_and_in_those_that_it_starts(monkeypatch):
    monkeypatch.setenv(THREADS, "0")
    assert thread_count() == core_count()
    use_threads(Hardware(threads=3))
    assert thread_count() == 3
    started = python("-c", "from experiment.hardware import thread_count; print(thread_count())")
    assert started.stdout == "3\n", started.stderr


def test_figures_are_said_in_words():
    assert [duration(s) for s in (59.6, 200, 7500, 47 * 3600, 76 * 3600)] == [
        "1 min", "3 min 20 s", "2 h 5 min", "47 h 0 min", "3 days 4 h",
    ]  # fmt: skip
    assert (percent(0.123), percent(math.nan)) == ("12%", "none")


@pytest.mark.parametrize(
    ("done", "seconds", "words"),
    [(0, 5, "0 episodes/s"), (4, 53.05, "13.3 s each"), (2, 500, "4 min 10 s each"), (33, 10, "3.3 episodes/s"),
     (152_345, 1, "152,345 episodes/s")],
)  # fmt: skip
def test_a_rate_can_be_read_however_slow_or_fast(done, seconds, words, monkeypatch):
    bar = Progress("playing", 200_000, "episodes")
    bar.update(done)
    monkeypatch.setattr("time.monotonic", lambda: bar.began + seconds)
    assert bar.rate() == words


SCREEN = """
import os
before = {name for name in os.environ if name.startswith("MPL")}
from envs.pools import import_envpool
import_envpool("a game")
import matplotlib
print({name for name in os.environ if name.startswith("MPL")} == before, matplotlib.get_backend(auto_select=False))
"""


def test_matplotlib_can_still_open_a_window_beside_envpool(monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    done = python("-c", SCREEN, timeout=120)
    assert done.stdout == "True None\n", done.stderr
