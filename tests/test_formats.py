"""A run as other tools read it, with nothing but h5py and safetensors."""

import shutil
import sys

import h5py
import hdf5plugin  # noqa: F401 (h5py reads compressed frames with it)
import numpy as np
import pytest

from experiment.problem import Problem, UsageProblem
from experiment.run import Run, find_run
from extract.rollouts import Episode, Rollouts, shard_path
from gallery.formats import link_rollouts, write_safetensors
from tests.commands import command_here, python
from tests.fake import write_shard


def recorded(folder, *shape: int) -> Run:
    """A run with four episodes in three shards; shape: of an action."""
    generator, run = np.random.default_rng(0), Run(folder / "run")
    for number, lengths in enumerate([(3, 5), (4,), (2,)]):
        episodes = [
            Episode(
                generator.integers(0, 255, (length, 8, 8, 3), "uint8"), generator.random((length, *shape), "float32"),
                generator.random(length, "float32"), np.arange(length) == length - 1, np.zeros(length, bool), seed=number,
            )
            for length in lengths
        ]  # fmt: skip
        write_shard(shard_path(run.rollouts, number), episodes, {})
    return run


@pytest.mark.parametrize("shape", [(), (3,)], ids=["one number", "three numbers"])
def test_rollouts_are_one_file(shape, tmp_path):
    run, moved = recorded(tmp_path, *shape), tmp_path / "elsewhere"
    link_rollouts(run, tmp_path / "all" / "doom.h5")
    assert (tmp_path / "all" / "doom.h5").stat().st_size < 20_000
    moved.mkdir()
    for name in ("all", "run"):
        shutil.move(tmp_path / name, moved / name)
    rollouts = Rollouts(moved / "run" / "rollouts")
    with h5py.File(moved / "all" / "doom.h5") as file:
        assert file["ep_len"][:].tolist() == [3, 5, 4, 2] and file["ep_offset"][:].tolist() == [0, 3, 8, 12]
        assert file["action"].shape == (14, *(shape or (1,)))
        for number, (first, length) in enumerate(zip(file["ep_offset"], file["ep_len"], strict=True)):
            part, episode = slice(first, first + length), rollouts.episode(number)
            np.testing.assert_array_equal(file["pixels"][part], episode.frames)
            np.testing.assert_array_equal(file["action"][part], episode.actions.reshape(length, -1))
            np.testing.assert_array_equal(file["reward"][part], episode.rewards)
            np.testing.assert_array_equal(file["terminated"][part], episode.terminated)
            np.testing.assert_array_equal(file["truncated"][part], episode.truncated)


@pytest.mark.needs("safetensors")
def test_weights_are_safetensors_with_a_card(tmp_path):
    from safetensors import safe_open

    run = find_run("doom")
    write_safetensors(run, tmp_path)
    with h5py.File(run.vae_weights) as kept, safe_open(tmp_path / "vae.safetensors", "numpy") as file:
        assert len(list(file.keys())) == 22
        expected = kept["decoder/layers/pixel_deconv/vars/0"][()]
        np.testing.assert_array_equal(file.get_tensor("decoder.pixel_deconv.kernel"), expected)
    with h5py.File(run.rnn_weights) as kept, safe_open(tmp_path / "rnn.safetensors", "numpy") as file:
        assert set(file.keys()) == {"kernel", "bias", "output_kernel", "output_bias"}
        np.testing.assert_array_equal(file.get_tensor("output_kernel"), kept["vars/2"][()])
    with h5py.File(run.controller) as kept, safe_open(tmp_path / "controller.safetensors", "numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("mean"), kept["mean"][()])
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n") and "# doom: vae, rnn, controller\n" in card
    assert "- game: 845.0 ± 433.8 (survival in tics, 100 episodes)\n" in card and "\n  name: doom\n" in card


def test_the_command_writes_what_is_asked_for(tmp_path, capsys):
    assert command_here("gallery.export", "breakout", "--rollouts", tmp_path / "all.h5") == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'all.h5'}: ")
    with h5py.File(tmp_path / "all.h5") as file:
        assert file["pixels"].shape[1:] == (84, 84, 1) and file["pixels"][:4].any()
    done = python("-m", "gallery.export", "doom")
    assert done.returncode == 2 and done.stderr.startswith("error: expected a NAME, --rollouts or --safetensors; see")


def test_nothing_is_overwritten(tmp_path):
    run = recorded(tmp_path)
    shard = shard_path(run.rollouts, 0)
    before = shard.read_bytes()
    with pytest.raises(UsageProblem, match=r"shard-00000\.h5 is there already: delete it, or name another place"):
        link_rollouts(run, shard)
    assert shard.read_bytes() == before


@pytest.mark.needs("safetensors")
def test_another_readme_is_not_overwritten(tmp_path):
    (tmp_path / "README.md").write_text("somebody's")
    with pytest.raises(UsageProblem, match=r"README\.md is there already"):
        write_safetensors(find_run("doom"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "somebody's"


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    with pytest.raises(Problem, match="has no rollouts: run `python -m extract` first"):
        link_rollouts(find_run("doom"), tmp_path / "all.h5")
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(UsageProblem, match=r"safetensors is missing: bash launch_scripts/setup\.bash safetensors"):
        write_safetensors(find_run("doom"), tmp_path)
