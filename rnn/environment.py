"""What the C of a run sees as Gymnasium environments: of M's dream, and of the real game, which V sees and M follows.

`gymnasium.make("world_models:DoomDream-v0", run="doom")` is one dream, `DoomLatent-v0` the game (`CarRacingDream-v0`,
`CarRacingLatent-v0` of a CarRacing run), `gymnasium.make_vec` with the same arguments many side by side. Both have the same
spaces: an observation is z of the moment and M's memory c and h, the actions are the game's.
"""

import dataclasses
import functools
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.seeding import np_random

from envs.episodes import start
from envs.sidebyside import Alone, SideBySide
from envs.worlds import world_of
from experiment.backend import graph
from experiment.problem import Problem, UsageProblem
from experiment.run import Run, find_run
from rnn.dream import State, load_dream
from rnn.model import load_rnn
from rnn.stepping import Dreams, Followed, check_tensorflow, in_pairs
from vae.model import load_vae

SECTIONS = ("env", "vae", "rnn", "dream")


class OfRun(SideBySide):
    """N episodes side by side as the C of a run sees them: observations (N, X) float32.

    run: a folder, or the name of what is shipped; of several iterations, the last. observation: what is seen, some of the
    letters z (Z numbers), and c and h, M's memory (H each), in that order. max_steps: the run's unless given. world: of
    which the run has to be, any if None. common: see SideBySide. Actions are those of the real environment. Raises Problem
    if the run is of another world, or V or M is missing.
    """

    section: str  # of the run's settings: where the length of an episode is said
    metadata = {"render_modes": ["rgb_array"], "render_fps": 35}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(
        self,
        num_envs: int,
        run: Path | str | Run,
        observation: str = "zch",
        max_steps: int | None = None,
        world: str | None = None,
        **common: Any,
    ):
        if not observation or set(observation) - set("zch"):
            raise Problem(f"observation is {observation!r}: expected some of the letters z, c and h, such as 'zch'")
        check_tensorflow()
        self.run = find_run(run)
        self.settings = settings = self.run.settings(SECTIONS)
        if world not in (None, settings.env.name):
            raise UsageProblem(
                f"{self.run.path} is a run of {settings.env.name}, and this environment is for one of {world}"
            )
        self.observation, self.world = observation, world_of(settings)
        sizes = {"z": settings.vae.z, "c": settings.rnn.hidden, "h": settings.rnn.hidden}
        seen = gymnasium.spaces.Box(-np.inf, np.inf, (sum(sizes[letter] for letter in observation),), np.float32)
        if max_steps is None:
            max_steps = min(getattr(settings, self.section).max_steps, self.world.limit)
        super().__init__(num_envs, seen, self.world.action_space, max_steps, **common)
        self.metadata = {**self.metadata, "render_fps": self.world.fps}

    def raw(self, actions: np.ndarray) -> np.ndarray:
        """Raw actions, (N,) or (N, A), that are executed as these actions of the environments."""
        return self.world.unexecute(self.world.from_env(actions))

    def show(self, state: State) -> None:
        """Take what is seen of a state as the frames."""
        np.concatenate([getattr(state, letter) for letter in self.observation], axis=1, out=self.frames)


class DreamVectorEnv(OfRun):
    """N dreams side by side, stepped in one batch; dream i of seed s is that of DreamEnv with seed s + i, but for rounding.

    Rewards as M expects them where it predicts them, else 1 a step; terminated where the dream ends (dream.done). `render`
    gives V's pictures of z, (64, 64, 3) uint8 each. temperature: the run's unless given, and what
    `reset(options={"temperature": 1.3})` says from then on. Other arguments: see OfRun.
    """

    section = "dream"
    reset_options = ("reset_mask", "temperature")

    def __init__(self, num_envs: int, run: Path | str | Run, temperature: float | None = None, **options: Any):
        super().__init__(num_envs, run, **options)
        temperature = self.settings.dream.temperature if temperature is None else temperature
        self.dreams = Dreams(load_dream(self.settings, self.run), num_envs, temperature, self.max_steps)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.dreams.set_temperature((options or {}).get("temperature", self.dreams.temperature))
        return super().reset(seed=seed, options=options)

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        for row, seed in zip(rows, seeds, strict=True):
            self.dreams.generators[row] = np_random(seed)[0]
        self.dreams.begin(rows)
        self.show(self.dreams.state)

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> None:
        self.dreams.advance(self.raw(actions), rows)
        self.rewards, self.ended[rows] = self.dreams.rewards, self.dreams.died[rows]
        self.show(self.dreams.state)

    def render(self) -> tuple[np.ndarray, ...]:
        """The dreamed frames, each (64, 64, 3) uint8."""
        return tuple(self._vae.pictures(np.asarray(self.dreams.state.z)))

    @cached_property
    def _vae(self) -> Any:
        vae: Any = load_vae(self.run, self.settings)
        vae.picture = graph(vae.picture, reduce_retracing=True)
        return vae


class DreamEnv(Alone):
    """DoomDream-v0 and CarRacingDream-v0: one dream. Arguments, rewards and pictures are those of DreamVectorEnv."""

    kind, metadata = DreamVectorEnv, DreamVectorEnv.metadata


class LatentVectorEnv(OfRun):
    """N real games side by side, which V sees and M follows: what was trained in the dream plays on here.

    Rewards and ends are the games'; `render` gives their pictures. The noise that z is drawn with follows from an episode's
    seed, so that C sees the very z, c and h that `controller` lets it see. final: whether the games are those that final
    figures are measured in (CarRacing with Gymnasium's own picture, a tenth as fast). Other arguments: see OfRun.
    """

    section = "env"

    def __init__(self, num_envs: int, run: Path | str | Run, final: bool = True, **options: Any):
        super().__init__(num_envs, run, **options)
        vae, rnn = load_vae(self.run, self.settings), load_rnn(self.run, self.settings)
        self.followed = Followed(num_envs, vae.latent_size, rnn.hidden)
        compiled = (graph(step, reduce_retracing=True) for step in (vae.see, rnn.observe))
        self._see, self._remember = (functools.partial(in_pairs, step) for step in compiled)
        env = dataclasses.replace(self.settings.env, max_steps=self.max_steps)
        self.games = self.world.open(env, num_envs, self.patience, final)
        self.seeds = self.games.seeds

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        self.followed.begin(rows, seeds)
        self._look(rows, start(self.games, rows, seeds))

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> None:
        if not len(rows):
            return
        self.followed.follow(rows, self.raw(actions)[rows], self._remember)
        frames, rewards, ended, cut, self.info = self.games.step(actions)
        self.rewards[rows], self.ended[rows], self.cut[rows] = rewards[rows], ended[rows], cut[rows]
        self._look(rows, frames)

    def _look(self, rows: np.ndarray, frames: np.ndarray) -> None:
        self.followed.look(rows, frames[rows], self._see)
        self.show(self.followed.state)

    def render(self) -> Any:
        """The games' own pictures."""
        return self.games.render()

    def close_extras(self, **kwargs: Any) -> None:
        """End the games."""
        self.games.close()


class LatentEnv(Alone):
    """DoomLatent-v0 and CarRacingLatent-v0: one real game. Arguments, rewards and pictures are those of LatentVectorEnv."""

    kind, metadata = LatentVectorEnv, LatentVectorEnv.metadata
