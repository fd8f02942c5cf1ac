"""Parallel recording of rollouts: one shard a task, the same bytes however the tasks are spread."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.play import Moment, Player, moments
from envs.worlds import WORLDS, World
from experiment.config import flatten
from experiment.files import check_inside
from experiment.hardware import thread_count
from experiment.problem import Problem
from experiment.progress import Progress
from experiment.run import Run, difference
from experiment.schema import Env, Experiment, Extract
from experiment.workers import run_tasks
from extract.policies import Each, describe_policy, make_policy, policy_rng
from extract.rollouts import PATTERN, Episode, new_shard, read_shard, shard_path

SEEDS = 900_000
"""Episodes are recorded with seeds below this. From here on come those of the comparison of dream and world
(rnn.survival), the last below evaluate.seed (1,000,000) are those of trials, and the final evaluation's follow."""
NETWORKS = (
    *("vae.z", "rnn.hidden", "rnn.mixtures", "rnn.action", "rnn.predict_done", "rnn.predict_reward"),
    *("controller.inputs", "controller.bias", "controller.hidden"),
)
"""What random networks are made of."""
AHEAD = 64
"""Actions drawn at a time by who does not look."""
PAPER_SURVIVAL = "210 ± 108"


@dataclass(frozen=True)
class ShardTask:
    """One shard to record; says all that its content depends on."""

    path: Path
    index: int
    shards: int
    settings: Experiment
    player: "MakePlayer"

    @property
    def extract(self) -> Extract:
        """The settings of extraction."""
        return self.settings.extract

    @property
    def env(self) -> Env:
        """The settings of the world."""
        return self.settings.env

    @property
    def amount(self) -> int:
        """How many episodes it holds, or at least how many steps: those of a shard, or what is left for the last."""
        if self.extract.steps:
            return min(self.extract.shard_steps, self.extract.steps - self.index * self.extract.shard_steps)
        return min(self.extract.shard_episodes, self.extract.episodes - self.index * self.extract.shard_episodes)

    @property
    def origin(self) -> dict[str, Any]:
        """The attributes by which a finished shard is recognised."""
        settings = {f"extract.{key}": value for key, value in dataclasses.asdict(self.extract).items()}
        world = {f"env.{key}": value for key, value in dataclasses.asdict(self.env).items() if key != "games"}
        shapes = NETWORKS if self.extract.policy == "networks" else ()
        networks = {key: value for key, value, _ in flatten(self.settings) if key in shapes}
        return {"shard": self.index, **world, **settings, **networks}

    def seeds(self) -> np.ndarray:
        """The seeds to play, in order: every `shards`-th of a shuffle of all, so that no two shards share one."""
        return np.random.default_rng(self.extract.seed).permutation(SEEDS)[self.index :: self.shards]


MakePlayer = Callable[[ShardTask, int], Player]
"""From a task and the number of games side by side to who plays them; a function that other processes can import."""


def without_networks(task: ShardTask, games: int) -> Player:
    """The player of a policy that needs no network: a policy for each game."""
    return Each([make_policy(task.env, task.extract) for _ in range(games)], task.extract.seed)


