"""A world without a simulator, and runs without training, for tests of what plays, records and evaluates in them."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from envs.worlds import WORLDS, World
from experiment.run import Run
from experiment.schema import Experiment
from extract.rollouts import Episode, new_shard, shard_path


class FakeGames:
    """Vector games whose episode of seed s lasts s % 7 + 1 steps, and is cut there where s is odd.

    A frame shows the seed (its last byte) and the step everywhere; the reward is the seed's last digit plus the action
    that came (its first number). Where s is a multiple of 3, each step from the third on hurts. A game that is over waits,
    with reward 0. `seeds`: all that were begun, in order.
    max_steps: longer episodes are cut.
    """

    def __init__(self, num_envs: int, actions: int = 1, max_steps: int = 7):
        self.num_envs, self.actions, self.max_steps = num_envs, actions, max_steps
        self.seed, self.step_number = np.zeros((2, num_envs), int)
        self.live = np.zeros(num_envs, bool)
        self.seeds: list[int] = []
        self.closed = False

    def reset(self, *, seed: list[int | None], options: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        for game in np.flatnonzero(options["reset_mask"]):
            assert seed[game] is not None and not self.live[game], "a game that runs is begun anew"
            self.seed[game], self.step_number[game], self.live[game] = seed[game], 0, True
            self.seeds.append(int(seed[game]))
        return self.frames(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        assert actions.shape == ((self.num_envs,) if self.actions == 1 else (self.num_envs, self.actions))
        first = actions if self.actions == 1 else actions[:, 0]
        rewards = np.where(self.live, self.seed % 10 + first, 0.0)
        self.step_number += self.live
        hit = self.live & (self.seed % 3 == 0) & (self.step_number >= 3)
        ended = (self.step_number >= length(self.seed)) & (self.seed % 2 == 0)
        over = self.step_number >= np.minimum(length(self.seed), self.max_steps)
        self.live &= ~over
        return self.frames(), rewards, ended, over & ~ended, {"hit": hit}

    def frames(self) -> np.ndarray:
        shown = np.stack([self.seed, self.step_number, self.seed], axis=1).astype(np.uint8)  # (N, 3)
        return np.tile(shown[:, None, None], (1, 64, 64, 1))

    def close(self) -> None:
        self.closed = True


def length(seed: Any) -> Any:
    """Steps of the episode of a seed."""
    return seed % 7 + 1


def first_hit(seed: Any) -> Any:
    """Steps of the episode of a seed until it hurts; all of them where it never does."""
    return np.where(seed % 3 == 0, np.minimum(length(seed), 3), length(seed))


def fake_world(name: str = "doom", **changes: Any) -> World:
    """One of the worlds, with such games."""
    real = WORLDS[name]

    def open_games(games: int, max_steps: int, **options: Any) -> FakeGames:
        return FakeGames(games, real.actions, max_steps)

    fake = {"environment": "fake", "vector": open_games, "final": None, "blind": None}
    return dataclasses.replace(real, **(fake | changes))


def write_shard(path: Path, episodes: Iterable[Episode], attributes: Mapping[str, Any]) -> None:
    """Write whole episodes into one shard, atomically; holds one episode in memory at a time."""
    with new_shard(path, attributes) as shard:
        for episode in episodes:
            shard.append(episode)


def damage(shard: Path, chunk: int) -> None:
    """Overwrite a compressed chunk of a shard's frames."""
    with h5py.File(shard) as file:
        place = file["frames"].id.get_chunk_info(chunk)
    with open(shard, "r+b") as raw:
        raw.seek(place.byte_offset)
        raw.write(bytes(place.size))


