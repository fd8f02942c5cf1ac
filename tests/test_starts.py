"""Where dreams begin: at first frames without memory, or further on with M's memory of what came before."""

import os
from dataclasses import replace

import numpy as np
import pytest

from envs.worlds import WORLDS
from experiment.backend import tf
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Dream, Env, Experiment, Rnn
from extract.rollouts import Sequences
from rnn import starts as module
from rnn.model import MDNRNN, told_by
from rnn.starts import first_frames, load_starts, remembered
from vae.latents import Latents, write_latents

Z, H = 3, 6
LENGTHS = np.array([60, 9, 70, 45, 33, 80])


def write_series(path, actions: int, groups: tuple[int, ...] = (6,)) -> Latents:
    """Six episodes; logvar is so small that a draw of z is mu."""
    generator, frames = np.random.default_rng(0), int(LENGTHS.sum())
    raw = generator.uniform(-1, 1, (frames, actions) if actions > 1 else frames).astype("float32")
    ends = np.zeros(frames, bool)
    ends[np.cumsum(LENGTHS) - 1] = True
    mu = generator.normal(size=(frames, Z))
    sequences = Sequences(
        raw, generator.normal(size=frames).astype("float32"), ends, np.zeros(frames, bool), LENGTHS, groups
    )
    write_latents(path, [(mu, np.full_like(mu, -60))], sequences)
    return Latents.load(path)


def plain_memory(model, latents, episode, steps, execute) -> tuple[np.ndarray, np.ndarray]:
    """M's h and c after the first steps of an episode, step by step."""
    h = c = tf.zeros((1, H))
    for t in range(steps):
        row = latents.episode_starts[episode] + t
        action = np.atleast_1d(execute(latents.actions[row]))
        restart = [t == 0] if model.predict_done else []
        inputs = np.concatenate([latents.mu[row], action, restart]).astype("float32")
        h, c = model.step(inputs[None], h, c)
    return h[0].numpy(), c[0].numpy()


@pytest.mark.parametrize(("world", "done"), [("doom", True), ("carracing", False), ("carracing", True)])
@pytest.mark.parametrize(("earliest", "latest"), [(0, 40), (7, 32), (25, 25)])
def test_moments_have_the_memory_that_a_plain_loop_gives(tmp_path, world, done, earliest, latest):
    actions = WORLDS[world].actions
    latents = write_series(tmp_path / "latents.h5", actions)
    settings = Experiment(
        env=Env(name=world),
        rnn=Rnn(predict_done=done, hidden=H),
        dream=Dream(start_steps=[earliest, latest], starts=20),
    )
    model = MDNRNN(Z, actions, H, 2, predict_done=done, told=told_by(settings))
    model.kernel.assign(np.random.default_rng(1).normal(size=model.kernel.shape))
    found = remembered(settings, latents, model, earliest, latest, 20)
    assert 20 <= len(found.mu) <= 25 and found.h.shape == (len(found.mu), H)
    at = [int(np.flatnonzero((latents.mu == mu).all(axis=1))[0]) for mu in found.mu.astype("float16")]  # the frames
    episodes = np.searchsorted(latents.episode_starts, at, side="right") - 1
    steps = at - latents.episode_starts[episodes]
    assert (steps.min(), steps.max()) == (earliest, latest)
    expected = np.linspace(earliest, latest, np.bincount(episodes).max()).round()
    for episode, length in enumerate(LENGTHS):
        assert sorted(steps[episodes == episode].tolist()) == expected[expected < length].tolist()
    for index in range(len(at)):
        h, c = plain_memory(model, latents, episodes[index], steps[index], WORLDS[world].execute)
        np.testing.assert_allclose(found.h[index], h, atol=1e-5)
        np.testing.assert_allclose(found.c[index], c, atol=1e-5)
    np.testing.assert_array_equal(found.logvar, -60)
    assert not found.fresh


def test_m_is_told_raw_actions_where_it_was_trained_on_them(tmp_path):
    latents = write_series(tmp_path / "latents.h5", 1)
    settings = Experiment(rnn=Rnn(hidden=H, action="raw"), dream=Dream(start_steps=[5, 5], starts=1))
    model = MDNRNN(Z, 1, H, 2, predict_done=True, told=told_by(settings))
    found = remembered(settings, latents, model, 5, 5, 1)
    episodes = np.random.default_rng(0).permutation(np.flatnonzero(latents.lengths > 5))
    h, _ = plain_memory(model, latents, episodes[0], 5, np.asarray)
    np.testing.assert_allclose(found.h[0], h, atol=1e-5)
    assert not np.allclose(plain_memory(model, latents, episodes[0], 5, WORLDS["doom"].execute)[0], h, atol=1e-3)