def collect(settings: Experiment, run: Run, player: MakePlayer = without_networks) -> dict[str, Any]:
    """Record what is missing of the rollouts and return figures for results.json.

    Raises Problem for a shard that is damaged or not of these settings, a full disk, or episodes that are
    hardly ever as long as extract.min_steps asks.
    """
    extract, world = settings.extract, WORLDS[settings.env.name]
    tasks = plan(settings, run.rollouts, player)
    missing = [task for task in tasks if not task.path.exists()]
    if missing:
        check_inside(run.rollouts, run.path)
    played = [check(task) for task in tasks if task.path.exists()]
    total, unit = (extract.steps, f"{world.step}s") if extract.steps else (extract.episodes, "episodes")
    done = total - sum(task.amount for task in missing)
    began, steps = time.monotonic(), 0
    with Progress("recording rollouts", total=total, unit=unit, done=done) as bar:
        networks = player is not without_networks
        processes = max(1, thread_count() // world.recorded_on)
        for index, result in run_tasks(record, missing, settings.workers, processes, networks, pin=True):
            played.append(result)
            steps += int(result.lengths.sum())
            bar.update(missing[index].amount, note=f"{steps / (time.monotonic() - began):,.0f} {world.step}s/s")
    rate = steps / (time.monotonic() - began)
    lengths = np.concatenate([part.lengths for part in played])
    returns = np.concatenate([part.returns for part in played])
    kept = sum(part.kept for part in played)
    print(describe(settings, lengths, returns, kept))
    figures = {
        "episodes": kept,
        "played": len(lengths),
        f"{world.step}s": int(lengths.sum()),
        "return_mean": round(float(returns.mean()), 1),
        "return_std": round(float(returns.std()), 1),
    }
    return {**figures, f"{world.step}s_per_second": round(rate)} if steps else figures


def describe(settings: Experiment, lengths: np.ndarray, returns: np.ndarray, kept: int) -> str:
    """What the policy did, in a line; kept: how many of the episodes were."""
    who = describe_policy(settings.extract)
    share = f"in {len(lengths):,} episodes, {kept:,} of them kept"
    if settings.env.name == "doom":
        paper = f"the paper's random policy: {PAPER_SURVIVAL}, a random action every tic"
        return f"{who} survived {lengths.mean():.0f} ± {lengths.std():.0f} tics {share} ({paper})"
    mean = f"{returns.mean():.0f} ± {returns.std():.0f}"
    if settings.env.name != "carracing":
        mean = f"{returns.mean():.2f} ± {returns.std():.2f}"  # points, not hundreds
    return f"{who}: return {mean} in {lengths.mean():.0f} steps {share}"


@dataclass(frozen=True)
class Recorded:
    """What a shard's episodes were like, also those too short to be kept: lengths and returns."""

    lengths: np.ndarray
    returns: np.ndarray
    kept: int


def plan(settings: Experiment, folder: Path, player: MakePlayer = without_networks) -> list[ShardTask]:
    """Every shard of the rollouts. Raises Problem if the folder holds others."""
    shards = settings.extract.shards
    tasks = [ShardTask(shard_path(folder, index), index, shards, settings, player) for index in range(shards)]
    if others := set(folder.glob(PATTERN)) - {task.path for task in tasks}:
        raise Problem(f"{min(others)} is not one of this run's {shards} shards: move it away")
    return tasks


def check(task: ShardTask) -> Recorded:
    """All episodes played for a finished shard. Raises Problem if it is not what the task asks for."""
    shard = read_shard(task.path)
    defaults = {key: value for key, value, _ in flatten(Experiment())}  # of settings that are newer than the shard
    if key := difference(shard.attributes, task.origin, unsaid=defaults):
        raise Problem(
            f"{task.path} was recorded with {key}={shard.attributes.get(key, defaults.get(key))}, not {task.origin[key]}: "
            "delete it and run `python -m extract` again"
        )
    return Recorded(shard.played_lengths, shard.played_returns, len(shard.lengths))


def record(task: ShardTask) -> Recorded:
    """Play and write one shard, its episodes in the order of their seeds."""
    world = WORLDS[task.env.name]
    counted = bool(task.extract.steps)
    about = {**task.origin, "environment": world.version()}
    if world.choices:
        about["actions"] = world.choices
    with contextlib.closing(play_task(task, world)) as recorded, new_shard(task.path, about) as shard:
        for episode in recorded:
            shard.played_lengths.append(len(episode.actions))
            shard.played_returns.append(float(episode.rewards.sum()))
            if len(episode.actions) > task.extract.min_steps:
                shard.append(episode)
            if (shard.rows if counted else len(shard.starts)) >= task.amount:
                break
            if len(shard.played_lengths) >= 100 + 20 * len(shard.starts):
                raise Problem(
                    f"only {len(shard.starts)} of {len(shard.played_lengths)} episodes lasted longer than "
                    f"extract.min_steps={task.extract.min_steps}: lower it"
                )
    return Recorded(np.asarray(shard.played_lengths), np.asarray(shard.played_returns), len(shard.starts))


def play_task(task: ShardTask, world: World) -> Generator[Episode]:
    """The task's episodes, in the order of their seeds, for as long as they are asked for."""
    env = dataclasses.replace(task.env, max_steps=task.extract.max_steps or task.env.max_steps)
    if world.open_blind is not None and task.player is without_networks:
        with contextlib.closing(world.open_blind(env)) as game:
            yield from play_blind(task, world, game)
        return
    games = world.recorded if task.extract.steps else min(world.recorded, task.amount)
    with contextlib.closing(world.open(env, games, 0)) as vector:
        player = task.player(task, games)
        yield from episodes(moments(world, vector, player, iter(task.seeds().tolist())), task.seeds())


def play_blind(task: ShardTask, world: World, game: Any) -> Iterator[Episode]:
    """The same of a policy that does not look, in a game that does not show: seven tenths of the work for Doom."""
    policy = make_policy(task.env, task.extract)
    for seed in task.seeds().tolist():
        policy.reset(policy_rng(task.extract.seed, seed))
        raw: list[np.ndarray] = []

        def actions(raw: list[np.ndarray] = raw) -> Iterator[Any]:
            while True:
                raw.append(np.array([policy.act() for _ in range(AHEAD)])[:, 0])
                yield from world.to_env(world.execute(raw[-1])).tolist()

        frames, rewards, terminated = game.play(seed, actions())
        last = np.arange(len(frames)) == len(frames) - 1
        yield Episode(
            frames, np.concatenate(raw)[: len(frames)], rewards, last & terminated, last & (not terminated), seed
        )


def episodes(played: Iterator[Moment], seeds: np.ndarray) -> Iterator[Episode]:
    """The episodes of what is played, in the order of their seeds; holds those in memory that are not over."""
    tapes: dict[int, list[tuple[Any, ...]]] = {}
    following = 0
    for moment in played:
        rows = zip(moment.frames, moment.raw, moment.rewards, moment.terminated, moment.truncated, strict=True)
        for number, row in zip(moment.episodes.tolist(), rows, strict=True):
            tapes.setdefault(number, []).append(row)
        while following in tapes and (tapes[following][-1][3] or tapes[following][-1][4]):
            frames, actions, rewards, terminated, truncated = zip(*tapes.pop(following), strict=True)
            yield Episode(
                frames=np.stack(frames),
                actions=np.array(actions, np.float32),
                rewards=np.array(rewards, np.float32),
                terminated=np.array(terminated),
                truncated=np.array(truncated),
                seed=int(seeds[following]),
            )
            following += 1
