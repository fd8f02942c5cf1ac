"""The latent series: what is written of every frame, in which order, and encoding that is killed."""

import dataclasses
import signal

import numpy as np
import pytest

from experiment.backend import save_weights
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Vae
from extract.rollouts import Rollouts
from tests.test_vae import SETTINGS, make_rollouts, start_and_kill
from vae import encode
from vae.latents import Latents, write_latents
from vae.model import VAE, load_vae
from vae.training import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two equal runs with rollouts and weights; the second was killed while saving its second shard."""
    whole, killed = (Run(tmp_path_factory.mktemp(name)) for name in ("whole", "killed"))
    for run in (whole, killed):
        make_rollouts(run)
        save_weights(VAE(SETTINGS.vae.z, seed=1), run.vae_weights)
    patch = (
        "save = encode.write_npz\nencode.write_npz = lambda path, *a: die() if '00001' in path.name else save(path, *a)"
    )
    process = start_and_kill(killed, patch, "encode.run")
    encode.run(SETTINGS, whole)
    assert process.wait(timeout=120) == -signal.SIGKILL
    return whole, killed


def test_latents_are_those_of_every_frame_in_order(runs):
    run, _ = runs
    rollouts, latents = Rollouts(run.rollouts), Latents.load(run.latents)
    mu, logvar = load_vae(run, SETTINGS).encode(rollouts.read(np.arange(rollouts.frames)))
    assert latents.mu.dtype == latents.logvar.dtype == np.float16
    np.testing.assert_allclose(latents.mu, mu, atol=2e-3)
    np.testing.assert_allclose(latents.logvar, logvar, atol=2e-3)
    sequences = rollouts.sequences()
    for name in ("actions", "rewards", "terminated", "truncated", "lengths"):
        np.testing.assert_array_equal(getattr(latents, name), getattr(sequences, name))
    np.testing.assert_array_equal(latents.episode_starts, rollouts.starts)
    np.testing.assert_array_equal(np.concatenate(latents.split(0.2)), np.concatenate(rollouts.split(0.2)))


def test_a_dimension_is_active_that_tells_something_of_the_frames(runs):
    run, _ = runs
    latents = Latents.load(run.latents)
    noise, certain = np.zeros_like(latents.mu), np.full_like(latents.logvar, -2)
    assert not dataclasses.replace(latents, mu=noise, logvar=noise).active().any()
    latents.mu[:] = noise
    latents.logvar[:] = np.where(np.arange(latents.mu.shape[1]) == 1, certain, noise)
    assert np.flatnonzero(latents.active()).tolist() == [1]


def test_killed_encoding_comes_to_the_same_end(runs):
    whole, killed = runs
    assert len(list(killed.checkpoints.glob("vae.encode-*/*.npz"))) == 1 and not killed.latents.exists()
    figures = encode.run(SETTINGS, killed)
    assert figures["frames"] == 16 + 17 + 18, "the first shard was not encoded again"
    left, right = Latents.load(whole.latents), Latents.load(killed.latents)
    np.testing.assert_allclose(left.mu, right.mu, atol=2e-3)
    np.testing.assert_allclose(left.logvar, right.logvar, atol=2e-3)
    np.testing.assert_array_equal(left.episode_starts, right.episode_starts)
    assert not list(killed.checkpoints.iterdir())


def test_where_v_stays_as_it_is_only_new_frames_are_encoded(tmp_path):
    first = Run(tmp_path)
    second = first.at(2)
    for run in (first, second):
        make_rollouts(run)
    save_weights(VAE(SETTINGS.vae.z, seed=1), first.vae_weights)
    assert train(dataclasses.replace(SETTINGS, vae=Vae(z=SETTINGS.vae.z, steps=0)), second)["frames"] == 0
    assert second.vae_weights.read_bytes() == first.vae_weights.read_bytes()

    once = encode.run(SETTINGS, first)["frames"]
    before = Latents.load(first.latents)
    before.mu[:] += 1  # not what V says: where that comes back it was not encoded anew
    write_latents(first.latents, [(before.mu, before.logvar)], Rollouts(first.rollouts).sequences())
    assert encode.run(SETTINGS, second)["frames"] == once
    both = Latents.load(second.latents)
    assert both.frames == 2 * once and both.groups.tolist() == 2 * before.groups.tolist()
    np.testing.assert_array_equal(both.mu[:once], before.mu)
    np.testing.assert_allclose(both.mu[once:], before.mu - 1, atol=4e-3)  # the same rollouts again

    save_weights(VAE(SETTINGS.vae.z, seed=2), second.vae_weights)
    assert encode.run(SETTINGS, second)["frames"] == 2 * once


def test_other_files_are_a_problem(runs, tmp_path):
    run, _ = runs
    with pytest.raises(Problem, match=r"latents\.h5 is missing"):
        Latents.load(tmp_path / "latents.h5")
    with pytest.raises(Problem, match="not a latents file"):
        Latents.load(run.rollouts / "shard-00000.h5")
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(run.latents.read_bytes()[:2000])
    with pytest.raises(Problem, match=r"damaged\.h5 is damaged \(.*\): delete it"):
        Latents.load(damaged)
