"""What games have in common, whatever simulates them: seeds, masks, games that are over; many side by side, or one alone."""

import contextlib
import ctypes
import os
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from envs.checks import MadeAgain, check_actions, check_process, each_seed
from experiment.problem import Problem

SEEDS = 2**31  # those that are drawn are below this
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
KEPT, LARGE = 2**29, 2**25
"""Bytes: of freed memory that stays with the process, and from which on an array is given back at once."""


def pixels(*shape: int) -> gymnasium.spaces.Box:
    """The space of pictures (height, width, channels)."""
    return gymnasium.spaces.Box(0, 255, shape, np.uint8)


class SideBySide(MadeAgain, gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """N games side by side: observations (N, ...), mostly uint8 pictures, actions (N, ...).

    autoreset_mode: what happens to a game that is over. NEXT_STEP: the next step begins another episode in it, with
    reward 0. SAME_STEP: the same step does, and info["final_obs"] has what was seen last. DISABLED: it stays as it is,
    whatever its action, with reward 0, until it is reset: `reset(seed=..., options={"reset_mask": finished})`.
    """

    seeds = SEEDS  # larger seeds are folded into those below this. EnvPool's are int32
    reset_options: tuple[str, ...] = ("reset_mask",)

    def __init__(
        self,
        num_envs: int,
        frame: gymnasium.spaces.Box,
        action_space: gymnasium.Space[Any],
        max_steps: int,
        patience: int = 0,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ):
        """frame, action_space: of one game. patience: an episode is truncated after so many steps without a positive reward; 0
        for never."""
        if not max_steps >= 1:
            raise Problem(f"max_steps is {max_steps}: expected at least 1")
        self.num_envs = num_envs
        self.max_steps, self.patience = max_steps, patience
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = frame
        self.single_action_space = action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.frames = np.zeros((num_envs, *frame.shape), frame.dtype)
        """What is seen in every game; subclasses write into it."""
        self.rewards, self.info = np.zeros(num_envs), dict[str, Any]()
        self.ended, self.cut = np.zeros((2, num_envs), bool)
        """What the last step brought, `cut` where the game itself was short of time; all are new with every step, and
        subclasses write into them."""
        self.live = np.zeros(num_envs, bool)  # games that have begun and are not over
        self.steps = np.zeros(num_envs, np.int64)  # of each game's episode before this step
        self._seeds, self._unrewarded = np.zeros((2, num_envs), np.int64)
        self._terminated, self._truncated = np.zeros((2, num_envs), bool)
        self._chains = [np_random()[0] for _ in range(num_envs)]
        """What draws the seeds of each game's episodes where none is given: of the last seed that was."""
        self._process = os.getpid()

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        """Start the episodes of these seeds in these games, and look at them."""
        raise NotImplementedError

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> None:
        """Step these games with their actions, (N, ...), and look at them; write down rewards, and which have ended."""
        raise NotImplementedError

    def reset(
        self, *, seed: int | Sequence[int | None] | np.ndarray | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin episodes in all games, or in those where options["reset_mask"], (N,) bool, says so.

        seed: a list with a seed for each game (those not reset are ignored), or s for s, s + 1, s + 2...,
        or None for those that follow in the chain that each game's last seed began. Returns the observations of all games
        and their seeds.
        """
        check_process(self._process)
        options = options or {}
        if others := options.keys() - set(self.reset_options):
            raise Problem(
                f"there is no option {min(others)} of a reset: expected {', '.join(self.reset_options)}, or none"
            )
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            shown = f"{mask.dtype} of shape {mask.shape}"
            raise Problem(f"reset_mask: expected true or false for each of {self.num_envs} environments, not {shown}")
        self._start(np.flatnonzero(mask), each_seed(seed, self.num_envs))
        return self.frames.copy(), {"seed": self._seeds.copy()}

    def _start(self, rows: np.ndarray, seeds: Sequence[int | None]) -> None:
        """Begin episodes in these games; seeds: of all games, None for one that is drawn."""
        chosen = []
        for row in rows.tolist():
            if (seed := seeds[row]) is not None:
                self._chains[row] = np_random(seed)[0]
            chosen.append(int(self._chains[row].integers(SEEDS)) if seed is None else seed % self.seeds)
        self._seeds[rows] = chosen
        if chosen:
            self.begin(rows, chosen)
        self.steps[rows] = self._unrewarded[rows] = 0
        self._terminated[rows] = self._truncated[rows] = False
        self.live[rows] = True

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step in every game that is not over."""
        check_process(self._process)
        rows, over = np.flatnonzero(self.live), np.flatnonzero(self._terminated | self._truncated)
        if not len(rows) and not len(over):
            raise Problem("no episode has begun: reset the environment before its first step")
        checked = check_actions(actions, self.single_action_space, self.num_envs, rows)
        self.rewards, self.info = np.zeros(self.num_envs), {}
        self.ended, self.cut = np.zeros((2, self.num_envs), bool)
        self.drive(rows, checked)
        self.steps[rows] += 1
        self._terminated |= self.ended
        self._unrewarded = np.where(self.rewards > 0, 0, self._unrewarded + 1)
        cut = self.cut | (self.steps >= self.max_steps)
        if self.patience:
            cut |= self._unrewarded >= self.patience
        self._truncated |= self.live & cut & ~self._terminated
        self.live &= ~(self._terminated | self._truncated)
        drawn = [None] * self.num_envs
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and len(over):
            self._start(over, drawn)
        terminated, truncated = self._terminated.copy(), self._truncated.copy()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and (ended := terminated | truncated).any():
            final = np.full(self.num_envs, None, object)
            for row in np.flatnonzero(ended):
                final[row] = self.frames[row].copy()
            self.info |= {"final_obs": final, "_final_obs": ended}
            self._start(np.flatnonzero(ended), drawn)
        return self.frames.copy(), self.rewards, terminated, truncated, self.info


class Alone(MadeAgain, gymnasium.Env[np.ndarray, Any]):
    """One game as a Gymnasium environment: the same episodes as side by side. Its options are those of `kind`."""

    kind: type[Any]  # which `SideBySide`

    def __init__(self, *arguments: Any, **options: Any):
        self.vector = self.kind(1, *arguments, autoreset_mode=AutoresetMode.DISABLED, **options)
        self.render_mode = self.vector.render_mode
        self.metadata = {**self.metadata, "render_fps": self.vector.metadata["render_fps"]}
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode: the one of `seed`, or else the next in the chain that the last seed began."""
        given = each_seed([seed], 1)
        super().reset(seed=given[0])
        frames, info = self.vector.reset(seed=given, options=options)
        return frames[0], {"seed": int(info["seed"][0])}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step. After the last the observation is that of the moment before it where the game shows no other."""
        checked = check_actions(action, self.action_space)[None]
        frames, rewards, terminated, truncated, info = self.vector.step(checked)
        told = {key: value[0] for key, value in info.items()}
        return frames[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), told

    def render(self) -> Any:
        """The larger picture of what is seen now."""
        return self.vector.render()[0]  # type: ignore[index]

    def close(self) -> None:
        """End the game."""
        self.vector.close()


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc.

    Many simulators take some MB for each picture that they draw and free them again, Gymnasium's CarRacing 3. glibc gives
    them back to the system each time, which then makes all their pages anew: a quarter of that one's time.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)
        library.mallopt(M_MMAP_THRESHOLD, LARGE)