def test_dreams_begin_in_what_the_last_iteration_recorded(tmp_path, monkeypatch):
    latents = write_series(tmp_path / "latents.h5", 1, groups=(4, 2))
    settings = Experiment(rnn=Rnn(hidden=H), dream=Dream(start_steps=[0, 30], starts=8))
    model = MDNRNN(Z, 1, H, 2, predict_done=True)

    def frames_of(found) -> set[int]:
        return {int(np.flatnonzero((latents.mu == mu).all(axis=1))[0]) for mu in found.mu.astype("float16")}

    assert min(frames_of(remembered(settings, latents, model, 0, 30, 8))) == latents.episode_starts[4]
    monkeypatch.setattr(module, "EPISODES", 1)
    found = remembered(settings, latents, model, 0, 30, 8)
    assert len(found.mu) == 8 and np.ptp(list(frames_of(found))) == 30  # all of one episode


def equal(one, other) -> bool:
    return all(np.array_equal(part, same) for part, same in zip(one, other, strict=True))


@pytest.fixture
def run(tmp_path) -> tuple[Run, MDNRNN]:
    """A run folder with latents and an M."""
    run, model = Run(tmp_path), MDNRNN(Z, 1, H, 2, predict_done=True)
    write_series(run.latents, 1)
    model.save_weights(run.rnn_weights)
    return run, model


FIRST = Experiment(rnn=Rnn(hidden=H))
FURTHER = replace(FIRST, dream=Dream(start_steps=[10, 20], starts=12))


def test_first_frames_have_no_memory(run):
    run, model = run
    latents = Latents.load(run.latents)
    found = load_starts(FIRST, run, model)
    np.testing.assert_array_equal(found.mu, latents.mu[latents.episode_starts].astype("float32"))
    assert found.fresh and not found.h.any() and not found.c.any() and found.h.shape == (6, H)
    assert equal(found, first_frames(latents, H))


@pytest.mark.parametrize("settings", [FIRST, FURTHER])
def test_starts_are_kept_and_need_no_latents_then(run, settings):
    run, model = run
    found = load_starts(settings, run, model)
    assert found.fresh == (settings is FIRST) and len(found.mu) == (6 if found.fresh else 15)  # five last so long
    run.latents.unlink()
    again = load_starts(settings, run, model)
    assert equal(found, again) and all(part.dtype == np.float32 for part in again)


def test_starts_of_something_else_are_not_taken_for_these(run):
    run, model = run
    first, found = load_starts(FIRST, run, model), load_starts(FURTHER, run, model)
    assert equal(load_starts(FIRST, run, model), first) and equal(load_starts(FURTHER, run, model), found)
    fewer = replace(FURTHER, dream=replace(FURTHER.dream, starts=5))
    assert len(load_starts(fewer, run, model).mu) == 5
    other = MDNRNN(Z, 1, H, 2, predict_done=True, seed=9)
    other.save_weights(run.rnn_weights)
    elsewhere = load_starts(FURTHER, run, other)
    np.testing.assert_array_equal(elsewhere.mu, found.mu)
    assert not np.allclose(elsewhere.h, found.h, atol=1e-3)
    assert equal(load_starts(FIRST, run, other), first)  # what M is does not matter to first frames
    run.starts.write_bytes(run.starts.read_bytes()[:500])
    assert equal(load_starts(FURTHER, run, other), elsewhere)  # damaged: made again


def test_starts_older_than_the_latents_are_made_again(run):
    run, model = run
    before = load_starts(FIRST, run, model)
    latents = Latents.load(run.latents)
    series = (latents.actions, latents.rewards, latents.terminated, latents.truncated, latents.lengths, [6])
    write_latents(run.latents, [(latents.mu + 1, latents.logvar)], Sequences(*series))
    later = run.starts.stat().st_mtime + 5
    os.utime(run.latents, (later, later))
    np.testing.assert_allclose(load_starts(FIRST, run, model).mu, before.mu + 1, atol=1e-2)


def test_steps_that_no_episode_reaches_are_a_problem(tmp_path):
    latents = write_series(tmp_path / "latents.h5", 1)
    model = MDNRNN(Z, 1, H, 2, predict_done=True)
    settings = Experiment(rnn=Rnn(hidden=H), dream=Dream(start_steps=[80, 90]))
    with pytest.raises(Problem, match=r"no recorded episode has more than 80 steps: lower dream\.start_steps"):
        remembered(settings, latents, model, 80, 90, 20)
