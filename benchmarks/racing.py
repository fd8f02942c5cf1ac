"""CarRacing: EnvPool's tracks against Gymnasium's, and how much of their speed is left to those who play on them."""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.measure import Measurement, best_rate
from controller.agent import Agent, AgentPlayer
from controller.policy import policy_from
from envs.carracing import CarRacingEnv
from envs.episodes import moments, play
from envs.pools import import_envpool
from envs.worlds import world_of
from experiment.config import load_config
from experiment.hardware import core_count
from experiment.run import Run
from extract.collect import collect
from extract.policies import make_policy
from rnn.model import build_rnn
from vae.model import VAE

STEPS = 250
GAMES = 128
EPISODES = 256
PLAIN_STEPS = 300


def measure() -> Iterator[Measurement]:
    """Steps a second, with the start of the episodes. The real agent is held against the same drives without it."""
    settings = load_config(
        "configs/carracing.yaml", None, [f"env.max_steps={STEPS}", f"repeat.max_steps={STEPS}", f"env.games={GAMES}"]
    )
    world = world_of(settings)
    policy = make_policy(world.actions, settings.extract)(np.random.default_rng(0))
    actions = np.array([world.execute(next(policy)) for _ in range(STEPS)])  # (STEPS, 3)
    alone = best_rate(lambda: bulk_alone(np.repeat(actions[:, None], GAMES, axis=1)))
    yield Measurement("EnvPool's tracks", "steps", alone, plain_rate(actions), "one of Gymnasium's environments")

    with tempfile.TemporaryDirectory() as folder:
        extract = dataclasses.replace(settings.extract, episodes=EPISODES, min_steps=1)
        began = time.perf_counter()
        figures = collect(dataclasses.replace(settings, extract=extract), Run(folder))
        rate = figures["steps"] / (time.perf_counter() - began)
    yield Measurement("extraction, carracing", "steps", rate, alone, "EnvPool's tracks alone")

    controller = policy_from(settings)
    agent = Agent(VAE(settings.vae.z), build_rnn(settings), controller)
    parameters = np.random.default_rng(0).normal(0, 0.1, controller.size)
    seeds = range(GAMES)
    driven = np.zeros((STEPS, GAMES, controller.actions), np.float32)
    with contextlib.closing(world.open(settings.env, GAMES, 0)) as vector:
        for step, moment in enumerate(moments(world, vector, AgentPlayer(agent, GAMES, parameters), iter(seeds))):
            driven[step, moment.episodes] = world.execute(moment.raw)
        rate = best_rate(
            lambda: float(play(world, vector, AgentPlayer(agent, GAMES, parameters), seeds).lengths.sum()), repeats=2
        )
    alone = best_rate(lambda: bulk_alone(driven), repeats=2)
    yield Measurement("real agent, carracing", "steps", rate, alone, "the same drives alone")


def bulk_alone(actions: np.ndarray) -> float:
    """The steps of GAMES of EnvPool's environments under actions (STEPS, GAMES, 3), their pictures left as they are."""
    pool = import_envpool("CarRacing")(
        "CarRacing-v3", num_envs=GAMES, seed=list(range(GAMES)), num_threads=core_count()
    )
    pool.reset()
    for action in actions:
        pool.step(action)
    return float(len(actions) * GAMES)


def plain_rate(actions: np.ndarray) -> float:
    """Steps a second of one of Gymnasium's environments, as earlier implementations use it."""
    env = CarRacingEnv(STEPS)
    env.reset(seed=0)
    began = time.perf_counter()
    for step in range(PLAIN_STEPS):
        *_, terminated, truncated, _ = env.step(actions[step % len(actions)])
        if terminated or truncated:
            env.reset(seed=step)
    env.close()
    return PLAIN_STEPS / (time.perf_counter() - began)
