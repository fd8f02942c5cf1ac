"""The reported figures of a run: its CMA-ES mean in the real game and in the dream, and the random policy."""

from typing import Any

import numpy as np

from controller.evolution import generation_seed
from controller.policy import LinearPolicy, policy_from
from controller.real import RealGame
from controller.report import save_losses, save_survival, save_training, save_videos
from controller.scores import Record, once, published_rows, row, table
from controller.weights import Controller, load_controller
from experiment.hardware import prepare
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment
from rnn.dream import Dream, load_dream


def held_out_seeds(settings: Experiment, count: int) -> list[int]:
    """The first `count` seeds that neither training nor trials ever use."""
    return [settings.evaluate.seed + i for i in range(count)]


def measure_game(game: RealGame, controller: Controller, run: Run, *keys: str) -> Record:
    """The CMA-ES mean in evaluate.episodes episodes of the real game, on held-out seeds."""
    seeds = held_out_seeds(game.settings, game.settings.evaluate.episodes)
    of = {**described(controller), "max_steps": game.settings.env.max_steps, "seeds": seeds}

    def measure() -> np.ndarray:
        with Progress("playing the real game", len(seeds), "episodes") as bar:
            return game.returns(controller.mean, seeds, bar.update)

    return once(run, keys, of, measure)


def measure_random(game: RealGame, run: Run, *keys: str) -> Record:
    """The random policy, a new action every tic as in the paper, on held-out seeds."""
    seeds = held_out_seeds(game.settings, game.settings.evaluate.random_episodes)
    of = {"policy": "random action every tic", "max_steps": game.settings.env.max_steps, "seeds": seeds}

    def measure() -> np.ndarray:
        with Progress("the random policy in the real game", len(seeds), "episodes") as bar:
            return game.returns(None, seeds, bar.update)

    return once(run, keys, of, measure)


def measure_dream(
    settings: Experiment,
    dream: Dream,
    policy: LinearPolicy,
    controller: Controller,
    temperature: float,
    run: Run,
    *keys: str,
) -> Record:
    """The CMA-ES mean in evaluate.dreams dreams at a temperature, on a seed that no generation was dreamed with."""
    of = {
        **described(controller),
        "temperature": temperature,
        "max_steps": settings.dream.max_steps,
        "seed": generation_seed(settings.evaluate.seed, 0),
        "n": settings.evaluate.dreams,
    }

    def measure() -> np.ndarray:
        return dream.rollout(policy.act, controller.mean[None], of["n"], of["seed"], temperature, of["max_steps"])[0]

    return once(run, keys, of, measure)


def described(controller: Controller) -> Record:
    """Which controller a record is of."""
    return {"controller": controller.fingerprint, "generation": controller.generation}


def evaluate(settings: Experiment, run: Run) -> dict[str, Any]:
    """Measure what is not yet measured, print the table beside the published one, and draw plots and videos."""
    prepare(settings.hardware)
    policy = policy_from(settings)
    controller = load_controller(run.controller, policy)
    temperature = settings.dream.temperature
    with RealGame(settings, run) as game:
        dream = load_dream(settings, run)
        in_dream = measure_dream(settings, dream, policy, controller, temperature, run, "dream")
        in_game = measure_game(game, controller, run, "game")
        random = measure_random(game, run, "random")
        save_training(run)
        save_losses(run)
        save_survival(run, in_game, in_dream, random)
        if settings.evaluate.videos:
            save_median_videos(game, dream, policy, controller, in_game, in_dream)
    name = f"this run, CMA-ES mean of generation {controller.generation}, τ {temperature:.2f}"
    ours = [row(name, in_dream, in_game), row("random policy, measured here", None, random)]
    print(table(ours, published_rows("doom"), "survival in tics"))
    print(f"n = {in_game['n']} games, {in_dream['n']} dreams, {random['n']} random games; all returns in {run.results}")
    print(f"plots in {run.plots}, videos in {run.videos}", flush=True)
    return {"episodes": in_game["n"] + random["n"], "dreams": in_dream["n"]}


def save_median_videos(
    game: RealGame, dream: Dream, policy: LinearPolicy, controller: Controller, in_game: Record, in_dream: Record
) -> None:
    """Play the game and the dream of median length again, and film them."""
    recording = game.record(controller.mean, in_game["seeds"][median_index(in_game["returns"])])
    counted = [in_dream[name] for name in ("n", "seed", "temperature", "max_steps")]
    trace = dream.trace(policy.act, controller.mean[None], *counted)
    episode = median_index(in_dream["returns"])
    z = trace.z[0, episode, : trace.lengths[0, episode]]  # (T, Z)
    labels = {
        "game": f"the game, {len(recording.z):,} tics",
        "dream": f"a dream, τ {in_dream['temperature']:g}, {len(z):,} tics",
    }
    save_videos(game.run, game.agent.vae, recording, z, labels)


def median_index(returns: list[float]) -> int:
    """Which episode is the median one."""
    return int(np.argsort(returns, kind="stable")[len(returns) // 2])
