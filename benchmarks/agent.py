"""The real agent loop (game, V, M and C): many games as one batch against one game, step by step, eager."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from benchmarks.measure import Measurement, best_rate, in_float32
from controller.agent import Agent, AgentPlayer
from controller.policy import policy_from
from envs.actions import move, to_discrete
from envs.doom import DoomEnv
from envs.episodes import play
from envs.worlds import world_of
from experiment.backend import tf
from experiment.config import load_config
from rnn.model import MDNRNN, build_rnn
from vae.model import VAE

MAX_STEPS = 150
GAMES = 50


def measure() -> Iterator[Measurement]:
    """Tics a second of agents with fresh weights; what they do does not matter to the speed."""
    settings = load_config("configs/doom.yaml")
    vae, rnn, policy = VAE(settings.vae.z), build_rnn(settings), policy_from(settings)
    agent, world = Agent(vae, rnn, policy), world_of(settings)
    parameters = np.random.default_rng(0).normal(0, 0.1, policy.size)
    games = world.open(dataclasses.replace(settings.env, max_steps=MAX_STEPS), GAMES)
    seeds = range(GAMES)

    def batched() -> float:
        return float(play(world, games, AgentPlayer(agent, GAMES, parameters), seeds).lengths.sum())

    rate = best_rate(batched)
    games.close()
    env = DoomEnv(MAX_STEPS)
    with in_float32():
        vae, rnn = VAE(settings.vae.z), build_rnn(settings)
        plain = best_rate(lambda: plain_episode(env, vae, rnn, policy.act, parameters), repeats=2)
    env.close()
    yield Measurement("real agent, doom", "tics", rate, plain, "one game, batch 1, eager, float32")


def plain_episode(env: DoomEnv, vae: VAE, rnn: MDNRNN, act: object, parameters: np.ndarray) -> int:
    """One episode as earlier implementations play it; its tics."""
    random = np.random.default_rng(0)
    h = c = tf.zeros((1, rnn.hidden))
    frame, _ = env.reset(seed=0)
    steps, over = 0, False
    while not over:
        mu, logvar = vae.encode(tf.constant(frame)[None])
        z = mu + tf.exp(logvar / 2) * random.standard_normal(mu.shape)
        raw = act(tf.constant(parameters, tf.float32)[None], z, h, c)  # type: ignore[operator]
        executed = move(raw.numpy())
        frame, _, terminated, truncated, _ = env.step(int(to_discrete(executed)[0]))
        h, c = rnn.step(tf.concat([z, executed[:, None], [[float(steps == 0)]]], axis=1), h, c)
        steps, over = steps + 1, terminated or truncated
    return steps
