"""What a session plays: a dream, a prediction, or the real game. Anything else that is a Scene can be played too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from envs.episodes import start
from envs.worlds import World
from experiment.problem import Problem
from experiment.schema import Experiment


class Scene:
    """One game or dream of a session's own. It is made, stepped and closed by the session's thread."""

    labels: tuple[str, ...] = ()  # what its pictures are called
    pictures: list[np.ndarray]  # what is seen now, each (h, w, 3) uint8; the one that matters comes first
    advice: np.ndarray | None = None  # C's raw action for the moment, () or (A,) float32; None where there is no C
    expected: Mapping[str, float] = {}  # what M expected of the moment, as far as it does (see Models.meters)
    z: np.ndarray | None = None  # (Z,) float32, from which V draws the picture; None where `bend` changes nothing
    heated = False  # whether the temperature matters
    scored = True  # whether there are rewards to count; if not, there are steps

    def begin(self, seed: int) -> None:
        """Start the episode of that seed; of what a model makes up, at a recorded moment that the seed chooses."""
        raise NotImplementedError

    def step(self, raw: np.ndarray, temperature: float) -> tuple[float, bool, bool]:
        """Act, raw, () or (A,) float32; temperature: of a dream.

        Returns the reward, whether the episode ended by itself, and whether it was cut, lasting as long as it may.
        """
        raise NotImplementedError

    def bend(self, values: dict[int, float]) -> None:
        """Set some numbers of z, by their places in it, to go on from there."""

    def close(self) -> None:
        """Free everything; harmless when called again."""


class Models:
    """The models of a run, loaded and compiled once for all sessions, and the scenes that can be played with them."""

    kind: str
    """'agent': V, M and C; 'nextframe': a next-frame model, beside which there is neither a C nor a temperature."""
    settings: Experiment
    world: World
    missing: dict[str, str]  # why it cannot be had: of 'dream', 'real' and 'controller'
    scenes: dict[str, Callable[[Any], Scene]]  # of these models: 'dream' and 'real'
    meters: Mapping[str, float] = {}  # what a scene's `expected` may say, and the value at which its meter is full
    sliders: Sequence[int] = ()  # the numbers of z with which a dream is bent, by their places in it

    def open(self, name: str) -> Scene:
        """A scene of its own for a session. Raises Problem if it cannot be had."""
        if name in self.missing:
            raise Problem(self.missing[name])
        return self.scenes[name](self)

    def warm_up(self) -> None:
        """Compile everything, so that the first session need not wait for it."""
        raise NotImplementedError

    def raw(self, played: np.ndarray) -> np.ndarray:
        """A raw action, () or (A,) float32, that is executed as a player means: (A,), or (1,), the number of a choice."""
        executed = self.world.from_env(np.asarray(played, "int64")) if self.world.choices else played
        raw = np.asarray(self.world.unexecute(executed), "float32")
        return raw[0] if self.world.actions == 1 or self.world.choices else raw

    def played(self, raw: np.ndarray) -> np.ndarray:
        """The other way."""
        executed = self.world.execute(raw)
        return np.atleast_1d(self.world.to_env(executed) if self.world.choices else executed)

    @property
    def rest(self) -> np.ndarray:
        """What a player who touches nothing plays."""
        return np.full(1 if self.world.choices else self.world.actions, self.world.rest, "float32")


class GameScene(Scene):
    """The real game, beside what a model makes of it."""

    def __init__(self, models: Any):
        self.models, self.world = models, models.world
        self.vector = self.world.open(models.settings.env, 1, 0)

    def begin(self, seed: int) -> None:
        self.look(start(self.vector, np.arange(1), [seed]), seed)

    def step(self, raw: np.ndarray, temperature: float) -> tuple[float, bool, bool]:
        self.expect(raw[None])
        frames, rewards, terminated, truncated, _ = self.vector.step(self.world.to_env(self.world.execute(raw[None])))
        self.look(frames)
        return float(rewards[0]), bool(terminated[0]), bool(truncated[0])

    def expect(self, raw: np.ndarray) -> None:
        """Tell the model of an action, (1,) or (1, A), that is about to be taken."""
        raise NotImplementedError

    def look(self, frames: np.ndarray, seed: int | None = None) -> None:
        """Show it the game's frame, (1, h, w, c) uint8; seed: of an episode that begins with it."""
        raise NotImplementedError

    def close(self) -> None:
        self.vector.close()
