"""About how long each stage will take on this machine, told before the work begins.

A stage has its `Work`, amounts of kinds that a world has rates of, and what it costs whatever the amounts (FIXED).
Networks are as fast as a short matrix product is here, by rates measured on three classes of processors; games and
seconds go by a short loop, and games by the cores too.
"""

import functools
import timeit

import numpy as np

from envs.worlds import dream_steps, world_of
from experiment.hardware import core_count, processor_name
from experiment.schema import OFFLINE, Experiment, for_iteration
from extract.policies import describe_policy

REFERENCE_CORES = 2
REFERENCE_LOOP = 0.0064  # seconds of `loop_seconds` on the machine that fixed costs were measured on
# Classes of processors: bfloat16 with AMX; with AVX512_BF16; no bfloat16, or hardware.precision=float32.
AMX, BF16, FLOAT32 = 0, 1, 2
# Of each class's reference machine, two cores: numpy's float32 matrix product (2048, 2048), FLOP/s.
REFERENCE_FLOPS = (320e9, 199e9, 145e9)

FLOP = (450e9, 300e9, 75e9)
"""FLOP/s that the next-frame model is trained with, on the reference machine of each class; a world's rates are in envs.worlds."""
FIXED = {
    "extract": 5.0, "vae": 13.0, "vae.encode": 2.0, "rnn": 18.0, "controller": 12.0, "controller.evaluate": 26.0,
    "nextframe": 20.0, "openloop": 15.0,
}  # fmt: skip
"""Seconds that a stage with work takes whatever the amounts: importing TensorFlow (where it is first needed), compiling, pictures, games."""
VALIDATION = 4.0  # seconds that V's figures and pictures at the end of an epoch take
FILM = 0.006  # seconds that a frame of a video takes: decoded, composed, and encoded twice
LEARNING = 40  # generations in which C's episodes grow from those of random play to those of a trained C
FORWARD = 3  # times as fast as training are predictions, which validations and M's teacher-forced figures are made of

Work = tuple[str, dict[str, float]]
"""What a stage is going to do: in words, and how much of each kind in a world's rates, or of "flop" or "second"."""


def estimate(experiment: Experiment, iteration: int = 1) -> dict[str, tuple[str, float]]:
    """What each stage of an iteration is going to do, in words, and about how many seconds it takes here."""
    settings = for_iteration(experiment, iteration)
    offline = settings.env.name in OFFLINE
    works = offline_works(settings) if offline else agent_works(experiment, settings, iteration)
    processor, slow = processor_class(settings), loop_seconds() / REFERENCE_LOOP
    networks = matmul_flops() / REFERENCE_FLOPS[processor]
    games = (settings.hardware.threads or core_count()) / REFERENCE_CORES / slow

    def seconds(kind: str, amount: float) -> float:
        if kind == "second":
            return amount * slow
        rate = FLOP if kind == "flop" else getattr(world_of(settings).rates, kind)
        of_class, speed = (rate[processor], networks) if isinstance(rate, tuple) else (rate, games)
        return float(amount / (of_class * (min(games, networks) if kind == "agent" else speed)))

    return {
        stage: (text, FIXED[stage] * slow * bool(amounts) + sum(seconds(*item) for item in amounts.items()))
        for stage, (text, amounts) in works.items()
    }


