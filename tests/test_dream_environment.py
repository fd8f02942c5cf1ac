"""The dream as Gymnasium environments, made from a small run folder of untrained models."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import rnn  # noqa: F401 (registers the dream)
from experiment.config import to_yaml
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment
from extract.rollouts import Sequences
from rnn.model import build_rnn
from vae.latents import write_latents
from vae.model import VAE

Z, H = 4, 16


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A run folder with everything that a dream needs; its dreams last some 20 steps."""
    folder = Run(tmp_path_factory.mktemp("run"))
    settings = Experiment()
    settings = dataclasses.replace(
        settings,
        vae=dataclasses.replace(settings.vae, z=Z),
        rnn=dataclasses.replace(settings.rnn, hidden=H, mixtures=3),
    )
    folder.config.write_text(to_yaml(settings))
    VAE(Z).save_weights(folder.vae_weights)
    model = build_rnn(settings)
    generator = np.random.default_rng(1)
    for variable, size in zip(model.weights, (0.6, 0.3, 0.6, 0.3), strict=True):
        variable.assign(generator.normal(size=variable.shape) * size)
    model.output_bias.assign(np.append(model.output_bias.numpy()[:-1], -0.8))
    model.save_weights(folder.rnn_weights)
    frames = 6
    series = Sequences(
        actions=np.zeros(frames, "float32"),
        rewards=np.ones(frames, "float32"),
        terminated=np.zeros(frames, bool),
        truncated=np.ones(frames, bool),
        lengths=np.array([2, 3, 1]),
        groups=[3],
    )
    write_latents(folder.latents, [tuple(generator.normal(size=(2, frames, Z)).astype("float16"))], series)
    return folder


def make(run, **kwargs):
    return gymnasium.make("DoomDream-v0", run=run.path, **kwargs)


@pytest.fixture(scope="module")
def env(run):
    """One for the tests that need nothing special: compiling takes a second."""
    return make(run)


def make_vector(run, number, **kwargs):
    return gymnasium.make_vec("DoomDream-v0", number, run=run.path, **kwargs)


