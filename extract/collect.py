"""Parallel recording of rollouts: one shard a task, the same bytes however the tasks are spread."""

import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.episodes import Each, Moment, Player, moments
from envs.worlds import check as check_world
from envs.worlds import world_of
from experiment.beginning import SIZES
from experiment.config import flatten
from experiment.files import check_inside
from experiment.hardware import thread_count
from experiment.problem import Problem
from experiment.progress import Progress
from experiment.run import Run, difference
from experiment.schema import Experiment
from experiment.workers import open_pool
from extract.policies import describe_policy, make_policy
from extract.rollouts import PATTERN, Episode, Shard, new_shard, read_shard, shard_path

SEEDS = 900_000
"""Episodes are recorded with seeds below this. From here on come those of the comparison of dream and world
(rnn.comparison), the last below 1,000,000 are those of trials, and the final evaluation's follow."""
NETWORKS = (*SIZES["vae"], *SIZES["rnn"], "controller.inputs", "controller.bias", "controller.hidden")
"""What random networks are made of."""
AHEAD = 64  # actions drawn at a time by who does not look


@dataclass(frozen=True)
class ShardTask:
    """One shard to record; says all that its content depends on."""

    path: Path
    index: int
    shards: int
    settings: Experiment
    player: "MakePlayer"

    @property
    def amount(self) -> int:
        """How many episodes it holds, or at least how many steps: those of a shard, or what is left for the last."""
        extract = self.settings.extract
        if extract.steps:
            return min(extract.shard_steps, extract.steps - self.index * extract.shard_steps)
        return min(extract.shard_episodes, extract.episodes - self.index * extract.shard_episodes)

    @property
    def origin(self) -> dict[str, Any]:
        """The attributes by which a finished shard is recognised."""
        wanted, values = NETWORKS if self.settings.extract.policy == "networks" else (), storable(self.settings)
        keys = [key for key in values if (key.startswith(("env.", "extract.")) and key != "env.games") or key in wanted]
        return {"shard": self.index, **{key: values[key] for key in keys}}

    def seeds(self) -> np.ndarray:
        """The seeds to play, in order: every `shards`-th of a shuffle of all, so that no two shards share one."""
        return np.random.default_rng(self.settings.extract.seed).permutation(SEEDS)[self.index :: self.shards]


MakePlayer = Callable[[ShardTask, int], Player]
"""From a task and the number of games side by side to who plays them; a function that other processes can import."""


def storable(settings: Experiment) -> dict[str, Any]:
    """Every setting as an attribute of an HDF5 file can hold it."""
    return {key: json.dumps(value) if isinstance(value, dict) else value for key, value, _ in flatten(settings)}


def without_networks(task: ShardTask, games: int) -> Player:
    """The player of a policy that needs no network."""
    extract = task.settings.extract
    policy = make_policy(world_of(task.settings).actions, extract)
    return Each(lambda _, seed: policy(np.random.default_rng((extract.seed, seed))), games)


def collect(settings: Experiment, run: Run, player: MakePlayer = without_networks) -> dict[str, Any]:
    """Record what is missing of the rollouts and return figures for results.json.

    Raises Problem for a shard that is damaged or not of these settings, a full disk, episodes that are hardly ever as
    long as extract.min_steps asks, or workers that write elsewhere.
    """
    check_world(settings)
    extract, world = settings.extract, world_of(settings)
    tasks = plan(settings, run.rollouts, player)
    missing = [task for task in tasks if not task.path.exists()]
    if missing:
        check_inside(run.rollouts, run.path)
    played = [check(task) for task in tasks if task.path.exists()]
    total, unit = (extract.steps, f"{world.step}s") if extract.steps else (extract.episodes, "episodes")
    done = total - sum(task.amount for task in missing)
    began, steps = time.monotonic(), 0
    networks = player is not without_networks
    processes = min(settings.workers.processes or thread_count(), len(missing))
    with (
        open_pool(record, settings.workers, processes, networks, pin=True) as pool,
        Progress("recording rollouts", total=total, unit=unit, done=done) as bar,
    ):
        for index, result in pool.run(missing):
            played.append(result)
            steps += int(result.played_lengths.sum())
            bar.update(missing[index].amount, note=f"{steps / (time.monotonic() - began):,.0f} {world.step}s/s")
    if elsewhere := [task.path for task in tasks if not task.path.exists()]:
        raise Problem(
            f"{elsewhere[0]} was recorded, but is not here: all machines of a cluster need the run folder on a shared disk, "
            "at the same absolute path (--run)"
        )
    rate = steps / (time.monotonic() - began)
    lengths = np.concatenate([shard.played_lengths for shard in played])
    returns = np.concatenate([shard.played_returns for shard in played])
    kept = sum(len(shard.lengths) for shard in played)
    mean, std, digits = float(returns.mean()), float(returns.std()), f".{world.digits}f"
    published = " (the paper's random policy: {:g} ± {:g}, a random action every {})"
    print(
        f"{describe_policy(extract)}: {world.score} {mean:{digits}} ± {std:{digits}} in {len(lengths):,} episodes of "
        f"{lengths.mean():.0f} {world.step}s on average, {kept:,} kept"
        f"{published.format(*world.random, world.step) if world.random else ''}"
    )
    counts = {"episodes": kept, "played": len(lengths), f"{world.step}s": int(lengths.sum())}
    figures = {**counts, "return_mean": round(mean, 1), "return_std": round(std, 1)}
    return {**figures, f"{world.step}s_per_second": round(rate)} if steps else figures