def agent_works(experiment: Experiment, settings: Experiment, iteration: int) -> dict[str, Work]:
    """What the stages of V, M and C do in an iteration, whose settings are given beside those of the whole experiment."""
    world = world_of(settings)
    untrained, trained = world.rates.random, world.rates.agent_episode
    e, v, m, c, last = settings.extract, settings.vae, settings.rnn, settings.controller, settings.evaluate
    longest, dreams = settings.env.max_steps, dream_steps(settings)
    lasted, random, dreamed = min(trained, longest), min(untrained, longest), min(trained, dreams)
    frames = recorded(experiment, iteration)
    seen = sum(recorded(experiment, number) for number in range(1, iteration + 1))
    encoded = seen if v.steps else frames
    taught = m.steps * m.streams * m.window + (m.epochs + 1) * seen * settings.data.val_ratio / FORWARD
    compared = (m.check_episodes or world.compared) * (1 + len(world.fixed)) * min(random, dreams)
    trials = (c.generations + c.real_generations) // c.trial_every * c.trial_episodes if c.trial_every else 0
    grown = c.generations / (2 * LEARNING) if c.generations < LEARNING else 1 - LEARNING / (2 * c.generations)
    learnt = min(untrained, dreams) * (1 - grown) + dreamed * grown
    learnt = dreams if settings.dream.done == "expected" else learnt
    evolved = [
        f"{count} generation{'s' * (count > 1)} of {population} x {episodes} {what}"
        for count, population, episodes, what in (
            (c.generations, c.population, c.episodes, "dreams"),
            (c.real_generations, c.real_population, c.real_episodes, "real episodes"),
        )
        if count
    ]
    played = trials + c.real_generations * c.real_population * c.real_episodes
    filmed, shown = ((3 if last.extremes else 1) * lasted, dreamed) if last.videos else (0, 0)
    amount = f"some {e.steps:,} steps" if e.steps else f"{e.episodes:,} episodes"
    training = f"train M: {m.steps:,} batches of {m.streams} x {m.window} frames" if m.train else "M stays untrained"
    episodes = f"{last.episodes} real episodes, {last.dreams} dreams, {last.random_episodes} random"
    final = last.episodes * lasted + last.random_episodes * random
    drawn = (last.random_controllers * c.real_episodes + last.episodes) * random if last.random_controllers else 0
    return {
        "extract": (
            f"play {amount}: {describe_policy(e)}",
            {"agent" if e.policy in ("agent", "networks") else "extract": frames},
        ),
        "vae": (
            f"train V: {v.steps:,} batches of {v.batch} frames" if v.steps else "V stays as it is",
            {"vae": v.steps * v.batch, "second": VALIDATION * v.epochs} if v.steps else {},
        ),
        "vae.encode": (f"encode some {encoded:,} frames", {"encode": encoded}),
        "rnn": (training, {"rnn": taught, "dream": compared, "blind": compared} if m.train else {}),
        "controller": (
            f"evolve C: {', then '.join(evolved)}",
            {"dream": c.generations * learnt * c.population * c.episodes, "agent": played * lasted},
        ),
        "controller.evaluate": (
            f"{episodes} {world.step}-by-{world.step} episodes",
            {
                "final": final,
                "agent": drawn,
                "alone": filmed,
                "dream": last.dreams * dreams,
                "second": FILM * (filmed + shown),
            },
        ),
    }


def recorded(experiment: Experiment, iteration: int) -> int:
    """About how many frames an iteration records."""
    e, rates = for_iteration(experiment, iteration).extract, world_of(experiment).rates
    lasts = rates.episode if iteration == 1 else rates.agent_episode
    return e.steps or e.episodes * min(lasts, e.max_steps or experiment.env.max_steps)


def offline_works(settings: Experiment) -> dict[str, Work]:
    """What the stages of the next-frame model do."""
    e, t, o = settings.extract, settings.train, settings.openloop
    steps = e.steps or e.episodes * world_of(settings).rates.episode
    predicted = t.batch * t.max_steps * (t.unroll_from + (1 - t.unroll_from) * t.unroll)
    validations = -(-t.max_steps // t.val_every_steps)
    flop, compared = flop_of_a_frame(settings), o.windows * o.horizon
    validated = validations * (t.val_windows * t.unroll + 3 * t.video_steps)
    return {
        "extract": (f"play some {steps:,} steps: {describe_policy(e)}", {"extract": steps}),
        "nextframe": (
            f"train the next-frame model: {t.max_steps:,} batches of {t.batch} windows",
            {"flop": flop * (FORWARD * predicted + validated), "second": VALIDATION * validations},
        ),
        "openloop": (f"predict {o.horizon} steps in {o.windows} held-out windows", {"flop": 2 * flop * compared}),
    }


def flop_of_a_frame(settings: Experiment) -> float:
    """FLOP of the unet's products for one predicted frame, roughly; training takes three times as many."""
    m, pixels = settings.model, settings.env.size**2
    channels = 1 if settings.env.grey else 3
    places, ends = pixels / m.patch**2, m.patch**2 * channels
    fine = 9 * (m.context * ends * m.channels + 4 * m.blocks * m.channels**2) + ends * m.channels
    coarse = (9 * (2 + 16 * m.blocks) + 8) * m.channels**2 / 4
    return 2 * places * (fine + coarse)


def processor_class(settings: Experiment) -> int:
    """A guess from the processor's name and the settings, without loading TensorFlow."""
    name = processor_name()
    if settings.hardware.precision == "float32":
        return FLOAT32
    return AMX if "AMX" in name else BF16 if "BF16" in name else FLOAT32


@functools.cache
def matmul_flops() -> float:
    """FLOP/s of numpy's float32 matrix product, the best of a few."""
    matrix = np.ones((2048, 2048), np.float32)
    return 2 * 2048**3 / min(timeit.repeat(lambda: matrix @ matrix, number=1, repeat=4))


@functools.cache
def loop_seconds() -> float:
    """Seconds of a short loop in Python, the best of a few: what one core is worth for all that is no matrix product."""
    return min(timeit.repeat(lambda: sum(number * number for number in range(100_000)), number=1, repeat=10))
