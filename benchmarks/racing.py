"""CarRacing: the fast picture against Gymnasium's own, and how much of that speed is left to those who play."""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.measure import Measurement, best_rate
from controller.agent import Agent, AgentPlayer
from controller.policy import policy_from
from envs.carracing import CarRacingVector
from envs.episodes import moments, play
from envs.worlds import world_of
from experiment.config import load_config
from experiment.run import Run
from extract.collect import collect
from extract.policies import make_policy
from rnn.model import build_rnn
from vae.model import VAE

STEPS = 250
GAMES = 32
EPISODES = 256


def measure() -> Iterator[Measurement]:
    """Steps a second, with the start of the episodes. The real agent is held against the same drives without it."""
    settings = load_config(
        "configs/carracing.yaml", None, [f"env.max_steps={STEPS}", f"repeat.max_steps={STEPS}", f"env.games={GAMES}"]
    )
    world = world_of(settings)
    policy = make_policy(world.actions, settings.extract)(np.random.default_rng(0))
    actions = np.array([world.execute(next(policy)) for _ in range(STEPS)])  # (STEPS, 3)
    alone = best_rate(lambda: driven_alone(np.repeat(actions[:, None], GAMES, axis=1)))
    plain = best_rate(lambda: driven_alone(actions[:, None], own_picture=True), repeats=2)
    yield Measurement("carracing, fast picture", "steps", alone, plain, "Gymnasium's own, also on one core")

    with tempfile.TemporaryDirectory() as folder:
        extract = dataclasses.replace(settings.extract, episodes=EPISODES, min_steps=1)
        began = time.perf_counter()
        figures = collect(dataclasses.replace(settings, extract=extract), Run(folder))
        rate = figures["steps"] / (time.perf_counter() - began)
    yield Measurement("extraction, carracing", "steps", rate, alone, "the fast picture alone, on one core")

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
    alone = best_rate(lambda: driven_alone(driven), repeats=2)
    yield Measurement("real agent, carracing", "steps", rate, alone, "the same drives alone")


def driven_alone(actions: np.ndarray, own_picture: bool = False) -> float:
    """The steps of some games, one after the other in this process, under actions (STEPS, games, 3)."""
    games = actions.shape[1]
    with contextlib.closing(CarRacingVector(games, autoreset_mode="Disabled", own_picture=own_picture)) as vector:
        vector.reset(seed=list(range(games)))
        for action in actions:
            vector.step(action)
        return float(vector.steps.sum())