def save_untrained(
    run: Run, settings: Experiment, spread: Sequence[float] = (), done_bias: float | None = None
) -> None:
    """Fill a run folder with V and M as they are before any training, and the latents of three episodes of two frames.

    spread: the standard deviations of M's four arrays, if they are to be random. done_bias: in the place of the last bias.
    """
    from extract.rollouts import Sequences
    from rnn.model import build_rnn
    from vae.latents import write_latents
    from vae.model import VAE

    run.path.mkdir(parents=True, exist_ok=True)
    VAE(settings.vae.z).save_weights(run.vae_weights)
    rnn, generator = build_rnn(settings), np.random.default_rng(1)
    for variable, deviation in zip(rnn.weights, spread, strict=bool(spread)):
        variable.assign(generator.normal(scale=deviation, size=variable.shape))
    if done_bias is not None:
        rnn.output_bias.assign(np.append(rnn.output_bias.numpy()[:-1], done_bias))
    rnn.save_weights(run.rnn_weights)
    ends, actions = np.tile([False, True], 3), WORLDS[settings.env.name].actions
    raw = np.zeros((6, actions) if actions > 1 else 6, "float32")
    sequences = Sequences(raw, np.ones(6, "float32"), ends, ~ends, np.full(3, 2), [3])
    write_latents(run.latents, [(np.zeros((6, settings.vae.z)), np.zeros((6, settings.vae.z)))], sequences)


def save_agent(run: Run, settings: Experiment) -> Run:
    """The same, and a C."""
    save_untrained(run, settings)
    return save_random_c(run, settings)


def save_random_c(run: Run, settings: Experiment | None = None) -> Run:
    """A C of random weights; settings: those of the run's config.yaml, if None."""
    from controller.evolution import Evolution, everywhere
    from controller.policy import policy_from
    from controller.training import save_controller

    settings = settings or run.settings(())
    policy = policy_from(settings)
    begun = np.random.default_rng(0).normal(size=policy.size)
    evolution = Evolution(everywhere(policy.size)._replace(origin=begun), 0.1, 4, seed=0)
    evolution.generation = settings.controller.generations
    save_controller(run.controller, policy, evolution)
    return run


OFFLINE_LENGTHS = (30, 22, 41, 25, 33, 28)


def save_next_frames(run: Run, name: str = "breakout", size: int = 84) -> Run:
    """Fill a run folder with a next-frame model whose weights are random, and its rollouts: half of them held out.

    Windows have 4 frames, and 6 more to predict. A frame shows a square that moves, and the episode's number and step in
    its first two pixels.
    """
    from envs.actions import unchoose
    from experiment.backend import keras
    from experiment.config import to_yaml
    from experiment.files import write_json
    from experiment.schema import Data, Env, Hardware, Model, Openloop
    from nextframe.model import NextFrame, save

    settings = Experiment(
        env=Env(name=name, max_steps=1000, size=size, grey=name == "breakout"),
        data=Data(val_ratio=0.5),
        model=Model(context=4, patch=4, channels=8),
        openloop=Openloop(windows=5, context=4, horizon=6, resamples=20),
        hardware=Hardware(precision="float32"),
    )
    world, generator = WORLDS[name], np.random.default_rng(0)

    def episode(number: int, length: int) -> Episode:
        frames = np.full((length, size, size, 1 if settings.env.grey else 3), 40, np.uint8)
        for step in range(length):
            frames[step, 8:16, (3 * step) % (size - 8) :][:, :8] = 220
            frames[step, 0, 0], frames[step, 0, 1] = number, step
        raw, last = unchoose(generator.integers(world.choices, size=length), choices=world.choices), np.arange(length)
        return Episode(frames, raw, np.zeros(length, np.float32), last < 0, last == length - 1, number)

    run.path.mkdir(parents=True, exist_ok=True)
    run.config.write_text(to_yaml(settings))
    about = {"env.name": name, "actions": world.choices}
    write_shard(shard_path(run.rollouts, 0), (episode(*each) for each in enumerate(OFFLINE_LENGTHS)), about)
    keras.config.set_dtype_policy("float32")
    model = NextFrame(settings)
    model.set_weights([generator.normal(0, 0.1, weights.shape) for weights in model.get_weights()])
    save(model, run.nextframe_weights)
    write_json(run.record("nextframe"), {"complete": True, "settings": {}})
    return run
