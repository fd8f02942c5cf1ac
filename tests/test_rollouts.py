"""The rollout file: round trips, shuffled reading, and every way in which a file can be bad."""

import errno
import fcntl
import itertools
import os
import threading
import tracemalloc

import h5py
import numpy as np
import pytest

from experiment.problem import Problem
from extract import rollouts as module
from extract.ahead import read_ahead
from extract.rollouts import Episode, Rollouts, new_shard, read_shard, shard_path, split_episodes
from tests.commands import python
from tests.fake import damage, write_shard

SIZE = 8


def make_episode(number: int, length: int) -> Episode:
    """An episode whose frames tell which episode and which step they are."""
    frames = np.random.default_rng(number).integers(0, 255, (length, SIZE, SIZE, 3)).astype(np.uint8)
    frames[:, 0, 0, 0], frames[:, 0, 0, 1], frames[:, 0, 0, 2] = (
        number,
        np.arange(length) % 256,
        np.arange(length) // 256,
    )
    last = np.arange(length) == length - 1
    actions = np.random.default_rng(number).integers(-1, 2, length).astype(np.float32)
    return Episode(
        frames, actions, np.ones(length, np.float32), last & (number % 2 == 0), last & (number % 2 == 1), number
    )


@pytest.fixture
def recorded(tmp_path):
    """A folder of three shards with ten episodes, and the episodes."""
    episodes = [make_episode(i, 40 + 17 * i) for i in range(10)]
    for index, part in enumerate((episodes[:3], episodes[3:4], episodes[4:])):
        write_shard(shard_path(tmp_path, index), part, {"policy": "held"})
    return tmp_path, episodes


def labels(batch: np.ndarray) -> list[tuple[int, int]]:
    """(episode, step) of every frame of a batch."""
    corner = batch[:, 0, 0].astype(int)
    return list(zip(corner[:, 0], corner[:, 1] + 256 * corner[:, 2], strict=True))


def test_what_is_written_is_read(recorded):
    folder, episodes = recorded
    rollouts = Rollouts(folder)
    assert rollouts.episodes == 10 and rollouts.frames == sum(len(e.frames) for e in episodes)
    assert rollouts.lengths.tolist() == [len(e.frames) for e in episodes]
    for index, episode in enumerate(episodes):
        for name, was, now in zip(Episode._fields, episode, rollouts.episode(index), strict=True):
            np.testing.assert_array_equal(was, now, err_msg=name)
        np.testing.assert_array_equal(
            rollouts.read_range(rollouts.starts[index], rollouts.starts[index] + rollouts.lengths[index]),
            episode.frames,
        )
    sequences = rollouts.sequences()
    for name in ("actions", "rewards", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(sequences, name), np.concatenate([getattr(e, name) for e in episodes]))
        assert getattr(sequences, name).dtype == (bool if name.endswith("ated") else np.float32)


def test_frames_by_number_and_by_range(recorded):
    folder, episodes = recorded
    rollouts, frames = Rollouts(folder), np.concatenate([e.frames for e in episodes])
    chosen = np.random.default_rng(0).integers(0, len(frames), 300)
    np.testing.assert_array_equal(rollouts.read(chosen), frames[chosen])
    np.testing.assert_array_equal(rollouts.read_range(0, len(frames)), frames)
    np.testing.assert_array_equal(rollouts.read_range(123, 260), frames[123:260])


@pytest.mark.parametrize("pool", [64, 8192])
def test_a_pass_gives_every_strided_frame_once_in_mixed_order(recorded, monkeypatch, pool):
    monkeypatch.setattr(module, "POOL", pool)
    folder, episodes = recorded
    rollouts, ids, stride = Rollouts(folder), np.array([1, 2, 4, 9]), 4
    seen = [
        label for batch in itertools.islice(rollouts.batches(ids, 20, stride, seed=3), 60) for label in labels(batch)
    ]
    for offset in range(2):  # the second pass begins a frame later
        wanted = [(i, step) for i in ids for step in range(offset, len(episodes[i].frames), stride)]
        assert sorted(seen[: len(wanted)]) == wanted
        assert seen[: len(wanted)] != wanted
        assert len({episode for episode, _ in seen[:20]}) >= 2
        seen = seen[len(wanted) :]


