"""The batched dream against a plain loop in float64, one dream at a time, with the same random numbers."""

from dataclasses import replace

import numpy as np
import pytest

import rnn.dream
import rnn.model
from envs.actions import move
from envs.worlds import WORLDS
from experiment.backend import keras, tf
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Dream as DreamSettings
from experiment.schema import Env, Experiment, Rnn, Vae
from rnn.dream import Dream, drawn_weight, load_dream, luck, noise, tile_sizes
from rnn.model import MDNRNN, build_rnn
from rnn.starts import Starts

Z, H, K = 4, 16, 3
FIRST_FRAMES = Starts(
    *np.random.default_rng(0).normal(size=(2, 9, Z)).astype("float32"), *np.zeros((2, 9, H), "float32")
)
FURTHER_ON = Starts(
    *np.random.default_rng(0).normal(size=(2, 9, Z)).astype("float32"),
    *np.random.default_rng(3).normal(size=(2, 9, H)).astype("float32"),
)


def small_model(
    done_bias: float = -0.8, policy: str = "float32", env: Env | None = None, settings: Rnn | None = None
) -> MDNRNN:
    """An M whose weights make dreams of very different lengths, some 20 steps on average."""
    keras.config.set_dtype_policy(policy)
    options = replace(settings or Rnn(), hidden=H, mixtures=K)
    model = build_rnn(Experiment(env=env or Env(), vae=Vae(z=Z), rnn=options))
    keras.config.set_dtype_policy("float32")
    generator = np.random.default_rng(1)
    for variable, size in zip(model.weights, (0.6, 0.3, 0.6, 0.3), strict=True):
        variable.assign(generator.normal(size=variable.shape) * size)
    if options.predict_done:
        model.output_bias.assign(np.append(model.output_bias.numpy()[:-1], done_bias))
    return model


def linear(parameters, z, h, c):
    return tf.tanh(tf.reduce_sum(parameters * tf.concat([z, c, h], axis=1), axis=1))


def linear_three(parameters, z, h, c):
    rows = tf.reshape(parameters, (-1, 3, Z + 2 * H))
    return tf.tanh(tf.einsum("nax,nx->na", rows, tf.concat([z, c, h], axis=1)))


