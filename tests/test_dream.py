"""The batched dream against a plain loop in float64, one dream at a time, with the same random numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rnn.dream
from experiment.problem import Problem
from rnn.dream import Dream, Starts, noise, tile_sizes
from rnn.model import MDNRNN

Z, H, K = 4, 16, 3
STARTS = Starts(*np.random.default_rng(0).normal(size=(2, 9, Z)).astype("float32"))


def small_model(done_bias: float = -0.8, policy: str = "float32") -> MDNRNN:
    """An M whose weights make dreams of very different lengths, some 20 steps on average."""
    keras.config.set_dtype_policy(policy)
    model = MDNRNN(latent_size=Z, action_size=1, hidden=H, mixtures=K, predict_done=True)
    keras.config.set_dtype_policy("float32")
    generator = np.random.default_rng(1)
    for variable, size in zip(model.weights, (0.6, 0.3, 0.6, 0.3), strict=True):
        variable.assign(generator.normal(size=variable.shape) * size)
    model.output_bias.assign(np.append(model.output_bias.numpy()[:-1], done_bias))
    return model


def linear(parameters, z, h, c):
    return tf.tanh(tf.reduce_sum(parameters * tf.concat([z, c, h], axis=1), axis=1))


def population(size: int) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(size, Z + 2 * H)).astype("float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def plain_dream(model, action, weights, episode, episodes, seed, temperature, max_steps):
    """One dream by the formulas, in float64: z that C saw, raw actions and done logits of its steps."""
    kernel, bias, output_kernel, output_bias = (variable.numpy().astype("float64") for variable in model.weights)
    uniform, normal = (np.float64(part)[episode] for part in noise(seed, -1, episodes, Z))
    chosen = int(uniform[0] * len(STARTS.mu))
    z = STARTS.mu[chosen] + np.exp(STARTS.logvar[chosen] / 2) * normal
    h, c = np.zeros((2, H))
    steps = []
    for step in range(max_steps):
        raw = np.tanh(weights @ np.concatenate([z, c, h]))
        seen = raw if action == "raw" else -1.0 if raw < -1 / 3 else 1.0 if raw > 1 / 3 else 0.0
        i, j, f, o = np.split(np.concatenate([z, [seen, step == 0], h]) @ kernel + bias, 4)
        c = c * sigmoid(f + 1) + sigmoid(i) * np.tanh(j)
        h = np.tanh(c) * sigmoid(o)
        outputs = h @ output_kernel + output_bias
        steps.append((z, raw, outputs[-1]))
        logits, mean, log_std = outputs[:-1].reshape(3, K, Z)
        uniform, normal = (np.float64(part)[episode] for part in noise(seed, step, episodes, Z))
        z = np.empty(Z)
        for d in range(Z):
            share = np.exp(logits[:, d] / temperature)
            k = int(np.searchsorted(np.cumsum(share / share.sum()), uniform[d], side="right"))
            z[d] = mean[k, d] + np.exp(log_std[k, d]) * np.sqrt(temperature) * normal[d]
        if outputs[-1] > 0:
            break
    return [np.array(part) for part in zip(*steps, strict=True)]


@pytest.fixture(scope="module")
def dream() -> Dream:
    """One for the tests that need nothing special: compiling takes a second."""
    return Dream(small_model(), STARTS)


@pytest.fixture
def tiny_tiles(monkeypatch):
    """Tiles and blocks so small that a dozen dreams fill several and are packed anew several times."""
    monkeypatch.setattr(rnn.dream, "TILES", (8, 4))
    monkeypatch.setattr(rnn.dream, "BLOCK", 8)


@pytest.mark.parametrize("action", ["executed", "raw"])
def test_dreams_are_those_of_a_plain_loop(action, tiny_tiles):
    model, parameters, episodes, seed, temperature, longest = small_model(), population(5), 3, 7, 1.2, 60
    dream = Dream(model, STARTS, action)
    lengths = dream.rollout(linear, parameters, episodes, seed, temperature, longest)
    trace = dream.trace(linear, parameters, episodes, seed, temperature, longest)
    for p, e in np.ndindex(lengths.shape):
        z, raw, done_logit = plain_dream(model, action, parameters[p], e, episodes, seed, temperature, longest)
        assert lengths[p, e] == trace.lengths[p, e] == len(z)
        np.testing.assert_allclose(trace.z[p, e, : len(z)], z, atol=1e-3)
        np.testing.assert_allclose(trace.raw[p, e, : len(z)], raw, atol=1e-3)
        np.testing.assert_allclose(trace.done_logit[p, e, : len(z)], done_logit, atol=1e-3)
    assert lengths.min() < 8 < 16 < lengths.max()  # dreams ended in several blocks
    assert trace.z.shape == (5, 3, lengths.max(), Z)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_slicing_the_population_changes_nothing(policy, tiny_tiles):
    dream, parameters = Dream(small_model(-0.9, policy), STARTS), population(8)
    whole = dream.rollout(linear, parameters, 3, 5, 1.0, 100)
    slices = [dream.rollout(linear, part, 3, 5, 1.0, 100) for part in np.split(parameters, [1, 3])]
    np.testing.assert_array_equal(np.concatenate(slices), whole)
    assert len(np.unique(whole)) > 5


def test_candidates_share_their_luck(dream):
    lengths = dream.rollout(linear, np.repeat(population(1), 3, axis=0), 20, 0, 1.0, 100)
    assert np.all(lengths == lengths[0]) and len(np.unique(lengths[0])) > 5


def test_seeds_differ(dream):
    first, second = (dream.rollout(linear, population(1), 20, seed, 1.0, 100) for seed in (0, 1))
    assert np.any(first != second)


def test_low_temperature_is_certain_and_high_is_not():
    dream = Dream(small_model(-100), STARTS)
    cold, warm, hot = (dream.trace(linear, population(1), 50, 0, temperature, 3).z for temperature in (1e-6, 1.0, 2.0))
    jumps = [np.abs(z[:, :, 1:] - cold[:, :, 1:]).mean() for z in (cold, warm, hot)]
    assert 0.1 < jumps[1] < jumps[2]
    outputs = np.array([-1.0, 2.0, 0.5] * 3, "float32").reshape(3, 3)  # logits, mean, log_std of K = 3, Z = 1
    _, normal = noise(0, 0, 50, Z)
    model = small_model(-100)
    model.output_kernel.assign(np.zeros(model.output_kernel.shape))
    model.output_bias.assign(np.append(np.repeat(outputs[:, :, None], Z, axis=2).ravel(), -100))
    z = Dream(model, STARTS).trace(linear, population(1), 50, 0, 0.01, 2).z[0, :, 1]  # (E, Z)
    np.testing.assert_allclose(z, 2.0 + np.exp(2.0) * 0.1 * normal, atol=1e-4)  # component 2: mean and log_std 2


@pytest.mark.parametrize(("done_bias", "length"), [(100, 1), (-100, 37)])
def test_all_dreams_end_at_once_or_never(done_bias, length):
    lengths = Dream(small_model(done_bias), STARTS).rollout(linear, population(2), 2, 0, 1.0, 37)
    np.testing.assert_array_equal(lengths, np.full((2, 2), length))
    assert lengths.dtype == np.int32


def test_one_dream(dream):
    lengths = dream.rollout(linear, population(1), 1, 3, 1.0, 100)
    assert lengths.shape == (1, 1)
    assert lengths[0, 0] == len(plain_dream(dream.model, "executed", population(1)[0], 0, 1, 3, 1.0, 100)[0])


def test_a_script_knows_the_step_and_the_episode(dream):
    def script(parameters, z, h, c, episode, step):
        return parameters[:, 0] + tf.cast(episode, tf.float32) / 10 + tf.cast(step, tf.float32) / 100

    trace = dream.trace(script, np.array([[0.0], [0.5]], "float32"), 3, 0, 1.0, 40)
    p, e, t = np.indices(trace.raw.shape)
    lived = t < trace.lengths[..., None]
    np.testing.assert_allclose(trace.raw[lived], (p / 2 + e / 10 + t / 100)[lived], atol=1e-6)
    assert lived.sum() > 50


def test_weights_are_read_anew():
    model = small_model(-100)
    dream = Dream(model, STARTS)
    before = dream.rollout(linear, population(1), 4, 0, 1.0, 50)
    model.output_bias.assign(np.append(model.output_bias.numpy()[:-1], 100))
    assert np.all(before == 50) and np.all(dream.rollout(linear, population(1), 4, 0, 1.0, 50) == 1)


def test_tiles_hold_all_dreams_with_little_room_to_spare():
    for rows in range(1, 3000):
        sizes = tile_sizes(rows)
        assert sum(sizes) >= rows > sum(sizes[:-1])
        assert sum(sizes) - rows <= max(rows / 3, 63)


def test_an_m_without_done_cannot_dream():
    with pytest.raises(Problem, match="predict_done"):
        Dream(MDNRNN(Z, 1, H, K, predict_done=False), STARTS)
