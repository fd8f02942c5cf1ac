"""In which directions C is searched for: controller.active_only and controller.components.

Where C is linear in what it sees, CMA-ES need not evolve every weight by itself. M's c and h have hundreds of numbers
that go together, and in Doom some of c's vary by 22 (standard deviation), no h by more than 0.8: with equal steps in all
weights, C hears little but a few of c's. In principal components, each divided by its standard deviation, a step is worth as much in every
direction, and far fewer directions are enough.
"""

import numpy as np

from controller.policy import Policy
from experiment.run import Run
from experiment.schema import Experiment
from rnn.model import MDNRNN, load_rnn
from rnn.starts import remembered
from vae.latents import Latents

MOMENTS = 20_000  # of recorded episodes that M's states are sampled at
STILL = 1e-8  # the variance of a component in which nothing goes on


def search_basis(settings: Experiment, run: Run, policy: Policy) -> np.ndarray | None:
    """The basis of the controller.evolution.Space that C is searched for in, (D,) or (D, K) float32; None: every weight by itself."""
    wanted = settings.controller
    if not (wanted.active_only or wanted.components):
        return None
    latents = Latents.load(run.latents)
    free = policy.seeing(latents.active()) if wanted.active_only else np.ones(policy.size, "float32")
    if not wanted.components:
        return free
    states = memories(settings, latents, load_rnn(run, settings))
    parts = {name: principal_components(states[name], wanted.components) for name in policy.inputs if name != "z"}
    basis = free[:, None] * policy.basis(parts)
    return basis[:, basis.any(axis=0)]


def memories(settings: Experiment, latents: Latents, model: MDNRNN) -> dict[str, np.ndarray]:
    """M's c and h at moments of recorded episodes, (N, H) each: from their first step on to where half of them have ended."""
    newest = latents.lengths[-latents.groups[-1] :]
    latest = max(int(np.median(newest)) - 1, 0)
    moments = remembered(settings, latents, model, min(1, latest), latest, MOMENTS)
    return {"c": moments.c, "h": moments.h}


def principal_components(states: np.ndarray, count: int) -> np.ndarray:
    """The directions in which states (N, H) vary most, each divided by its standard deviation: (H, count or fewer) float32."""
    centred = (states - states.mean(axis=0)).astype("float64")
    variance, axes = np.linalg.eigh(centred.T @ centred / len(states))  # the smallest first
    kept = [index for index in range(len(variance))[::-1][:count] if variance[index] > STILL]
    return (axes[:, kept] / np.sqrt(variance[kept])).astype("float32")