def population(size: int, actions: int = 1) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(size, actions * (Z + 2 * H))).astype("float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def plain_mask(model, seed, episodes):
    """What z, the action, restart and h are multiplied by in every step of E dreams, (E, I+H)."""
    inputs = model.input_size
    uniform = tf.random.stateless_uniform((episodes, inputs + H), [tf.constant(seed, tf.int64), 2**62]).numpy()
    mask = (uniform >= model.dropout) / (1 - model.dropout)
    mask[:, Z:inputs] = 1
    return mask


def plain_dream(model, starts, seen_of, weights, episode, episodes, seed, temperature, max_steps):
    """One dream by the formulas, in float64: z that C saw, raw actions, done logits and rewards of its steps."""
    kernel, bias, output_kernel, output_bias = (variable.numpy().astype("float64") for variable in model.weights)
    uniform, normal = (np.float64(part)[episode] for part in noise(seed, -1, episodes, Z))
    chosen = int(uniform[0] * len(starts.mu))
    z = starts.mu[chosen] + np.exp(starts.logvar[chosen] / 2) * normal
    h, c = np.float64(starts.h[chosen]), np.float64(starts.c[chosen])
    mask = plain_mask(model, seed, episodes)[episode]
    steps = []
    for step in range(max_steps):
        raw = np.tanh(weights.reshape(model.action_size, -1) @ np.concatenate([z, c, h]))  # (A,)
        restart = [float(step == 0 and not h.any())] if model.predict_done else []
        i, j, f, o = np.split((np.concatenate([z, seen_of(raw), restart, h]) * mask) @ kernel + bias, 4)
        c = c * sigmoid(f + 1) + sigmoid(i) * np.tanh(j)
        h = np.tanh(c) * sigmoid(o)
        outputs = h @ output_kernel + output_bias
        mixture, heads = np.split(outputs, [3 * K * Z])  # the reward, then done
        done_logit = heads[-1] if model.predict_done else -1.0
        steps.append((z, raw if len(raw) > 1 else raw[0], done_logit, heads[0] if model.predict_reward else 1.0))
        logits, mean, log_std = mixture.reshape(3, K, Z)
        uniform, normal = (np.float64(part)[episode] for part in noise(seed, step, episodes, Z))
        z = np.empty(Z)
        for d in range(Z):
            share = np.exp(logits[:, d] / temperature)
            k = int(np.searchsorted(np.cumsum(share / share.sum()), uniform[d], side="right"))
            z[d] = mean[k, d] + np.exp(log_std[k, d]) * np.sqrt(temperature) * normal[d]
        if done_logit > 0:
            break
    return [np.array(part) for part in zip(*steps, strict=True)]


@pytest.fixture(scope="module")
def dream() -> Dream:
    """One for the tests that need nothing special: compiling takes a second."""
    return Dream(small_model(), FIRST_FRAMES)


@pytest.fixture
def tiny_tiles(monkeypatch):
    """Tiles and blocks so small that a dozen dreams fill several and are packed anew several times; kernels are padded."""
    monkeypatch.setattr(rnn.model, "ALIGNED", H)
    monkeypatch.setattr(rnn.dream, "TILES", (8, 4))
    monkeypatch.setattr(rnn.dream, "BLOCK", 8)


DREAMS = {
    "doom": (Env(), Rnn(), FIRST_FRAMES),
    "raw actions": (Env(), Rnn(action="raw"), FIRST_FRAMES),
    "further on": (Env(), Rnn(), FURTHER_ON),
    "dropout": (Env(), Rnn(dropout=0.3), FURTHER_ON),
    "with rewards": (Env(), Rnn(predict_reward=True), FIRST_FRAMES),
    "carracing": (Env(name="carracing"), Rnn(predict_done=False, predict_reward=True), FIRST_FRAMES),
    "carracing, raw actions, done, further on": (
        Env(name="carracing"),
        Rnn(predict_reward=True, action="raw"),
        FURTHER_ON,
    ),
}


@pytest.mark.parametrize("name", DREAMS)
def test_dreams_are_those_of_a_plain_loop(name, tiny_tiles):
    env, settings, starts = DREAMS[name]
    actions, episodes, seed, temperature, longest = WORLDS[env.name].actions, 3, 7, 1.2, 60
    model = small_model(env=env, settings=settings)
    act, parameters = linear if actions == 1 else linear_three, population(5, actions)
    dream = Dream(model, starts)
    returns, lengths = dream.rollout(act, parameters, episodes, seed, temperature, longest)
    traced, lived = dream.trace(act, parameters, episodes, seed, temperature, longest)
    seen_of = WORLDS[env.name].execute if settings.action == "executed" else np.asarray
    for p, e in np.ndindex(lengths.shape):
        plain = plain_dream(model, starts, seen_of, parameters[p], e, episodes, seed, temperature, longest)
        steps = len(plain[0])
        assert lengths[p, e] == traced[p, e] == steps
        for expected, got in zip(plain, lived, strict=True):  # z, raw actions, done logits, rewards
            np.testing.assert_allclose(got[p, e, :steps], expected, rtol=1e-3, atol=1e-3)
        assert returns[p, e] == pytest.approx(plain[3].sum(), abs=5e-3)
    assert lived.z.shape == (5, 3, lengths.max(), Z) and returns.shape == (5, 3)
    length, second = dream.trace(act, parameters[:1], episodes, seed, temperature, longest, only=1)
    assert length == lengths[0, 1] and second.z.shape == (1, 1, length[0, 0], Z)
    np.testing.assert_allclose(second.z[0, 0], lived.z[0, 1, : length[0, 0]], rtol=1e-3, atol=1e-3)
    if settings.predict_done:
        assert len(set((lengths[lengths < longest] // rnn.dream.BLOCK).tolist())) > 1, "dreams ended in one block"
    else:
        assert (lengths == longest).all()
    if settings.predict_reward:
        assert len(np.unique(returns)) == returns.size
    else:
        np.testing.assert_array_equal(returns, lengths)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_slicing_the_population_changes_nothing(policy, tiny_tiles):
    dream, parameters = Dream(small_model(-0.9, policy), FIRST_FRAMES), population(8)
    whole = dream.rollout(linear, parameters, 3, 5, 1.0, 100).lengths
    slices = [dream.rollout(linear, part, 3, 5, 1.0, 100).lengths for part in np.split(parameters, [1, 3])]
    np.testing.assert_array_equal(np.concatenate(slices), whole)
    assert len(np.unique(whole)) > 5


def test_candidates_share_their_luck(dream):
    lengths = dream.rollout(linear, np.repeat(population(1), 3, axis=0), 20, 0, 1.0, 100).lengths
    assert np.all(lengths == lengths[0]) and len(np.unique(lengths[0])) > 5


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_cannot_be_is_a_problem(dream, temperature):
    for live in (dream.rollout, dream.trace):
        with pytest.raises(Problem, match="temperature of a dream"):
            live(linear, population(1), 2, 0, temperature, 3)


def test_low_temperature_is_certain_and_high_is_not():
    dream = Dream(small_model(-100), FIRST_FRAMES)
    cold, warm, hot = (
        dream.trace(linear, population(1), 50, 0, temperature, 3)[1].z for temperature in (1e-6, 1.0, 2.0)
    )
    jumps = [np.abs(z[:, :, 1:] - cold[:, :, 1:]).mean() for z in (cold, warm, hot)]
    assert 0.1 < jumps[1] < jumps[2]
    outputs = np.array([-1.0, 2.0, 0.5] * 3, "float32").reshape(3, 3)  # logits, mean, log_std of K = 3, Z = 1
    _, normal = noise(0, 0, 50, Z)
    model = small_model(-100)
    model.output_kernel.assign(np.zeros(model.output_kernel.shape))
    model.output_bias.assign(np.append(np.repeat(outputs[:, :, None], Z, axis=2).ravel(), -100))
    z = Dream(model, FIRST_FRAMES).trace(linear, population(1), 50, 0, 0.01, 2)[1].z[0, :, 1]  # (E, Z)
    np.testing.assert_allclose(z, 2.0 + np.exp(2.0) * 0.1 * normal, atol=1e-4)  # component 2: mean and log_std 2


def test_endings_can_be_drawn_with_their_probability():
    """A logit that is never above 0 means a probability all the same: here, of a weight of 10, 0.05 a step."""
    model, weight, probability = small_model(), 10.0, 0.05
    model.output_kernel.assign(model.output_kernel.numpy() * [*np.ones(3 * K * Z), 0.0])
    logit = np.log(probability / (1 - probability)) + np.log(weight)
    model.output_bias.assign(np.append(model.output_bias.numpy()[:-1], logit))
    assert logit < 0 and (Dream(model, FIRST_FRAMES).rollout(linear, population(1), 9, 0, 1.0, 50).lengths == 50).all()
    dream = Dream(model, FIRST_FRAMES, drawn=weight)
    lengths = dream.rollout(linear, population(2), 4000, 0, 1.0, 400).lengths
    np.testing.assert_array_equal(lengths[0], lengths[1])  # candidates share their luck
    assert abs(lengths[0].mean() - 1 / probability) < 4 * 20 / np.sqrt(
        4000
    )  # geometric: its deviation is about its mean
    np.testing.assert_allclose((lengths[0] > 20).mean(), (1 - probability) ** 20, atol=0.03)
    assert np.abs(np.corrcoef(luck(0, 3, 4000), noise(0, 3, 4000, 1)[0][:, 0])[0, 1]) < 0.06


def test_where_no_dream_ends_steps_count_by_the_probability_of_being_reached(tiny_tiles):
    weight, longest, with_reward = 10.0, 30, Rnn(predict_reward=True)
    of = {"episodes": 5, "seed": 3, "temperature": 1.2, "max_steps": longest}
    endless = Dream(small_model(done_bias=-30, settings=with_reward), FIRST_FRAMES)
    _, moments = endless.trace(linear, population(4), **of)
    goes_on = 1 - sigmoid(moments.done_logit.astype("float64") + 28 - np.log(weight))
    dream = Dream(small_model(done_bias=-2, settings=with_reward), FIRST_FRAMES, drawn=weight)
    reached = np.concatenate([np.ones((4, 5, 1)), goes_on.cumprod(axis=2)[..., :-1]], axis=2)
    tried = dream.rollout(linear, population(4), **of, expected=True)
    np.testing.assert_allclose(tried.returns, (reached * moments.reward).sum(axis=2), rtol=1e-4, atol=1e-4)
    assert (tried.lengths == longest).all() and 0.1 < reached[..., -1].mean() < 0.9
    assert (dream.rollout(linear, population(4), **of).lengths < longest).any()  # else they end

    without = Dream(small_model(settings=replace(with_reward, predict_done=False)), FIRST_FRAMES, drawn=weight)
    plain, counted = (without.rollout(linear, population(4), **of, expected=expected) for expected in (False, True))
    np.testing.assert_array_equal(plain.returns, counted.returns)


def test_what_the_weight_is_of_endings_that_are_drawn():
    rnn = Rnn(done_weight=3)
    assert drawn_weight(Experiment(rnn=rnn)) is None
    assert {drawn_weight(Experiment(rnn=rnn, dream=DreamSettings(done=done))) for done in ("drawn", "expected")} == {3}
    certain = Dream(MDNRNN(Z, 1, H, K, predict_done=False, predict_reward=True), FIRST_FRAMES, drawn=3.0)
    assert (certain.rollout(linear, population(1), 9, 0, 1.0, 30).lengths == 30).all()  # of an M without done


def test_one_dream(dream):
    lengths = dream.rollout(linear, population(1), 1, 3, 1.0, 100).lengths
    assert lengths.shape == (1, 1)
    plain = plain_dream(dream.model, FIRST_FRAMES, move, population(1)[0], 0, 1, 3, 1.0, 100)
    assert lengths[0, 0] == len(plain[0])


def test_a_script_knows_the_step_and_the_episode(dream):
    def script(parameters, z, h, c, episode, step):
        return parameters[:, 0] + tf.cast(episode, tf.float32) / 10 + tf.cast(step, tf.float32) / 100

    lengths, moments = dream.trace(script, np.array([[0.0], [0.5]], "float32"), 3, 0, 1.0, 40)
    p, e, t = np.indices(moments.raw.shape)
    lived = t < lengths[..., None]
    np.testing.assert_allclose(moments.raw[lived], (p / 2 + e / 10 + t / 100)[lived], atol=1e-6)
    assert lived.sum() > 50


def test_weights_are_read_anew():
    model = small_model(-100)
    dream = Dream(model, FIRST_FRAMES)
    before = dream.rollout(linear, population(1), 4, 0, 1.0, 50).lengths
    model.output_bias.assign(np.append(model.output_bias.numpy()[:-1], 100))
    assert before.dtype == np.int32 and np.all(before == 50)
    assert np.all(dream.rollout(linear, population(1), 4, 0, 1.0, 50).lengths == 1)


def test_tiles_hold_all_dreams_with_little_room_to_spare():
    for rows in range(1, 3000):
        sizes = tile_sizes(rows)
        assert sum(sizes) >= rows > sum(sizes[:-1])
        assert sum(sizes) - rows <= max(rows / 3, 63)


def test_in_the_dream_of_an_m_that_cannot_tell_good_from_bad_nothing_is_learnt(tmp_path):
    """But it can be looked at: it goes on until it is cut."""
    with pytest.raises(Problem, match="predict_done"):
        load_dream(Experiment(rnn=Rnn(predict_done=False)), Run(tmp_path))
    reached = Dream(MDNRNN(Z, 1, H, K, predict_done=False), FIRST_FRAMES).rollout(linear, population(1), 4, 0, 1.0, 9)
    assert (reached.lengths == 9).all() and (reached.returns == 9).all()
