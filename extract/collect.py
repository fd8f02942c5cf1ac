"""Parallel recording of rollouts: one shard a task, one game a worker, the same bytes however they are spread."""

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from envs.doom import DoomEnv, execute, to_discrete
from experiment.hardware import core_count
from experiment.problem import Problem
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Env, Experiment, Extract
from experiment.workers import run_tasks
from extract.policies import Policy, describe_policy, make_policy
from extract.rollouts import PATTERN, Episode, new_shard, read_shard, shard_path

SEEDS = 900_000
"""Episodes are recorded with seeds below this. From here on come those of the comparison of dream and game
(rnn.survival), the last below evaluate.seed (1,000,000) are those of trials, and the final evaluation's follow."""
PAPER_SURVIVAL = "210 ± 108"


@dataclass(frozen=True)
class ShardTask:
    """One shard to record; says all that its content depends on."""

    path: Path
    index: int
    shards: int
    env: Env
    extract: Extract

    @property
    def episodes(self) -> int:
        """How many episodes it holds: shard_episodes, or what is left for the last."""
        return min(self.extract.shard_episodes, self.extract.episodes - self.index * self.extract.shard_episodes)

    @property
    def origin(self) -> dict[str, Any]:
        """The attributes by which a finished shard is recognised."""
        settings = {f"extract.{key}": value for key, value in dataclasses.asdict(self.extract).items()}
        return {"shard": self.index, "env.name": self.env.name, "env.max_steps": self.env.max_steps, **settings}

    def seeds(self) -> np.ndarray:
        """The seeds to play, in order: every `shards`-th of a shuffle of all, so that no two shards share one."""
        return np.random.default_rng(self.extract.seed).permutation(SEEDS)[self.index :: self.shards]


def collect(settings: Experiment, run: Run) -> dict[str, Any]:
    """Record what is missing of the rollouts and return figures for results.json.

    Raises Problem for a shard that is damaged or not of these settings, a full disk, or episodes that are
    hardly ever as long as extract.min_steps asks.
    """
    extract = settings.extract
    tasks = plan(settings, run.rollouts)
    missing = [task for task in tasks if not task.path.exists()]
    played = [check(task) for task in tasks if task.path.exists()]
    done = extract.episodes - sum(task.episodes for task in missing)
    began, tics = time.monotonic(), 0
    with Progress("recording rollouts", total=extract.episodes, unit="episodes", done=done) as bar:
        for index, lengths in run_tasks(record, missing, settings.workers, default_processes=core_count()):
            played.append(lengths)
            tics += int(lengths.sum())
            bar.update(missing[index].episodes, note=f"{tics / (time.monotonic() - began):,.0f} tics/s")
    rate = tics / (time.monotonic() - began)
    survival = np.concatenate(played)
    print(
        f"{describe_policy(extract)} survived {survival.mean():.0f} ± {survival.std():.0f} tics in {len(survival):,} episodes, "
        f"{extract.episodes:,} of them kept (the paper's random policy: {PAPER_SURVIVAL}, a random action every tic)"
    )
    figures = {
        "episodes": extract.episodes,
        "played": len(survival),
        "tics": int(survival.sum()),
        "survival_mean": round(float(survival.mean()), 1),
        "survival_std": round(float(survival.std()), 1),
    }
    return {**figures, "tics_per_second": round(rate)} if tics else figures


def plan(settings: Experiment, folder: Path) -> list[ShardTask]:
    """Every shard of the rollouts. Raises Problem if the folder holds others."""
    shards = settings.extract.shards
    tasks = [
        ShardTask(shard_path(folder, index), index, shards, settings.env, settings.extract) for index in range(shards)
    ]
    if others := set(folder.glob(PATTERN)) - {task.path for task in tasks}:
        raise Problem(f"{min(others)} is not one of this run's {shards} shards: move it away")
    return tasks


def check(task: ShardTask) -> np.ndarray:
    """The lengths of all episodes played for a finished shard. Raises Problem if it is not what the task asks for."""
    shard = read_shard(task.path)
    for key, value in task.origin.items():
        if (found := shard.attributes.get(key)) != value:
            raise Problem(
                f"{task.path} was recorded with {key}={found}, not {value}: delete it and run `python -m extract` again"
            )
    return shard.played_lengths


def record(task: ShardTask) -> np.ndarray:
    """Play and write one shard; return the lengths of all episodes played, also of those too short to be kept."""
    env, policy = DoomEnv(task.env.max_steps), make_policy(task.extract)
    attributes = {**task.origin, "environment": f"DoomTakeCover-v0, vizdoom {metadata.version('vizdoom')}"}
    with contextlib.closing(env), new_shard(task.path, attributes) as shard:
        for seed in task.seeds():
            episode = play(env, policy, int(seed), np.random.default_rng((task.extract.seed, int(seed))))
            shard.played_lengths.append(len(episode.actions))
            if len(episode.actions) > task.extract.min_steps:
                shard.append(episode)
            if len(shard.starts) == task.episodes:
                break
            if len(shard.played_lengths) >= 100 + 20 * len(shard.starts):
                raise Problem(
                    f"only {len(shard.starts)} of {len(shard.played_lengths)} episodes lasted longer than "
                    f"extract.min_steps={task.extract.min_steps}: lower it"
                )
    return np.asarray(shard.played_lengths)


def play(env: DoomEnv, policy: Policy, seed: int, rng: np.random.Generator) -> Episode:
    """One episode of a policy, as it is recorded."""
    frames, actions = [], []
    frame, _ = env.reset(seed=seed)
    policy.reset(rng)
    terminated = truncated = False
    while not (terminated or truncated):
        frames.append(frame)
        actions.append(policy.act(frame))
        frame, _, terminated, truncated, _ = env.step(int(to_discrete(execute(actions[-1]))))
    last = np.arange(len(actions)) == len(actions) - 1
    return Episode(
        frames=np.stack(frames),
        actions=np.array(actions, np.float32),
        rewards=np.ones(len(actions), np.float32),
        terminated=last & terminated,
        truncated=last & truncated,
        seed=seed,
    )
