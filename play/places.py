"""What a session steps: a dream, or the real game. Anything else that has these few methods can be played too."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from envs.play import start
from rnn.dream import State
from vae.model import draw

if TYPE_CHECKING:
    from play.agent import Agent, Mind


class Happened(NamedTuple):
    """What a step brought."""

    reward: float
    died: bool
    """Whether the episode ended by itself."""
    cut: bool
    """Whether it has lasted as long as it may."""


class Place(Protocol):
    """One game or dream of a session's own. It is made, stepped and closed by the session's thread."""

    labels: tuple[str, ...]
    """What its pictures are called."""
    pictures: list[np.ndarray]
    """What is seen now, each (h, w, 3) uint8; the one that matters comes first."""
    advice: np.ndarray | None
    """C's raw action for the moment, () or (A,) float32; None where there is no C."""
    heated: bool
    """Whether the temperature matters."""
    scored: bool
    """Whether there are rewards to count; if not, there are steps."""

    def begin(self, seed: int) -> None:
        """Start the episode of that seed."""

    def step(self, raw: np.ndarray, temperature: float) -> Happened:
        """Act, raw, () or (A,) float32; temperature: of a dream."""

    def close(self) -> None:
        """Free everything; harmless when called again."""


class DreamPlace:
    """M's dream, drawn by V."""

    labels: tuple[str, ...] = ("the dream",)
    heated, scored = True, True

    def __init__(self, models: "Agent"):
        assert models.dream is not None
        self.models, self.starts = models, models.dream.starts
        self.longest = models.settings.dream.max_steps

    def begin(self, seed: int) -> None:
        """At a recorded moment that the seed chooses."""
        self.generator = np.random.default_rng(seed)
        chosen, starts = self.generator.integers(len(self.starts.mu)), self.starts
        normal = self.generator.standard_normal(starts.mu.shape[1], "float32")
        z = draw(starts.mu[chosen], starts.logvar[chosen], normal)
        self.state = State(*(part[None].astype("float32") for part in (z, starts.h[chosen], starts.c[chosen])))
        self.steps = 0
        self._show(self.models.dreamt(self.state))

    def step(self, raw: np.ndarray, temperature: float) -> Happened:
        """One step of M."""
        restart = float(self.steps == 0 and self.starts.fresh)
        self.state, died, reward, mind = self.models.dream_on(self.state, raw, restart, temperature, self.generator)
        self.steps += 1
        self._show(mind)
        return Happened(reward, died, not died and self.steps >= self.longest)

    def _show(self, mind: "Mind") -> None:
        self.pictures, self.advice = [mind.picture], mind.advice

    def close(self) -> None:
        """Nothing is open."""


class RealPlace:
    """The real game, and what V keeps of it. M listens, so that C can take over at any moment."""

    labels: tuple[str, ...] = ("the game", "what V keeps of it")
    heated, scored = False, True

    def __init__(self, models: "Agent"):
        self.models, self.world = models, models.world
        self.vector = self.world.open(models.settings.env, 1, 0)

    def begin(self, seed: int) -> None:
        """A new episode in the same game."""
        self.noise = np.random.default_rng(seed)
        self.h, self.c = np.zeros((2, 1, self.models.memory), "float32")
        self.restart = 1.0
        self._look(start(self.vector, np.arange(1), [seed]))

    def step(self, raw: np.ndarray, temperature: float) -> Happened:
        """One step of the game, and of M."""
        self.h, self.c = self.models.recall(self.z, raw, self.restart, self.h, self.c)
        self.restart = 0.0
        frames, rewards, terminated, truncated, _ = self.vector.step(self.world.to_env(self.world.execute(raw[None])))
        self._look(frames)
        return Happened(float(rewards[0]), bool(terminated[0]), bool(truncated[0]))

    def _look(self, frames: np.ndarray) -> None:
        normal = self.noise.standard_normal(self.models.settings.vae.z, "float32")
        mind = self.models.encode(frames[0], normal, self.h, self.c)
        self.z, self.advice = mind.z, mind.advice
        self.pictures = [self.vector.render()[0], mind.picture]

    def close(self) -> None:
        """End the game's process."""
        self.vector.close()
