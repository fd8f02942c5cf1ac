"""About how long each stage will take on this machine, told before the work begins.

The rates were measured on two cores with AVX-512 and AMX (see benchmarks/). For another machine they are
scaled by its cores (the game) or by a short matrix product (the networks), so 'about' means within a factor of two.
"""

import functools
import time
from dataclasses import dataclass

import numpy as np

from envs.worlds import world_of
from experiment.hardware import core_count, processor_name
from experiment.iterations import for_iteration
from experiment.schema import OFFLINE, Experiment
from extract.policies import describe_policy

REFERENCE_CORES = 2
REFERENCE_FLOPS = 320e9
"""float32 matrix product (2048, 2048) in numpy on the reference machine, FLOP/s."""
BF16, FLOAT32 = 0, 1


@dataclass(frozen=True)
class Rates:
    """How long episodes are and what the machine does a second: where bfloat16 is fast, as measured; in float32, roughly."""

    episode: int
    """Steps of a recorded episode."""
    agent_episode: int
    """Steps of an episode of a trained controller."""
    extract: tuple[int, int]  # steps
    vae: tuple[int, int]  # frames
    encode: tuple[int, int]  # frames
    rnn: tuple[int, int]  # frames
    dream: tuple[int, int]  # steps
    agent: tuple[int, int]  # steps, in the world that C is trained and tried in
    final: tuple[int, int]  # steps, in the one that is reported


RATES = {
    "doom": Rates(
        episode=305,
        agent_episode=850,
        extract=(7_900, 7_900),
        vae=(1_300, 600),
        encode=(24_000, 8_000),
        rnn=(36_000, 14_000),
        dream=(160_000, 50_000),
        agent=(2_700, 2_000),
        final=(2_700, 2_000),
    ),
    "carracing": Rates(
        episode=1_000,
        agent_episode=1_000,
        extract=(1_700, 1_700),
        vae=(1_300, 600),
        encode=(24_000, 8_000),
        rnn=(90_000, 40_000),
        dream=(300_000, 100_000),
        agent=(1_400, 1_200),
        final=(330, 330),
    ),
}
OFFLINE_EXTRACT = {"breakout": 2_500, "coinrun": 4_800}
"""Steps a second."""
NEXTFRAME_FLOPS = (450e9, 200e9)
"""FLOP/s that the next-frame model is trained with, in bfloat16 and in float32."""
START_SECONDS, VIDEO_SECONDS = 8, 40


def estimate(experiment: Experiment, iteration: int = 1) -> dict[str, tuple[str, float]]:
    """What each stage of an iteration is going to do, in words, and about how many seconds it takes here."""
    if experiment.env.name in OFFLINE:
        return estimate_offline(experiment)
    settings = for_iteration(experiment, iteration)
    column = BF16 if bfloat16_is_fast(settings) else FLOAT32
    cores, product = core_count() / REFERENCE_CORES, matmul_flops() / REFERENCE_FLOPS
    world, rates = world_of(settings), RATES[settings.env.name]

    def seconds(kind: str, amount: float) -> float:
        speed = cores if kind in ("extract", "final") else min(cores, product) if kind == "agent" else product
        return amount / (getattr(rates, kind)[column] * speed)

    e, v, m, c, last = settings.extract, settings.vae, settings.rnn, settings.controller, settings.evaluate
    lasted = min(rates.agent_episode, settings.env.max_steps)
    frames = recorded(experiment, iteration)
    earlier = sum(recorded(experiment, number) for number in range(1, iteration))
    dreamed = min(rates.agent_episode, settings.dream.max_steps) * c.population * c.episodes
    trials = (c.generations + c.real_generations) // c.trial_every * c.trial_episodes if c.trial_every else 0
    final = last.episodes * lasted + last.random_episodes * min(rates.episode, settings.env.max_steps)
    dreams = f"{c.generations} generations of {c.population} x {c.episodes} dreams" if c.generations else ""
    real = (
        f"{c.real_generations} of {c.real_population} x {c.real_episodes} real episodes" if c.real_generations else ""
    )
    return {
        "extract": (f"play {e.episodes:,} episodes: {describe_policy(e)}", seconds("extract", frames)),
        "vae": (f"train V: {v.steps:,} batches of {v.batch} frames", START_SECONDS + seconds("vae", v.steps * v.batch)),
        "vae.encode": (f"encode some {frames + earlier:,} frames", seconds("encode", frames + earlier)),
        "rnn": (
            f"train M: {m.steps:,} batches of {m.streams} x {m.window} frames" if m.train else "M stays untrained",
            START_SECONDS + seconds("rnn", m.steps * m.streams * m.window) if m.train else START_SECONDS,
        ),
        "controller": (
            f"evolve C: {', then '.join(part for part in (dreams, real) if part)}",
            seconds("dream", c.generations * dreamed)
            + seconds("agent", (trials + c.real_generations * c.real_population * c.real_episodes) * lasted),
        ),
        "controller.evaluate": (
            f"{last.episodes} real episodes, {last.dreams} dreams, {last.random_episodes} random {world.step}-by-{world.step} episodes",
            seconds("final", final)
            + seconds("dream", last.dreams * settings.dream.max_steps)
            + VIDEO_SECONDS * last.videos,
        ),
    }


