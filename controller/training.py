"""Evolving C: whole generations at once, in the dream (paper, section 4), in the real world (section 3), or first
there and then here; the CMA-ES mean is tried in the real world now and then. Where a generation is tried is an arena.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from controller.arenas import Arena, InDream, InReal
from controller.components import search_basis
from controller.evolution import Evolution, everywhere
from controller.policy import Policy, load_controller, policy_from
from controller.real import RealWorld
from controller.scores import counted, summary
from envs.episodes import Played
from envs.worlds import dream_steps, world_of
from experiment.arrays import written
from experiment.hardware import prepare
from experiment.metrics import Metrics, read_metrics
from experiment.problem import Problem
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment
from rnn.dream import Outcome, load_dream


def saved(folder: Run, name: str) -> Path:
    """Where the state of the evolution in the arena of that name is kept.

    Raises Problem where there is only that of an earlier version, a pickle: whoever loads one runs what it says.
    """
    path = folder.checkpoints / ("evolution.npz" if name == "dream" else f"evolution_{name}.npz")
    old = path.with_suffix(".pickle")
    if old.exists() and not path.exists():
        raise Problem(
            f"{old} was saved by an earlier version as a pickle, which may run anything and is not read any more: go on with "
            "that version, or delete it to evolve from generation 1 again"
        )
    return path


def begun(state: Path, arena: Arena, start: Evolution | np.ndarray | None, basis: np.ndarray | None) -> Evolution:
    """The evolution that is saved in that file, or a new one from `start` on: see evolve."""
    size, wanted = arena.policy.size, arena.settings.controller
    space = everywhere(size) if basis is None else everywhere(size)._replace(basis=basis)
    if state.exists():
        evolution = Evolution.load(state)
        if (done := evolution.generation) > arena.generations:
            raise Problem(
                f"{state} has {done} generations, more than the {arena.generations} that are asked for: ask for {done} or more, or "
                "use another folder (--run)"
            )
    else:
        sigma = wanted.sigma if start is None else arena.sigma
        if start is not None:
            weights = start.mean if isinstance(start, Evolution) else start
            space = space._replace(origin=weights * (space.basis.reshape(size, -1) != 0).any(axis=1))
        evolution = Evolution(space, sigma, arena.population, wanted.seed, wanted.weight_decay, wanted.diagonal)
        if start is not None:
            evolution.last_length = float("inf")  # C has learnt already: its first generation is not cut
        if isinstance(start, Evolution):
            evolution.follow(start)
    if evolution.mean.shape != (size,):
        raise Problem(
            f"{state} evolves {len(evolution.mean)} parameters, but the settings make {size}: use another folder (--run)"
        )
    if space.basis.ndim == 1:  # earlier versions did not save it
        evolution.space = evolution.space._replace(basis=space.basis)
    return evolution


def try_generation(arena: Arena, evolution: Evolution) -> tuple[Outcome, dict[str, float]]:
    """Let the next population play in the arena, and CMA-ES learn from it: what was played, and numbers of it."""
    began, cap = time.monotonic(), arena.cap(evolution.last_length)
    tried = arena(evolution.ask(), evolution.before + evolution.generation + 1, evolution.last_length)
    returns, steps = tried.returns.mean(axis=1), int(tried.lengths.sum())  # (P,)
    evolution.tell(returns)
    evolution.last_length = float(tried.lengths.mean())
    evolution.steps += steps
    seconds = time.monotonic() - began
    return tried, {
        "seconds": seconds, "steps": evolution.steps, "steps_per_second": steps / seconds, "mean": returns.mean(),
        "min": returns.min(), "max": returns.max(), "std": returns.std(), "sigma": evolution.sigma, "cap": cap,
        "real": float(arena.name == "real"),
    }  # fmt: skip


def evolve(
    folder: Run,
    arena: Arena,
    trial: Callable[[np.ndarray], Played] | None = None,
    start: Evolution | np.ndarray | None = None,
    basis: np.ndarray | None = None,
) -> Evolution:
    """Evolve C for as many generations as the arena is given, and write controller.h5.

    The number of generations is fixed in advance, and the mean of the last one is what is reported: no choice
    is made by looking at the real world. trial: lets a controller (D,) play some real episodes;
    called every controller.trial_every generations, so that dream and reality can be compared while C learns, in
    controller_both.csv counted alike.
    start: what to go on from, an evolution in another arena or a controller (D,); zeros if not given. basis: of the Space
    to search in, as `search_basis` gives it.
    The state is saved every generation; an interrupted evolution goes on from there to the same end.
    """
    settings, world, state = arena.settings, world_of(arena.settings), saved(folder, arena.name)
    every, digits = settings.controller.trial_every, f",.{world.digits}f"
    evolution = begun(state, arena, start, basis)
    done = evolution.before + evolution.generation
    with contextlib.ExitStack() as opened:
        metrics, trials, both = (
            opened.enter_context(Metrics(folder.metrics / f"{name}.csv", folder.tensorboard / name, done))
            for name in ("controller", "controller_real", "controller_both")
        )
        title, units = f"evolving C, {arena.name}", "generations"
        bar = opened.enter_context(Progress(title, arena.generations, units, evolution.generation))
        while evolution.generation < arena.generations:
            began = time.monotonic()
            if reasons := evolution.restart_if_degenerate():
                sigma = evolution.sigma
                bar.say(f"CMA-ES could not go on ({reasons}): it begins anew around its mean, sigma {sigma:.3f}")
            tried, row = try_generation(arena, evolution)
            generation, last = evolution.before + evolution.generation, evolution.generation == arena.generations
            due = every and (generation % every == 0 or last)
            real = trial(evolution.mean) if trial is not None and due else None
            evolution.seconds += time.monotonic() - began
            line = (
                f"generation {generation}: {world.score} {row['mean']:{digits}}, {arena.name} ({row['min']:{digits}} to "
                f"{row['max']:{digits}}, cut at {row['cap']:,}), sigma {row['sigma']:.3f}, {row['steps_per_second']:,.0f} steps/s"
            )
            if real is not None:
                played = summary(real.returns)
                trials.write(
                    generation, mean=played["mean"], std=played["std"], episodes=played["n"],
                    elapsed=evolution.seconds, steps=evolution.steps,
                )  # fmt: skip
                line += f"; the CMA-ES mean in {played['n']} real episodes: {played['mean']:{digits}} ± {played['std']:{digits}}"
                if isinstance(arena, InDream):
                    dreamt, like = summary(arena.trial(evolution.mean)), summary(counted(settings, real))
                    both.write(
                        generation, dream=dreamt["mean"], dream_error=dreamt["standard_error"],
                        real=like["mean"], real_error=like["standard_error"],
                    )  # fmt: skip
                    line += f", in {dreamt['n']} dreams: {dreamt['mean']:{digits}} ± {dreamt['std']:{digits}}"
            metrics.write(generation, elapsed=evolution.seconds, **row)
            evolution.save(state)
            save_controller(folder.controller, arena.policy, evolution)
            bar.say(line)
            bar.update(1)
            survive = arena.name == "dream" and settings.rnn.predict_done and not settings.rnn.predict_reward
            # As many steps as a dream has, or, with dream.done=expected, all but as many.
            if survive and tried.returns.min() > dream_steps(settings) - 0.5:
                bar.say(
                    "every dream of this generation lasted to its end: M has not learnt how episodes end; train it longer"
                )
    save_controller(folder.controller, arena.policy, evolution)  # also where the last process died between two files
    return evolution


def save_controller(path: Path, policy: Policy, evolution: Evolution) -> None:
    """Write controller.h5, as load_controller reads it: the CMA-ES mean, with its policy."""
    with written(path, libver="earliest") as (file, _):
        file["mean"] = evolution.mean
        file.attrs.update(
            generation=evolution.before + evolution.generation, sigma=evolution.sigma,
            inputs=" ".join(policy.inputs), bias=policy.bias, actions=policy.actions, hidden=policy.hidden,
        )  # fmt: skip


def evolve_all(settings: Experiment, folder: Run) -> dict[str, Any]:
    """What `python -m controller` does: evolve in the dream, then in the real world, as many generations as are asked for.

    A later iteration begins with the controller of the one before. Returns the throughput for results.json. Raises
    Problem if what is asked for would put another controller in the place of one that something was made of since.
    """
    prepare(settings.hardware, folder)
    wanted, policy = settings.controller, policy_from(settings)
    start: Evolution | np.ndarray | None = None
    if folder.previous is not None:
        start = load_controller(folder.previous.controller, policy).mean
    check_that_nothing_depends_on(settings, folder)
    basis = search_basis(settings, folder, policy)
    gone_on = saved(folder, "real").exists()
    with RealWorld(settings, folder) as world:
        if wanted.generations and not gone_on:
            start = evolve(folder, InDream(settings, load_dream(settings, folder), policy), world.trial, start, basis)
        if wanted.real_generations:
            evolve(folder, InReal(world), world.trial, start, basis)
    return {"generations": wanted.generations + wanted.real_generations, **throughput(folder)}


def check_that_nothing_depends_on(settings: Experiment, folder: Run) -> None:
    """Raise Problem if C would be evolved further in an arena, though something has gone on from where it left C."""
    wanted, real = settings.controller, saved(folder, "real")
    if real.exists() and not wanted.real_generations:
        raise Problem(
            f"{folder.path} has gone on in the real world, which only the last iteration does: ask for no more iterations than "
            f"it was made with, or delete {real} to give up what C learnt there"
        )
    if real.exists() and (before := Evolution.load(real).before) != wanted.generations:
        raise Problem(
            f"{folder.path} has gone on in the real world after generation {before}: ask for controller.generations={before}, "
            f"or delete {real} to begin there anew after more dreams"
        )
    following = folder.at(folder.iteration + 1)
    if not following.record("extract").exists():
        return
    for name, where, asked in (
        ("dream", "the dream", wanted.generations),
        ("real", "the real world", wanted.real_generations),
    ):
        done = Evolution.load(state).generation if (state := saved(folder, name)).exists() else 0
        if done < asked:
            raise Problem(
                f"{following.path} was recorded with the controller of {folder.path} after {done} generations in {where}, not "
                f"{asked}: ask for as many, or delete {following.path} to go on from there anew"
            )


def throughput(folder: Run) -> dict[str, Any]:
    """Steps in each arena, the seconds that the generations took there, without trials, and steps a second."""
    table = read_metrics(folder.metrics / "controller.csv")
    figures: dict[str, Any] = {}
    for name, real in (("dream", 0), ("real", 1)):
        rows = table["real"] == real
        if seconds := float(table["seconds"][rows].sum()):
            steps = float((table["steps_per_second"] * table["seconds"])[rows].sum())
            figures |= {f"{name}_steps": round(steps), f"{name}_seconds": round(seconds, 1)}
            figures |= {f"{name}_steps_per_second": round(steps / seconds)}
    return figures
