"""Workers that are kept: a short generation in the real world, against workers that are started for it."""

import dataclasses
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.measure import Measurement, best_rate
from controller.agent import Agent
from controller.policy import policy_from
from controller.real import RealWorld
from experiment.config import load_config
from experiment.run import Run
from experiment.schema import Workers
from rnn.model import build_rnn
from vae.model import VAE

STEPS = 10
EPISODES = 8


def measure() -> Iterator[Measurement]:
    """Calls a second that are nearly all overhead: eight drives of ten steps."""
    yield measure_backend("local")
    if find_spec("ray"):
        yield measure_backend("ray")


def measure_backend(backend: Literal["local", "ray"]) -> Measurement:
    """On two processes of this machine, or on a Ray cluster of it."""
    settings = load_config("configs/carracing.yaml")
    env = dataclasses.replace(settings.env, max_steps=STEPS)
    settings = dataclasses.replace(settings, env=env, workers=Workers(backend=backend, processes=2))
    controller = policy_from(settings)
    parameters = np.random.default_rng(0).normal(0, 0.1, (EPISODES, controller.size)).astype("float32")
    with RealWorld(settings, Run(Path())) as world:
        world.agent = Agent(VAE(settings.vae.z), build_rnn(settings), controller)

        def call() -> float:
            world.play(parameters, range(EPISODES))
            return 1.0

        began = time.perf_counter()
        anew = call() / (time.perf_counter() - began)
        kept = best_rate(call)
    return Measurement(f"short calls, {backend}", "calls", kept, anew, "workers started for the call")