def recorded(experiment: Experiment, iteration: int) -> int:
    """About how many frames an iteration records."""
    rates, e = RATES[experiment.env.name], for_iteration(experiment, iteration).extract
    episode = rates.episode if iteration == 1 else rates.agent_episode
    return e.episodes * min(episode, e.max_steps or experiment.env.max_steps)


def estimate_offline(settings: Experiment) -> dict[str, tuple[str, float]]:
    """The same for the worlds of the next-frame model."""
    column = BF16 if bfloat16_is_fast(settings) else FLOAT32
    e, t = settings.extract, settings.train
    rate = OFFLINE_EXTRACT[settings.env.name] * core_count() / REFERENCE_CORES
    steps = e.steps or e.episodes * 250
    flops = NEXTFRAME_FLOPS[column] * matmul_flops() / REFERENCE_FLOPS
    predicted = t.max_steps * t.batch * (t.unroll_from + (1 - t.unroll_from) * t.unroll)
    validations = -(-t.max_steps // t.val_every_steps)
    o = settings.openloop
    return {
        "extract": (f"play some {steps:,} steps: {describe_policy(e)}", START_SECONDS + steps / rate),
        "nextframe": (
            f"train the next-frame model: {t.max_steps:,} batches of {t.batch} windows",
            START_SECONDS
            + 3 * flop_of_a_frame(settings) * (predicted + validations * t.val_windows * t.unroll / 3) / flops
            + validations * (VIDEO_SECONDS / 8),
        ),
        "openloop": (
            f"predict {o.horizon} steps in {o.windows} held-out windows",
            START_SECONDS + VIDEO_SECONDS + 2 * flop_of_a_frame(settings) * o.windows * o.horizon / flops,
        ),
    }


def flop_of_a_frame(settings: Experiment) -> float:
    """FLOP of the unet's products for one predicted frame, roughly; training takes three times as many."""
    m, pixels = settings.model, settings.env.size**2
    channels = 1 if settings.env.grey else 3
    places, ends = pixels / m.patch**2, m.patch**2 * channels
    fine = 9 * (m.context * ends * m.channels + 4 * m.blocks * m.channels**2) + ends * m.channels
    coarse = (9 * (2 + 16 * m.blocks) + 8) * m.channels**2 / 4
    return 2 * places * (fine + coarse)


def bfloat16_is_fast(settings: Experiment) -> bool:
    """A guess from the processor's name and the settings, without loading TensorFlow."""
    precision = settings.hardware.precision
    name = processor_name()
    return precision == "bfloat16" or (precision == "auto" and ("BF16" in name or "AMX" in name))


@functools.cache
def matmul_flops(size: int = 2048, repeats: int = 4) -> float:
    """FLOP/s of numpy's float32 matrix product, the best of a few."""
    matrix = np.ones((size, size), np.float32)
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
