"""About how long each stage will take on this machine, told before the work begins.

The rates were measured on two cores with AVX-512 and AMX (see benchmarks/). For another machine they are
scaled by its cores (the game) or by a short matrix product (the networks), so 'about' means within a factor of two.
"""

import time

import numpy as np

from experiment.hardware import core_count, processor_name
from experiment.schema import Experiment

REFERENCE_CORES = 2
REFERENCE_FLOPS = 320e9
"""float32 matrix product (2048, 2048) in numpy on the reference machine, FLOP/s."""
TICS_AN_EPISODE, TICS_OF_AN_AGENT = 305, 850
"""Survival of held random play, and of a trained controller, in the dream and in the game."""

# Units a second: {stage: (where bfloat16 is fast, as measured; float32, roughly)}
RATES = {
    "extract": (7_900, 7_900),  # tics
    "vae": (1_300, 600),  # frames
    "vae.encode": (24_000, 8_000),  # frames
    "rnn": (36_000, 14_000),  # frames
    "dream": (160_000, 50_000),  # steps
    "agent": (2_700, 2_000),  # tics
}
START_SECONDS, VIDEO_SECONDS = 8, 40


def estimate(settings: Experiment) -> dict[str, tuple[str, float]]:
    """What each stage is going to do, in words, and about how many seconds it takes here."""
    column = 0 if bfloat16_is_fast(settings) else 1
    cores, product = core_count() / REFERENCE_CORES, matmul_flops() / REFERENCE_FLOPS

    def seconds(kind: str, amount: float) -> float:
        return amount / (
            RATES[kind][column] * (cores if kind == "extract" else min(cores, product) if kind == "agent" else product)
        )

    e, v, m, c, last = settings.extract, settings.vae, settings.rnn, settings.controller, settings.evaluate
    frames = e.episodes * TICS_AN_EPISODE
    dreamed = c.generations * c.population * c.episodes * TICS_OF_AN_AGENT
    trials = c.generations // c.real_every * c.real_episodes if c.real_every else 0
    final = last.episodes * TICS_OF_AN_AGENT + last.random_episodes * TICS_AN_EPISODE
    return {
        "extract": (f"play {e.episodes:,} episodes, actions {e.policy} at random", seconds("extract", frames)),
        "vae": (f"train V: {v.steps:,} batches of {v.batch} frames", START_SECONDS + seconds("vae", v.steps * v.batch)),
        "vae.encode": (f"encode some {frames:,} frames", seconds("vae.encode", frames)),
        "rnn": (
            f"train M: {m.steps:,} batches of {m.streams} x {m.window} frames",
            START_SECONDS + seconds("rnn", m.steps * m.streams * m.window),
        ),
        "controller": (
            f"evolve C in the dream: {c.generations} generations of {c.population} x {c.episodes} dreams",
            seconds("dream", dreamed) + seconds("agent", trials * TICS_OF_AN_AGENT),
        ),
        "controller.evaluate": (
            f"{last.episodes} episodes of the real game, {last.dreams} dreams, {last.random_episodes} random episodes",
            seconds("agent", final)
            + seconds("dream", last.dreams * settings.dream.max_steps)
            + VIDEO_SECONDS * last.videos,
        ),
    }


def bfloat16_is_fast(settings: Experiment) -> bool:
    """A guess from the processor's name and the settings, without loading TensorFlow."""
    precision = settings.hardware.precision
    name = processor_name()
    return precision == "bfloat16" or (precision == "auto" and ("BF16" in name or "AMX" in name))


def matmul_flops(size: int = 2048, repeats: int = 4) -> float:
    """FLOP/s of numpy's float32 matrix product, the best of a few."""
    matrix = np.ones((size, size), np.float32)
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
