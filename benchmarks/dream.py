"""The dream: a whole generation with its controllers in one call, against one dream at a time, eager; and step by step."""

import time
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np

from benchmarks.measure import Measurement, best_rate, in_float32
from controller.policy import policy_from
from experiment.backend import tf
from experiment.config import load_config
from experiment.schema import Experiment
from rnn.dream import Dream, State
from rnn.mixture import sample
from rnn.model import MDNRNN, build_rnn
from rnn.starts import Starts
from rnn.stepping import Dreams

TEMPERATURE = 1.15
PLAIN_STEPS = 200


def measure() -> Iterator[Measurement]:
    """Of both experiments, and what the environments step, one dream against an eager one and many against whole ones."""
    for name in ("doom", "carracing"):
        yield measure_world(name)
    yield from map(measure_steps, (1, 64, 1024))


def measure_world(name: str) -> Measurement:
    """Dream steps a second, counting those of living dreams only, of an untrained M whose dreams end now and then."""
    settings = load_config(f"configs/{name}.yaml")
    dream, policy = new_dream(settings), policy_from(settings)
    population = (
        np.random.default_rng(1).normal(0, 0.1, (settings.controller.population, policy.size)).astype("float32")
    )

    def generation() -> float:
        episodes, longest = settings.controller.episodes, settings.dream.max_steps
        return float(dream.rollout(policy.act, population, episodes, 0, TEMPERATURE, longest).lengths.sum())

    rate = best_rate(generation)
    with in_float32():
        alone = new_dream(settings)
        plain = best_rate(lambda: plain_dream(alone, policy.act, population[:1]), repeats=2)
    model = dream.model
    flop = float(2 * (np.prod(model.kernel.shape) + np.prod(model.output_kernel.shape)))
    return Measurement(f"dream, {name}", "steps", rate, plain, "one dream, batch 1, eager, float32", flop)


def new_dream(settings: Experiment) -> Dream:
    """Of an untrained M whose dreams end now and then."""
    model = mortal(build_rnn(settings))
    mu, logvar = np.random.default_rng(0).normal(size=(2, 100, model.latent_size)).astype("float32")
    return Dream(model, Starts(mu, logvar, *np.zeros((2, 100, model.hidden), "float32")))


def measure_steps(number: int) -> Measurement:
    """Steps a second of processor time of `Dreams` of Doom, which begin again where they end, as in an environment."""
    settings = load_config("configs/doom.yaml")
    with in_float32() if number == 1 else nullcontext():
        dream = new_dream(settings)
    policy, steps = policy_from(settings), PLAIN_STEPS // (1 if number == 1 else 10)
    dreams, rows, raw = Dreams(dream, number, TEMPERATURE, 10**9), np.arange(number), np.zeros(number, "float32")
    dreams.generators = [np.random.default_rng(row) for row in rows]
    dreams.begin(rows)

    def play() -> float:
        for _ in range(steps):
            dreams.advance(raw, rows)
            dreams.begin(np.flatnonzero(dreams.died))
        return steps * number

    rate = best_rate(play, clock=time.process_time)
    population = np.zeros((number, policy.size), "float32")
    if number == 1:
        plain, what = (
            best_rate(lambda: plain_dream(dream, policy.act, population), 2, time.process_time),
            "eager, float32",
        )
    else:

        def whole() -> float:
            return float(
                dream.rollout(policy.act, population, 1, 0, TEMPERATURE, settings.dream.max_steps).lengths.sum()
            )

        plain, what = best_rate(whole, clock=time.process_time), "Dream.rollout of as many"
    return Measurement(f"dream environments, {number}", "steps", rate, plain, f"{what}; processor time")


def mortal(model: MDNRNN) -> MDNRNN:
    """The model with a done logit that passes 0 at random, so that dreams last from a few steps to all of them."""
    generator = np.random.default_rng(1)
    kernel, bias = model.output_kernel.numpy(), model.output_bias.numpy()
    kernel[:, -1], bias[-1] = generator.normal(0, 0.62, len(kernel)), -6.5
    model.kernel.assign(2 * model.kernel)
    model.output_kernel.assign(kernel)
    model.output_bias.assign(bias)
    return model


def plain_dream(dream: Dream, act: object, parameters: np.ndarray) -> int:
    """The steps of a dream as earlier implementations compute it; it goes on after its end, for a steady rate."""
    generator, model = np.random.default_rng(0), dream.model
    h = tf.zeros((1, model.hidden))
    state = State(tf.constant(dream.starts.mu[:1]), h, h)
    for step in range(PLAIN_STEPS):
        raw = act(tf.constant(parameters), *state)  # type: ignore[operator]
        h, c = model.observe(state.z, raw, tf.constant([float(step == 0)]), state.h, state.c)
        mixture, _, done_logit = model.head(h)
        uniform, normal = generator.random((1, model.latent_size)), generator.standard_normal((1, model.latent_size))
        z = sample(mixture, TEMPERATURE, tf.constant(uniform, tf.float32), tf.constant(normal, tf.float32))
        assert done_logit is not None
        bool(done_logit[0] > 0)  # the loop looks at every step whether the dream has ended
        state = State(z, h, c)
    return PLAIN_STEPS