def test_batches_are_deterministic_and_resume(recorded, monkeypatch):
    monkeypatch.setattr(module, "POOL", 100)
    rollouts, ids = Rollouts(recorded[0]), np.arange(10)

    def take(seed: int, start: int, count: int) -> np.ndarray:
        return np.stack(list(itertools.islice(rollouts.batches(ids, 30, 2, seed, start), count)))

    first = take(0, 0, 60)  # several passes
    np.testing.assert_array_equal(first, take(0, 0, 60))
    assert not np.array_equal(first, take(1, 0, 60))
    for start in (1, 7, 20, 59):
        np.testing.assert_array_equal(first[start:], take(0, start, 60 - start))


def test_memory_does_not_grow_with_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "POOL", 256)
    monkeypatch.setattr(module, "AHEAD", 256)
    episode = make_episode(0, 500)
    episode = episode._replace(frames=episode.frames.repeat(4, axis=1).repeat(4, axis=2))
    write_shard(shard_path(tmp_path, 0), itertools.repeat(episode, 20), {})
    rollouts = Rollouts(tmp_path)
    size = 20 * episode.frames.nbytes
    tracemalloc.start()
    for _ in itertools.islice(rollouts.batches(np.arange(20), 50), rollouts.frames // 50):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 8


def test_split_is_by_episode_and_leaves_no_side_empty():
    train, held_out = split_episodes([100], 0.05)
    assert len(held_out) == 5 and sorted([*train, *held_out]) == list(range(100))
    np.testing.assert_array_equal(held_out, split_episodes([100], 0.05)[1])
    for episodes, ratio in ((5, 0.05), (5, 0.95)):
        with pytest.raises(Problem, match=r"data\.val_ratio"):
            split_episodes([episodes], ratio)


def test_what_was_held_out_stays_held_out_when_episodes_are_added():
    """Each iteration's episodes are divided by themselves, and come after those of the ones before."""
    groups = [40, 10, 20]
    before = (np.array([], int), np.array([], int))
    for count in range(1, 4):
        train, held_out = split_episodes(groups[:count], 0.1)
        total = sum(groups[:count])
        assert sorted([*train, *held_out]) == list(range(total))
        for now, then in zip((train, held_out), before, strict=True):
            assert np.array_equal(now[: len(then)], then) and np.all(np.diff(now) > 0)
            assert np.all(now[len(then) :] >= total - groups[count - 1])
        before = train, held_out
    assert len(before[1]) == 4 + 1 + 2
    with pytest.raises(Problem, match=r"data\.val_ratio=0\.1 of 2 episodes"):
        split_episodes([40, 2], 0.1)


def test_several_folders_are_read_as_one(tmp_path):
    """Iteration after iteration; each folder is divided by itself."""
    episodes = [make_episode(i, 20 + i) for i in range(12)]
    folders = [tmp_path / name for name in ("first", "second")]
    for folder, part in zip(folders, (episodes[:8], episodes[8:]), strict=True):
        for index in range(2):
            write_shard(shard_path(folder, index), part[index * len(part) // 2 : (index + 1) * len(part) // 2], {})
    rollouts = Rollouts(*folders)
    assert rollouts.groups == [8, 4] and rollouts.sequences().groups == [8, 4]
    assert rollouts.lengths.tolist() == [20 + i for i in range(12)]
    np.testing.assert_array_equal(rollouts.episode(9).frames, episodes[9].frames)
    np.testing.assert_array_equal(rollouts.read_range(0, rollouts.frames), np.concatenate([e.frames for e in episodes]))
    for both, alone in zip(rollouts.split(0.25), Rollouts(folders[0]).split(0.25), strict=True):
        np.testing.assert_array_equal(both[both < 8], alone)
    assert len(rollouts.split(0.25)[1]) == 2 + 1
    with pytest.raises(Problem, match="third has no rollouts"):
        Rollouts(*folders, tmp_path / "third")


def test_what_was_played_is_told_also_of_episodes_that_are_not_kept(tmp_path):
    with new_shard(shard_path(tmp_path, 0), {}) as shard:
        shard.played_lengths += [5, 50]
        shard.played_returns += [-1.5, 7.0]
        shard.append(make_episode(0, 50))
    read = read_shard(shard_path(tmp_path, 0))
    assert (read.played_lengths.tolist(), read.played_returns.tolist()) == ([5, 50], [-1.5, 7.0])
    write_shard(shard_path(tmp_path, 1), [make_episode(i, 10 * i) for i in (3, 4)], {})
    read = read_shard(shard_path(tmp_path, 1))
    assert (read.played_lengths.tolist(), read.played_returns.tolist()) == ([30, 40], [30.0, 40.0])


def test_no_rollouts_is_a_problem(tmp_path):
    with pytest.raises(Problem, match="python -m extract"):
        Rollouts(tmp_path)


def truncate(path):
    os.truncate(path, path.stat().st_size * 2 // 3)


def empty(path):
    path.write_bytes(b"")


def foreign(path):
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)


def not_hdf5(path):
    path.write_text("frames, actions\n")


def other_version(path):
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99


def without_actions(path):
    with h5py.File(path, "r+") as file:
        del file["actions"]


def other_length(path):
    with h5py.File(path, "r+") as file:
        file["rewards"].resize(3, axis=0)


def other_frames(path):
    episode = make_episode(0, 50)
    write_shard(path, [episode._replace(frames=np.zeros((50, 4, 4, 1), np.uint8))], {})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        *(
            (spoil, r"is damaged \(.*\): delete it")
            for spoil in (truncate, empty, not_hdf5, without_actions, other_length)
        ),
        (foreign, "is an HDF5 file but not a rollout shard: move it away"),
        (other_version, "has rollout format version 99, this program reads 1"),
        (other_frames, r"has frames of \(4, 4, 1\): keep only shards of one kind"),
    ],
)
def test_a_bad_shard_is_named_in_one_line(recorded, spoil, words):
    path = shard_path(recorded[0], 1)
    spoil(path)
    with pytest.raises(Problem, match=f"{path.name} {words}") as caught:
        Rollouts(recorded[0])
    assert "\n" not in str(caught.value)


def test_a_shard_that_the_system_refuses_is_not_called_damaged(recorded, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = shard_path(recorded[0], 1)
    monkeypatch.setattr(h5py, "File", refused)
    with pytest.raises(Problem) as caught:
        read_shard(path)
    assert str(caught.value) == f"{path} cannot be read: Permission denied"


def test_a_shard_is_read_without_a_lock(recorded):
    with open(shard_path(recorded[0], 1), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        Rollouts(recorded[0])


def test_the_reason_for_calling_a_shard_damaged_ends_with_a_word(recorded, monkeypatch):
    def broken(*_, **__):
        raise OSError("an explanation of some length " * 20)

    monkeypatch.setattr(h5py, "File", broken)
    with pytest.raises(
        Problem, match=r"is damaged \(an explanation .* (an|explanation|of|some|length) \.\.\.\): delete it"
    ):
        read_shard(shard_path(recorded[0], 1))


def test_damage_found_while_reading_is_raised_in_the_consumer(recorded):
    folder, _ = recorded
    rollouts = Rollouts(folder)
    path = shard_path(folder, 2)
    damage(path, 1)
    with pytest.raises(Problem, match=path.name):
        list(itertools.islice(rollouts.batches(np.arange(10), 10), 1000))
    with pytest.raises(Problem, match=path.name):
        rollouts.read_range(0, rollouts.frames)


def test_read_ahead_ends_its_thread():
    others = set(threading.enumerate())  # of readers that tests before this one left to be collected

    def running() -> int:
        return sum(thread.name.startswith("read-ahead") for thread in set(threading.enumerate()) - others)

    ahead = read_ahead(itertools.count(), depth=4)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2] and running() == 1
    ahead.close()
    assert running() == 0
    ahead = read_ahead(itertools.count(), depth=4)
    next(ahead)
    del ahead
    assert running() == 0
    assert list(read_ahead(iter(range(3)), depth=10)) == [0, 1, 2] and running() == 0


def test_an_error_while_recording_leaves_nothing(tmp_path):
    def episodes():
        yield make_episode(0, 50)
        raise RuntimeError("the game is gone")

    with pytest.raises(RuntimeError, match="the game is gone"):
        write_shard(shard_path(tmp_path, 0), episodes(), {})
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from experiment.problem import Problem
from extract.rollouts import shard_path
from tests.fake import write_shard
from tests.test_rollouts import make_episode

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write_shard(shard_path(Path(sys.argv[1]), 0), (make_episode(i, 200) for i in range(20)), {})
except Problem as problem:
    print(problem)
"""


@pytest.mark.parametrize("limit", [60_000, 500_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, limit):
    done = python("-c", FULL_DISK, tmp_path, limit)
    assert done.returncode == 0
    assert "disk is full" in done.stdout and "shard-00000.h5" in done.stdout and done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())