def play(env, seed, steps=40):
    """Observations, rewards and ends of some episodes under a fixed script of actions."""
    log = [(env.reset(seed=seed)[0], 0.0, False, False)]
    for step in range(steps):
        log.append(env.step(step // 3 % 3)[:4])
        if log[-1][2] or log[-1][3]:
            log.append((env.reset()[0], 0.0, False, False))
    return [np.array(part) for part in zip(*log, strict=True)]


def test_gymnasiums_checker_is_content(run):
    check_env(make(run, render_mode="rgb_array").unwrapped)


def test_spaces_and_temperature(run):
    env = make(run, observation="cz", temperature=0.7).unwrapped
    assert env.observation_space.shape == (H + Z,) and env.action_space.n == 3
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation[:H], 0)
    assert np.all(observation[H:] != 0)
    assert env.dreams.temperature == 0.7
    env.reset(options={"temperature": 1.3})
    env.reset()
    assert env.dreams.temperature == 1.3
    assert make(run).unwrapped.dreams.temperature == 1.15  # the run's


def test_a_seed_replays_its_dreams(env):
    first, again, other = play(env, 3), play(env, 3), play(env, 4)
    for part, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(part, same)
    assert first[0].shape != other[0].shape or np.any(first[0] != other[0])
    assert first[2].any() and not first[3].any()  # some dreams ended, none was cut
    env.reset(options={"temperature": 2.0})
    assert np.any(play(env, 3)[0][1] != first[0][1])
    env.reset(options={"temperature": 1.15})


def test_the_action_matters(env):
    seen = []
    for action in range(3):
        env.reset(seed=0)
        seen.append(env.step(action)[0])
    assert np.any(seen[0] != seen[1]) and np.any(seen[0] != seen[2]) and np.any(seen[1] != seen[2])


def test_max_steps_truncates(run):
    env = make(run, max_steps=1)
    env.reset(seed=0)
    terminated, truncated = env.step(0)[2:4]
    assert truncated != terminated


def test_render_is_vs_picture(run):
    env = make(run, render_mode="rgb_array", observation="z")
    z, _ = env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    vae = VAE(Z)
    vae.load_weights(run.vae_weights)
    np.testing.assert_allclose(picture, np.asarray(vae.decode(z[None])[0]) * 255, atol=0.51)
    env.step(2)
    assert np.any(env.render() != picture)


def test_row_i_of_the_vector_is_the_dream_of_seed_plus_i(run, env):
    """Under the script of `play`, whose episodes follow one another without a step between (SAME_STEP)."""
    number, steps = 3, 40
    vector = make_vector(run, number, autoreset_mode=AutoresetMode.SAME_STEP)
    singles = [play(env, 5 + i, steps) for i in range(number)]
    episodes = np.zeros(number, int)
    observations, _ = vector.reset(seed=5)
    for i, (seen, *_) in enumerate(singles):
        np.testing.assert_array_equal(observations[i], seen[0])
    for step in range(steps):
        observations, rewards, terminated, _, info = vector.step(np.full(number, step // 3 % 3))
        np.testing.assert_array_equal(rewards, 1)
        for i, (seen, _, ended, _) in enumerate(singles):
            at = step + 1 + episodes[i]
            assert terminated[i] == ended[at]
            if terminated[i]:
                np.testing.assert_array_equal(info["final_obs"][i], seen[at])
                episodes[i] += 1
            np.testing.assert_array_equal(observations[i], seen[step + 1 + episodes[i]])
    assert episodes.min() > 0


def test_vector_restarts_in_the_next_step(run):
    env = make_vector(run, 4)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observations, _ = env.reset(seed=0)
    assert observations in env.observation_space
    over = np.zeros(4, bool)
    restarts = 0
    for _ in range(60):
        observations, rewards, terminated, truncated, _ = env.step(env.action_space.sample())
        assert observations in env.observation_space
        np.testing.assert_array_equal(rewards, ~over)
        np.testing.assert_array_equal(observations[over, Z:], 0)  # h and c of a first step
        assert not np.any((terminated | truncated) & over)
        restarts, over = restarts + over.sum(), terminated | truncated
    assert restarts > 4


def test_vector_without_autoreset_waits_for_the_mask(run):
    env = make_vector(run, 3, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=[0, 1, 2])
    for _ in range(200):
        observations, _, terminated, truncated, _ = env.step(np.zeros(3, int))
        over = terminated | truncated
        if over.any():
            break
    after, rewards, still, _, _ = env.step(np.zeros(3, int))
    np.testing.assert_array_equal(after[over], observations[over])
    np.testing.assert_array_equal(rewards, ~over)
    np.testing.assert_array_equal(still[over], True)
    again, _ = env.reset(seed=[7, 7, 7], options={"reset_mask": over})
    np.testing.assert_array_equal(again[over], np.repeat(env.reset(seed=7)[0][:1], over.sum(), axis=0))
    np.testing.assert_array_equal(again[~over], after[~over])


def test_vector_renders_every_dream(run):
    env = make_vector(run, 2, render_mode="rgb_array")
    env.reset(seed=0)
    assert [picture.shape for picture in env.render()] == [(64, 64, 3)] * 2


@pytest.mark.parametrize(
    ("kwargs", "text"), [({"observation": "zx"}, "observation"), ({"temperature": -1.0}, "temperature")]
)
def test_impossible_arguments_are_problems(run, kwargs, text):
    with pytest.raises(Problem, match=text):
        make(run, **kwargs)


def test_a_run_without_m_is_a_problem(run, tmp_path):
    (tmp_path / "config.yaml").write_text(run.config.read_text())
    with pytest.raises(Problem, match=r"rnn\.weights\.h5"):
        gymnasium.make("DoomDream-v0", run=tmp_path)
