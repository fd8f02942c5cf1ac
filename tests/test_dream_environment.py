"""The dream as Gymnasium environments, made from a small run folder of untrained models."""

import dataclasses
import functools
import os
import pickle
import shutil

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import rnn  # (also registers the dream)
from envs.worlds import WORLDS
from experiment.config import load_config, to_yaml
from experiment.problem import Problem, UsageProblem
from experiment.run import Run, find_run
from experiment.schema import Dream as DreamSettings
from experiment.schema import Env, Experiment, Rnn
from rnn.dream import Dream, load_dream
from rnn.model import load_rnn
from rnn.starts import load_starts
from rnn.stepping import Dreams, make_step
from tests.fake import save_untrained
from vae.model import VAE

Z, H = 4, 16


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Environments of one run and the same settings share what is compiled, which takes them seconds."""
    dreams: dict[tuple, Dream] = {}

    def load(settings, run):
        key = run.path, to_yaml(settings)
        dreams[key] = dreams.get(key) or load_dream(settings, run)
        return dreams[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnn.environment.load_dream", load)
        patch.setattr("rnn.stepping.make_step", functools.cache(make_step))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A run folder with everything that a dream needs; its dreams last some 13 steps."""
    return untrained(tmp_path_factory.mktemp("run"), Experiment(), done_bias=-0.8)


@pytest.fixture(scope="module")
def racing(tmp_path_factory) -> Run:
    """The same of CarRacing, with rewards; its dreams begin in the second frame of an episode, and do not end."""
    settings = Experiment(
        env=Env(name="carracing", max_steps=1000),
        rnn=Rnn(predict_done=False, predict_reward=True),
        dream=DreamSettings(start_steps=[1, 1], max_steps=30),
    )
    return untrained(tmp_path_factory.mktemp("racing"), settings)


def untrained(path, settings: Experiment, done_bias: float | None = None) -> Run:
    """Random weights, and the latents of three short episodes."""
    run = Run(path)
    settings = dataclasses.replace(
        settings,
        vae=dataclasses.replace(settings.vae, z=Z),
        rnn=dataclasses.replace(settings.rnn, hidden=H, mixtures=3),
    )
    save_untrained(run, settings, (0.6, 0.3, 0.6, 0.3), done_bias)
    run.config.write_text(to_yaml(settings))
    return run


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


UNLIMITED = pytest.mark.filterwarnings("ignore:.*A Box observation space (min|max)imum value is:UserWarning:gymnasium")
"""Gymnasium thinks that a minimum or maximum of infinity is a mistake; z and c have no other."""


@UNLIMITED
def test_gymnasiums_checker_is_content(run):
    check_env(make(run, render_mode="rgb_array").unwrapped)


def test_spaces_and_temperature(run):
    env = make(run, observation="cz", temperature=0.7).unwrapped
    assert env.observation_space.shape == (H + Z,) and env.action_space.n == 3
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation[:H], 0)
    assert np.all(observation[H:] != 0)
    assert env.vector.dreams.temperature == 0.7
    env.reset(options={"temperature": 1.3})
    env.reset()
    assert env.vector.dreams.temperature == 1.3
    assert make(run).unwrapped.vector.dreams.temperature == 1.15  # the run's


