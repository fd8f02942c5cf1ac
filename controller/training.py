"""Evolving C in the dream: whole generations at once, tried in the real game now and then (paper, section 4)."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from controller.evolution import Evolution, generation_seed
from controller.policy import LinearPolicy
from controller.weights import save_controller
from experiment.metrics import Metrics
from experiment.problem import Problem
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment
from rnn.dream import Dream


def cap(settings: Experiment, last_mean: float | None) -> int:
    """Steps after which the dreams of a generation are cut.

    With adaptive_cap, twice what the last generation reached on average (but at least cap_min, also in the
    first generation): early candidates die young, and a few that happen to survive would cost most of the time.
    """
    longest = settings.dream.max_steps
    if not settings.controller.adaptive_cap:
        return longest
    return int(np.clip(2 * (last_mean or 0), min(settings.controller.cap_min, longest), longest))


def evolve(
    settings: Experiment,
    folder: Run,
    dream: Dream,
    policy: LinearPolicy,
    trial: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, Any]:
    """Evolve C for controller.generations generations in a dream at dream.temperature, and write controller.h5.

    The number of generations is fixed in advance, and the mean of the last one is what is reported: no choice
    is made by looking at the real game. trial: from a controller (D,) to its returns in some real episodes;
    called every controller.real_every generations, so that dream and reality can be compared while C learns.
    The state is saved every generation; an interrupted evolution goes on from there to the same end.
    Returns the throughput for results.json.
    """
    wanted = settings.controller
    state = folder.checkpoints / "evolution.pickle"
    if state.exists():
        evolution = Evolution.load(state)
    else:
        evolution = Evolution(policy.size, wanted.sigma, wanted.population, wanted.seed, wanted.weight_decay)
    if evolution.mean.shape != (policy.size,):
        raise Problem(
            f"{state} evolves {len(evolution.mean)} parameters, but the settings make {policy.size}: use another folder (--run)"
        )
    steps = seconds = 0.0
    with (
        Metrics(folder.metrics / "controller.csv", folder.tensorboard / "controller", evolution.generation) as metrics,
        Metrics(
            folder.metrics / "controller_real.csv", folder.tensorboard / "controller_real", evolution.generation
        ) as trials,
        Progress("evolving C", wanted.generations, "generations", evolution.generation) as bar,
    ):
        while evolution.generation < wanted.generations:
            generation = evolution.generation + 1
            began = time.monotonic()
            longest = cap(settings, evolution.last_mean_return)
            seed = generation_seed(wanted.seed, generation)
            lengths = dream.rollout(
                policy.act, evolution.ask(), wanted.episodes, seed, settings.dream.temperature, longest
            )  # (P, E)
            returns = lengths.mean(axis=1)  # (P,)
            evolution.tell(returns)
            spent = time.monotonic() - began
            steps, seconds = steps + float(lengths.sum()), seconds + spent
            line = (
                f"generation {generation}: {returns.mean():,.0f} tics in the dream ({returns.min():,.0f} to "
                f"{returns.max():,.0f}, cut at {longest:,}), sigma {evolution.sigma:.3f}, {lengths.sum() / spent:,.0f} steps/s"
            )
            due = wanted.real_every and generation % wanted.real_every == 0
            real = trial(evolution.mean) if trial is not None and due else None
            evolution.seconds += time.monotonic() - began
            if real is not None:
                deviation = real.std(ddof=1) if len(real) > 1 else 0.0
                trials.write(generation, mean=real.mean(), std=deviation, episodes=len(real), elapsed=evolution.seconds)
                line += f"; the CMA-ES mean in {len(real)} real episodes: {real.mean():,.0f} ± {deviation:,.0f}"
            metrics.write(
                generation, seconds=spent, elapsed=evolution.seconds, steps_per_second=lengths.sum() / spent,
                mean=returns.mean(), min=returns.min(), max=returns.max(), std=returns.std(), sigma=evolution.sigma, cap=longest,
            )  # fmt: skip
            evolution.save(state)
            save_controller(folder.controller, policy, evolution)
            bar.say(line)
            bar.update(1)
            if lengths.min() == settings.dream.max_steps:
                bar.say(
                    "every dream of this generation lasted to its end: M has not learnt how episodes end; train it longer"
                )
    save_controller(folder.controller, policy, evolution)  # also where the last process died between two files
    return {
        "generations": evolution.generation,
        "dream_steps": int(steps),
        "dream_steps_per_second": round(steps / seconds) if seconds else None,
    }