def plan(settings: Experiment, folder: Path, player: MakePlayer = without_networks) -> list[ShardTask]:
    """Every shard of the rollouts. Raises Problem if the folder holds others."""
    shards = settings.extract.shards
    tasks = [ShardTask(shard_path(folder, index), index, shards, settings, player) for index in range(shards)]
    if others := set(folder.glob(PATTERN)) - {task.path for task in tasks}:
        raise Problem(f"{min(others)} is not one of this run's {shards} shards: move it away")
    return tasks


def check(task: ShardTask) -> Shard:
    """What is known of a finished shard. Raises Problem if it is not what the task asks for."""
    shard = read_shard(task.path)
    defaults = storable(Experiment())  # of settings that are newer than the shard
    if key := difference(shard.attributes, task.origin, unsaid=defaults):
        raise Problem(
            f"{task.path} was recorded with {key}={shard.attributes.get(key, defaults.get(key))}, not {task.origin[key]}: "
            "delete it and run `python -m extract` again"
        )
    return shard


def record(task: ShardTask) -> Shard:
    """Play and write one shard, its episodes in the order of their seeds, and read what it says."""
    world, extract = world_of(task.settings), task.settings.extract
    about = {**task.origin, "environment": world.version()}
    if world.choices:
        about["actions"] = world.choices
    with contextlib.closing(play_task(task)) as recorded, new_shard(task.path, about) as shard:
        for episode in recorded:
            shard.played_lengths.append(len(episode.actions))
            shard.played_returns.append(float(episode.rewards.sum()))
            if len(episode.actions) > extract.min_steps:
                shard.append(episode)
            if (shard.rows if extract.steps else len(shard.starts)) >= task.amount:
                break
            if len(shard.played_lengths) >= 100 + 20 * len(shard.starts):
                raise Problem(
                    f"only {len(shard.starts)} of {len(shard.played_lengths)} episodes lasted longer than "
                    f"extract.min_steps={extract.min_steps}: lower it"
                )
    return check(task)


def play_task(task: ShardTask) -> Generator[Episode]:
    """The task's episodes, in the order of their seeds, for as long as they are asked for."""
    world, env, extract = world_of(task.settings), task.settings.env, task.settings.extract
    env = dataclasses.replace(env, max_steps=extract.max_steps or env.max_steps)
    if world.blind is not None and task.player is without_networks:
        with contextlib.closing(world.blind(**world.options_of(env))) as game:
            yield from play_blind(task, game, env.max_steps)
        return
    games = world.recorded if extract.steps else min(world.recorded, task.amount)
    with contextlib.closing(world.open(env, games)) as vector:
        seeds = task.seeds()
        yield from episodes(moments(world, vector, task.player(task, games), iter(seeds.tolist())), seeds)


def play_blind(task: ShardTask, game: Any, max_steps: int) -> Iterator[Episode]:
    """The same of a policy that does not look, in a game that does not show."""
    world, extract = world_of(task.settings), task.settings.extract
    for seed in task.seeds().tolist():
        policy = make_policy(world.actions, extract)(np.random.default_rng((extract.seed, seed)))
        raw: list[np.ndarray] = []

        def actions(policy: Any = policy, raw: list[np.ndarray] = raw) -> Iterator[int]:
            while True:
                raw.append(np.array(list(itertools.islice(policy, AHEAD)))[:, 0])
                yield from world.to_env(world.execute(raw[-1])).tolist()

        frames, rewards, died = game.play(seed, actions(), max_steps)
        last = np.arange(len(frames)) == len(frames) - 1
        yield Episode(frames, np.concatenate(raw)[: len(frames)], rewards, last & died, last & (not died), seed)


def episodes(played: Iterator[Moment], seeds: np.ndarray) -> Iterator[Episode]:
    """The episodes of what is played, in the order of their seeds; holds those in memory that are not over."""
    tapes: dict[int, list[tuple[Any, ...]]] = {}
    following = 0
    for moment in played:
        rows = zip(moment.frames, moment.raw, moment.rewards, moment.terminated, moment.truncated, strict=True)
        for number, row in zip(moment.episodes.tolist(), rows, strict=True):
            tapes.setdefault(number, []).append(row)
        while following in tapes and (tapes[following][-1][3] or tapes[following][-1][4]):
            frames, actions, rewards, terminated, truncated = map(np.stack, zip(*tapes.pop(following), strict=True))
            seed, rewards = int(seeds[following]), rewards.astype(np.float32)
            yield Episode(frames, actions, rewards, terminated, truncated, seed)
            following += 1