def test_a_seed_replays_its_dreams(env):
    first, again, other = play(env, 3), play(env, 3), play(env, 4)
    for part, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(part, same)
    assert first[0].shape != other[0].shape or np.any(first[0] != other[0])
    assert first[2].any() and not first[3].any()  # some dreams ended, none was cut
    env.reset(options={"temperature": 2.0})
    assert np.any(play(env, 3)[0][1] != first[0][1])
    env.reset(options={"temperature": 1.15})


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
    """Under the script of `play`, whose episodes follow one another without a step between (SAME_STEP).

    But for rounding: on processors without AVX-512, products of more rows are rounded otherwise.
    """
    number, steps = 3, 40
    vector = make_vector(run, number, autoreset_mode=AutoresetMode.SAME_STEP)
    singles = [play(env, 6 + i, steps) for i in range(number)]
    episodes = np.zeros(number, int)
    observations, _ = vector.reset(seed=6)
    for i, (seen, *_) in enumerate(singles):
        np.testing.assert_allclose(observations[i], seen[0], atol=1e-4)
    for step in range(steps):
        observations, rewards, terminated, _, info = vector.step(np.full(number, step // 3 % 3))
        np.testing.assert_array_equal(rewards, 1)
        for i, (seen, _, ended, _) in enumerate(singles):
            at = step + 1 + episodes[i]
            assert terminated[i] == ended[at]
            if terminated[i]:
                np.testing.assert_allclose(info["final_obs"][i], seen[at], atol=1e-4)
                episodes[i] += 1
            np.testing.assert_allclose(observations[i], seen[step + 1 + episodes[i]], atol=1e-4)
    assert episodes.min() > 0


@pytest.mark.parametrize(
    ("folder", "override"), [("run", "dream.done=drawn"), ("run", "rnn.dropout=0.3"), ("racing", "rnn.action=raw")]
)
def test_one_dreams_step_in_numpy_is_the_compiled_one(folder, override, request):
    """At every luck: all state, endings and rewards."""
    folder = request.getfixturevalue(folder)
    settings = load_config(folder.config, None, [override])
    dream, generator = load_dream(settings, folder), np.random.default_rng(0)
    alone, together = make_step(dream, 1), make_step(dream, 64)
    state = generator.normal(size=(64, Z + 2 * H)).astype("float32")
    given = generator.random((64, dream.model.action_size + 2 + 2 * Z + dream.model.mask_size)).astype("float32")
    expected = together(state, given, np.float32(1.3))
    for row, after in enumerate(expected):
        np.testing.assert_allclose(
            alone(state[row : row + 1], given[row : row + 1], np.float32(1.3))[0], after, atol=1e-5
        )
    assert settings.env.name == "carracing" or 0 < expected[:, -2].mean() < 1  # some ended


def test_every_dream_keeps_a_mask_of_its_own_where_m_has_dropout(run):
    dream = load_dream(load_config(run.config, None, ["rnn.dropout=0.3"]), run)
    dreams = Dreams(dream, 3, 1.0, 100)
    dreams.generators = [np.random.default_rng(seed) for seed in (0, 0, 1)]
    dreams.begin(range(3))
    before = dreams.masks.copy()
    np.testing.assert_array_equal(before[0], before[1])
    assert (before[0] != before[2]).any() and 0 < (before == 0).mean() < 0.6
    dreams.advance(np.zeros(3, "float32"), np.arange(3))
    np.testing.assert_array_equal(dreams.masks, before)
    dreams.begin([0])
    assert (dreams.masks[0] != before[0]).any() and (dreams.masks[1:] == before[1:]).all()


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
    ("kwargs", "text"),
    [
        ({"observation": "zx"}, "observation"),
        *(({"temperature": value}, "temperature") for value in (-1.0, 0, 101, np.inf, np.nan)),
        *(({"max_steps": value}, f"max_steps is {value}: expected at least 1") for value in (0, -1)),
    ],
)
def test_impossible_arguments_are_problems(run, kwargs, text):
    for make_one in (make, functools.partial(make_vector, number=2)):
        with pytest.raises(Problem, match=text):
            make_one(run, **kwargs)


def test_an_unknown_argument_is_refused(run):
    with pytest.raises(TypeError, match="temprature"):
        make(run, temprature=1.0)
    for env in (make(run), make_vector(run, 2)):
        with pytest.raises(Problem, match="no option temprature of a reset: expected reset_mask, temperature, or none"):
            env.reset(options={"temprature": 1.0})


def test_a_dream_is_pickled_as_it_was_made(run):
    for dreams in (make(run, max_steps=3, temperature=0.5), make_vector(run, 2, max_steps=3, temperature=0.5)):
        copy = pickle.loads(pickle.dumps(dreams))
        seen = [each.reset(seed=4)[0] for each in (dreams, copy)]
        np.testing.assert_array_equal(*seen)
        steps = [[each.step(each.action_space.sample() * 0) for _ in range(3)] for each in (dreams, copy)]
        for one, other in zip(*steps, strict=True):
            for part, same in zip(one[:4], other[:4], strict=True):
                np.testing.assert_array_equal(part, same)
        assert np.all(steps[0][-1][3]), "cut after max_steps"


def test_an_episode_without_a_seed_of_its_own_is_that_of_the_seed_it_tells(env):
    (chained,) = {int(env.reset(seed=6 * (begun == 0) or None)[1]["seed"]) for begun in range(2)} - {6}
    np.testing.assert_array_equal(env.reset(seed=chained)[0], [env.reset(seed=6), env.reset()][1][0])


def test_any_seed_is_taken_and_actions_out_of_range_are_refused(run, env):
    vector = make_vector(run, 2)
    for dreams, wrong in ((env, (-1, 3, 1.0, [1])), (vector, ([0, -1], [0.0, 1.0], [0]))):
        first, _ = dreams.reset(seed=2**100)
        np.testing.assert_array_equal(first, dreams.reset(seed=2**100)[0])
        np.testing.assert_array_equal(dreams.reset(seed=np.uint32(7))[0], dreams.reset(seed=7)[0])
        with pytest.raises(Problem, match="seed -1"):
            dreams.reset(seed=-1)
        for action in wrong:
            with pytest.raises(Problem, match="expected whole numbers from 0 to 2"):
                dreams.step(action)
    vector.reset(seed=np.array([1, 2]))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # from Python 3.12 on
def test_no_dream_is_dreamed_after_a_fork_with_tensorflow(run, env, monkeypatch):
    """It would wait for ever, for threads that are not there."""
    child = os.fork()
    if child == 0:
        os._exit("tensorflow" not in rnn.LOST)
    assert os.waitpid(child, 0)[1] == 0 and not rnn.LOST
    env.reset(seed=0)
    monkeypatch.setattr("rnn.stepping.LOST", {"tensorflow"})
    for act in (lambda: make(run), env.reset, lambda: env.step(0)):
        with pytest.raises(Problem, match=r'forked.*"context": "spawn"'):
            act()


def test_a_run_without_m_is_a_problem(run, tmp_path):
    (tmp_path / "config.yaml").write_text(run.config.read_text())
    with pytest.raises(Problem, match=r"rnn\.weights\.h5"):
        gymnasium.make("DoomDream-v0", run=tmp_path)


def test_the_dream_is_of_the_world_that_its_name_says(run, racing):
    with pytest.raises(UsageProblem, match=r"is a run of carracing, and this environment is for one of doom"):
        make(racing)
    with pytest.raises(UsageProblem, match=r"is a run of doom, and this environment is for one of carracing"):
        gymnasium.make("rnn:CarRacingDream-v0", run=run.path)


def test_a_dream_is_of_the_last_iteration_and_knows_its_folder(run, tmp_path, capsys):
    first = Run(shutil.copytree(run.path, tmp_path / "run"))
    last = Run(shutil.copytree(run.path, first.at(2).path))
    last.controller.touch()
    assert make(first).unwrapped.vector.run.path == last.path
    named = find_run(first.path / "iterations" / "1")
    assert gymnasium.make("rnn:DoomDream-v0", run=named).unwrapped.vector.run.path == first.path
    assert capsys.readouterr().out == "", "it may be made many times"


def test_the_dream_of_what_is_shipped_is_found_by_its_name():
    env = gymnasium.make("rnn:CarRacingDream-v0", run="carracing")
    assert env.reset(seed=1)[0].shape == env.observation_space.shape
    with pytest.raises(UsageProblem, match="neither shipped"):
        gymnasium.make("rnn:CarRacingDream-v0", run="carracings")


@UNLIMITED
def test_gymnasiums_checker_is_content_with_the_dream_of_a_car(racing):
    env = gymnasium.make("CarRacingDream-v0", run=racing.path, render_mode="rgb_array")
    check_env(env.unwrapped)
    assert env.metadata["render_fps"] == 50 and env.action_space.shape == (3,)


def test_a_car_begins_with_the_memory_and_gets_the_rewards_that_m_says(racing):
    """Against M step by step, in one dream and in a vector of them; cut after max_steps."""
    settings = load_config(racing.config)
    model = load_rnn(racing, settings)
    starts = load_starts(settings, racing, model)
    assert not starts.fresh
    env = gymnasium.make("CarRacingDream-v0", run=racing.path, temperature=1e-10)
    vector = gymnasium.make_vec("CarRacingDream-v0", 3, run=racing.path, temperature=1e-10)
    actions = np.random.default_rng(0).uniform([-1, 0, 0], 1, (30, 3)).astype("float32")
    seen, several = env.reset(seed=4)[0], vector.reset(seed=3)[0]
    z, c, h = np.split(seen, [Z, Z + H])
    assert any(np.array_equal(h, start) for start in starts.h) and any(np.array_equal(c, start) for start in starts.c)
    total = 0.0
    for step, action in enumerate(actions):
        np.testing.assert_allclose(several[1], seen, atol=1e-4)
        inputs = np.concatenate([z, action])[None]
        h, c = model.step(inputs, h.reshape(1, H), c.reshape(1, H))
        mixture, reward, _ = model.head(h)
        likeliest = np.argmax(mixture.log_mix, axis=1)  # (1, Z): what is drawn at no temperature
        expected = np.take_along_axis(mixture.mean.numpy(), likeliest[:, None], axis=1)[0, 0]
        seen, rewarded, terminated, truncated, _ = env.step(action)
        several, rewards, *_ = vector.step(np.tile(action, (3, 1)))
        np.testing.assert_allclose(seen[:Z], expected, atol=1e-3)
        assert rewarded == pytest.approx(float(reward[0]), abs=1e-4) == rewards[1]
        assert (terminated, truncated) == (False, step == 29)
        z, c, h = np.split(seen, [Z, Z + H])
        total += abs(rewarded)
    assert total > 3


def test_m_is_told_what_a_world_executes_of_the_environments_actions(run, racing, tmp_path):
    """As it is, and as the raw action that it may have been: its memory is then what M, told that, comes to."""
    for folder, name, action in ((run, "Doom", np.array([2])), (racing, "CarRacing", np.array([[0.3, 0.2, 0.6]], "f"))):
        settings = load_config(folder.config)
        model, world, memories = load_rnn(folder, settings), WORLDS[settings.env.name], []
        executed = world.from_env(action)
        for kind, told in (("executed", executed), ("raw", world.unexecute(executed))):
            copy = Run(shutil.copytree(folder.path, tmp_path / f"{name}-{kind}"))
            copy.config.write_text(to_yaml(load_config(folder.config, None, [f"rnn.action={kind}"])))
            env = gymnasium.make(f"{name}Dream-v0", run=copy.path)
            z, c, h = np.split(env.reset(seed=0)[0][None], [Z, Z + H], axis=1)
            restart = np.ones((1, int(settings.rnn.predict_done)))
            inputs = np.concatenate([z, np.reshape(told, (1, -1)), restart], axis=1).astype("float32")
            h, c = model.step(inputs, h, c)
            memories.append(np.concatenate([c, h], axis=1)[0])
            np.testing.assert_allclose(env.step(action[0])[0][Z:], memories[-1], atol=1e-4)
        assert name == "Doom" or not np.allclose(*memories, atol=1e-2)


@pytest.mark.parametrize("action", [[0.1, 0.5, 0.0], (0, 1, 0), np.array([0.1, 0.5, 0.0])])
def test_a_car_may_be_driven_with_numbers_of_any_kind(racing, action):
    env = gymnasium.make("CarRacingDream-v0", run=racing.path).unwrapped
    after = []
    for given in (action, np.asarray(action, "float32")):
        env.reset(seed=0)
        after.append(env.step(given)[0])
    np.testing.assert_array_equal(*after)
