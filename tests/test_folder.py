"""A run folder that is damaged, that comes from somebody else, or that lies on a disk that lacks something."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest

from controller.evolution import Evolution, everywhere
from controller.training import saved
from experiment.arrays import open_hdf5, read_npz, write_npz
from experiment.files import atomic, checksum, read_json, read_text, reading
from experiment.problem import Problem, UsageProblem
from experiment.run import Run, warn_of_no_lock
from experiment.schema import Experiment, Vae
from extract.collect import collect
from extract.rollouts import read_shard
from openloop.record import record_in
from vae.encode import is_whole
from vae.latents import Latents


@pytest.fixture
def run(tmp_path) -> Run:
    """An empty run folder."""
    run = Run(tmp_path / "run")
    run.path.mkdir()
    return run


def locked(run: Run) -> None:
    with run.lock():
        pass


# What is not followed, executed or waited for


def test_a_lock_that_is_a_link_is_not_followed(run, tmp_path):
    (tmp_path / "victim").write_text("precious")
    for target in (tmp_path / "victim", tmp_path / "made"):
        (run.path / ".lock").symlink_to(target)
        with pytest.raises(UsageProblem, match=r"cannot be a run folder .*\.lock"):
            locked(run)
        (run.path / ".lock").unlink()
    assert (tmp_path / "victim").read_text() == "precious" and not (tmp_path / "made").exists()


def test_a_lock_is_not_emptied(run):
    (run.path / ".lock").write_text("a note")
    locked(run)
    assert (run.path / ".lock").read_text() == "a note"


def be_a_pipe(path):
    os.mkfifo(path)


def be_a_socket(path):
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as end:  # a socket's path has to be short
        end.bind(path.name)


def be_a_folder(path):
    path.mkdir()


@pytest.mark.parametrize("name", [".lock", "config.yaml", "metrics/vae.csv", "checkpoints/evolution.npz", "anything"])
@pytest.mark.parametrize("be", [be_a_pipe, be_a_socket])
def test_what_would_be_waited_for_is_refused(run, name, be):
    (run.path / name).parent.mkdir(exist_ok=True)
    be(run.path / name)
    with pytest.raises(Problem, match=r"(named pipe|socket), not a file: move it away|cannot be a run folder"):
        locked(run)


@pytest.mark.parametrize("be", [be_a_pipe, be_a_socket, be_a_folder])
def test_no_reader_waits_for_what_is_no_file(run, be):
    path = run.path / "file"
    be(path)
    readers = (
        read_json, read_text, checksum, read_shard, Latents.load, Evolution.load,
        lambda path: read_npz(path, "mend it"), lambda path: open_hdf5(path, "mend it").__enter__(),
    )  # fmt: skip
    for reader in readers:
        with pytest.raises(Problem, match=r"file is (a named pipe|a socket|a folder), not a file: move it away$"):
            reader(path)


@pytest.mark.parametrize("name", ["metrics", "checkpoints", "tensorboard", "anything"])
def test_nothing_is_written_through_a_link_that_leads_out(run, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (run.path / name).symlink_to(outside)
    with pytest.raises(Problem, match=rf"{name} is a link that leads out of .*make the run folder itself the link"):
        locked(run)
    (run.path / name).unlink()
    (run.path / "inside").mkdir()
    (run.path / name).symlink_to(run.path / "inside")
    locked(run)
    (tmp_path / "link").symlink_to(run.path)
    locked(Run(tmp_path / "link"))


def test_linked_rollouts_are_read_but_not_written(run, tmp_path):
    (tmp_path / "outside").mkdir()
    run.rollouts.symlink_to(tmp_path / "outside")
    locked(run)
    with pytest.raises(Problem, match="rollouts is a link that leads out"):
        collect(Experiment(), run)


def test_a_linked_file_is_replaced_and_not_written_through(run, tmp_path):
    (tmp_path / "victim").write_text('{"stages": {}}')
    run.results.symlink_to(tmp_path / "victim")
    run.update_results("machine", {"cores": 2})
    assert (tmp_path / "victim").read_text() == '{"stages": {}}' and not run.results.is_symlink()


@pytest.mark.parametrize("name", ["vae.weights.h5", "results.json"])
def test_a_folder_in_the_place_of_a_file_is_found_before_the_work(run, name):
    (run.path / name).mkdir()
    with pytest.raises(Problem, match=rf"{name} is a folder, not a file"):
        locked(run)


def test_a_file_in_the_place_of_a_folder_is_found_before_the_work(run):
    run.metrics.touch()
    with pytest.raises(Problem, match="metrics is not a folder"):
        locked(run)


# Disks that lack something


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_the_work_goes_on_with_one_warning(run, monkeypatch, capsys, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    warn_of_no_lock.cache_clear()
    locked(run)
    locked(run)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "do not let two processes work in it" in lines[0]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_have_the_permissions_that_the_umask_leaves(tmp_path, monkeypatch, umask):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "no permissions here")

    monkeypatch.setattr(os, "chmod", refuse)
    before = os.umask(umask)
    try:
        with atomic(tmp_path / "file") as temporary:
            temporary.write_text("whole")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_a_disk_that_cannot_be_asked_to_write_now_is_not_a_fault(tmp_path, monkeypatch):
    for number, fails in ((errno.EINVAL, False), (errno.EOPNOTSUPP, False), (errno.EIO, True)):

        def refuse(_, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", refuse)
        expected = pytest.raises(Problem, match="file cannot be written: ") if fails else contextlib.nullcontext()
        with expected, atomic(tmp_path / "file") as temporary:
            temporary.touch()


# JSON that is something else


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "null", DEEP, "\x00", "é", "{}", '{"complete": 1, "settings": {}}']
)
def test_a_record_that_is_something_else_is_named(run, text):
    run.stages.mkdir()
    run.record("rnn").write_text(text, encoding="latin-1")
    for use in (lambda: run.read_record("rnn"), lambda: run.is_trained("rnn")):
        with pytest.raises(Problem, match=r"rnn\.json is .*delete it"):
            use()


@pytest.mark.parametrize(
    "text", ["", "[]", "5", "null", DEEP, '{"a": 1}', '{"evaluations": []}', '{"evaluations": {"game": [1]}}']
)
def test_results_that_are_something_else_are_found_before_the_work(run, text):
    run.results.write_text(text)
    with pytest.raises(Problem, match=r"results\.json is .*delete it"):
        run.begin("first", Experiment(), ["vae"], [], present=False)


def test_large_text_is_not_read(run):
    with open(run.results, "wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(Problem, match=r"results\.json has 5,369 MB"):
        run.read_results()


def test_figures_that_cannot_be_shown_are_named(run, monkeypatch):
    monkeypatch.setattr("openloop.record.trained_stages", lambda run: ())
    settings = Experiment()
    assert record_in(settings, run) is None
    for record in ([1], {"of": 5}, {"of": [1]}):
        run.results.write_text(json.dumps({"openloop": record}))
        with pytest.raises(Problem, match=r"results\.json is not what was written there"):
            record_in(settings, run)


# Arrays that declare what they do not hold, or are elsewhere


def unallocated(file):
    file.create_dataset("a", shape=(1_500_000_000,), dtype="i8", chunks=(1024,))


def compressed(file):
    file.create_dataset("a", shape=(10_000_000,), dtype="i8", chunks=(1_000_000,), compression="gzip")[:] = 0


def elsewhere(file):
    file["a"] = h5py.ExternalLink("/etc/passwd", "/")


def soft(file):
    file["a"] = h5py.SoftLink("/b")


def raw(file):
    file.create_dataset("a", shape=(10,), dtype="u1", external=[("/etc/passwd", 0, 10)])


def virtual(file):
    layout = h5py.VirtualLayout(shape=(10,), dtype="u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", shape=(10,))
    file.create_virtual_dataset("a", layout)


def text(file):
    file["a"] = "words"


def nothing(file):
    file["a"] = h5py.Empty("f4")


@pytest.mark.parametrize("make", [unallocated, compressed, elsewhere, soft, raw, virtual, text, nothing])
def test_arrays_that_are_not_in_their_file_are_refused_before_they_are_read(tmp_path, make):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        make(file)
    with pytest.raises(Problem, match=r"file\.h5 is damaged \(a .*\): mend it"), open_hdf5(path, "mend it"):
        pytest.fail("it was opened")


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), KeyError("x"), AttributeError("x"), RecursionError(), MemoryError(), TypeError("x")]
)
def test_whatever_a_library_says_is_one_line(tmp_path, error):
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match=r"file is damaged \(.+\): mend it$"), reading(tmp_path / "file", "mend it"):
        raise error


def test_npz_goes_round_as_it_lies_in_memory(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.eye(3)), "c": np.array(5, np.int8)}
    write_npz(tmp_path / "file.npz", arrays)
    read = read_npz(tmp_path / "file.npz", "mend it")
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert (read[name].dtype, read[name].strides) == (array.dtype, array.strides)


def with_objects(path):
    np.savez(path, a=np.array([{}], object))


def packed(path):
    np.savez_compressed(path, a=np.zeros(10_000_000))


def declared(path):
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1_500_000_000,)})


def flipped(path):
    write_npz(path, {"a": np.arange(1000)})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def zeros(path):
    path.write_bytes(bytes(2000))


@pytest.mark.parametrize("make", [with_objects, packed, declared, flipped, zeros])
def test_npz_that_is_damaged_or_dangerous_is_refused(tmp_path, make):
    make(tmp_path / "file.npz")
    with pytest.raises(Problem, match=r"file\.npz is damaged \(.*\): mend it"):
        read_npz(tmp_path / "file.npz", "mend it")


def test_a_damaged_part_of_an_encoding_is_encoded_again(tmp_path):
    path = tmp_path / "00000.npz"
    assert not is_whole(path, 9, 4)
    write_npz(path, {"mu": np.zeros((9, 4), np.float16), "logvar": np.zeros((9, 4), np.float16)})
    assert is_whole(path, 9, 4) and not is_whole(path, 8, 4)
    for make in (with_objects, flipped, zeros):
        make(path)
        assert not is_whole(path, 9, 4)


# The state of CMA-ES


def returns(population):
    """Of which many are equal."""
    return np.round(100 - np.square(population - 0.5) @ np.arange(1, population.shape[1] + 1))


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("population", [4, 5, 8])  # fewer than 6 also begin with mirrors of the worst
@pytest.mark.parametrize("size", [3, 40])
def test_cma_goes_on_to_the_last_bit(tmp_path, population, size, diagonal):
    origin = np.linspace(-1, 1, size, dtype="float32")
    straight = Evolution(everywhere(size)._replace(origin=origin), 0.3, population, 4, 0.1, diagonal)
    resumed = straight
    for generation in range(20):
        asked = straight.ask()
        if resumed is not straight:
            np.testing.assert_array_equal(resumed.ask(), asked)
            resumed.tell(returns(asked))
        straight.tell(returns(asked))
        assert resumed.sigma == straight.sigma
        np.testing.assert_array_equal(resumed.mean, straight.mean)
        if generation in (0, 1, 9):
            straight.save(tmp_path / "state.npz")
            np.random.seed(0)  # noqa: NPY002 (the state must not depend on it)
            resumed = Evolution.load(tmp_path / "state.npz")
    assert resumed.generation == 20


def test_a_state_without_a_space_is_of_all_weights(tmp_path):
    """Earlier versions searched nowhere else, and did not say so."""
    evolution = Evolution(everywhere(4), 0.1, 6, 0)
    evolution.tell(returns(evolution.ask()))
    evolution.save(tmp_path / "state.npz")
    state = read_npz(tmp_path / "state.npz", "")
    write_npz(tmp_path / "state.npz", {name: state[name] for name in state.keys() - {"origin", "basis"}})
    resumed = Evolution.load(tmp_path / "state.npz")
    np.testing.assert_array_equal(resumed.ask(), evolution.ask())


def test_a_state_that_is_not_ours_is_refused(tmp_path):
    path = tmp_path / "state.npz"
    evolution = Evolution(everywhere(3), 0.1, 6, 0)
    evolution.tell(np.arange(len(evolution.ask())))
    evolution.save(path)
    state = read_npz(path, "")
    about = json.loads(state["about"].tobytes())
    victim = tmp_path / "made"
    evil = f"open({str(victim)!r}, 'w')"
    for key, value in (("sigma", evil), ("population", evil), ("seed", evil), ("size", 10**9), ("population", 10**9)):
        changed = {**about, "made_with": {**about["made_with"], key: value}}
        write_npz(path, {**state, "about": np.frombuffer(json.dumps(changed).encode(), np.uint8)})
        with pytest.raises(Problem, match=r"state\.npz is damaged or of another version of cma"):
            Evolution.load(path)
    for changed in (
        {"strategy.ask": np.array(1)},
        {"strategy.sigma": np.array(np.nan)},
        {"strategy.mean": np.zeros(2)},
    ):
        write_npz(path, {**state, **changed})
        with pytest.raises(Problem, match=r"state\.npz is damaged or of another version of cma"):
            Evolution.load(path)
    assert not victim.exists()


@pytest.mark.parametrize("name", ["dream", "real"])
def test_a_pickle_is_never_loaded(run, name):
    old = saved(run, name).with_suffix(".pickle")
    old.parent.mkdir()
    old.touch()
    with pytest.raises(Problem, match=rf"{old.name} was saved by an earlier version as a pickle.*delete it"):
        saved(run, name)
    saved_now = old.with_suffix(".npz")
    saved_now.touch()
    assert saved(run, name) == saved_now


# Weights


@pytest.mark.parametrize("spot", [b"TREE", b"HEAP", b"SNOD"])
def test_weights_with_a_damaged_header_are_one_line(run, spot):
    from experiment.run import PRETRAINED
    from rnn.model import load_rnn
    from vae.model import load_vae

    settings = replace(Experiment(), vae=Vae(z=64))
    for path, load in ((run.vae_weights, load_vae), (run.rnn_weights, load_rnn)):
        data = bytearray((PRETRAINED / "doom" / path.name).read_bytes())
        data[data.find(spot)] ^= 0x10
        path.write_bytes(data)
        with pytest.raises(Problem, match=rf"{path.name} is damaged"):
            load(run, settings)


def test_weights_are_read_too_where_hdf5_was_imported_before_the_project():
    """And so before it could be told not to lock; of two that have a file open, both or none are to lock it."""
    code = """
import h5py
from experiment.run import PRETRAINED, Run
from vae.model import load_vae
run = Run(PRETRAINED / "doom")
load_vae(run, run.settings(()))
"""
    environment = {name: value for name, value in os.environ.items() if name != "HDF5_USE_FILE_LOCKING"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
