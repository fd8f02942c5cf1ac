"""What games side by side have in common, whatever simulates them: seeds, masks, and games that are over."""

import os
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space

from envs.checks import check_actions, check_process, check_seed, each_seed

SEEDS = 2**31  # EnvPool's are int32; larger ones are folded into these


class SideBySide(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """N games side by side.

    Observations (N, *frame) uint8, actions (N, ...). A game that is over stays as it is, whatever its action, with
    reward 0, until it is reset: `reset(seed=..., options={"reset_mask": finished})`.
    """

    title = "a game"
    """What it is called in messages."""
    time_limit: int | None = None
    """Steps after which the game itself ends an episode that nothing has decided; that is a truncation too."""
    metadata: dict[str, Any] = {  # noqa: RUF012 (as Gymnasium has it)
        "render_modes": ["rgb_array"],
        "autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED,
    }

    def __init__(
        self,
        num_envs: int,
        frame: tuple[int, ...],
        action_space: gymnasium.Space[Any],
        max_steps: int,
        patience: int = 0,
        render_mode: str | None = None,
    ):
        """action_space: of one game. patience: an episode is truncated after so many steps without a positive reward."""
        self.num_envs = num_envs
        self.max_steps, self.patience = max_steps, patience
        self.render_mode = render_mode
        self.single_observation_space = gymnasium.spaces.Box(0, 255, frame, np.uint8)
        self.single_action_space = action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.frames = np.zeros((num_envs, *frame), np.uint8)
        """What is seen in every game; subclasses write into it."""
        self.live = np.zeros(num_envs, bool)
        """Games that have begun and are not over."""
        self._seeds, self._steps, self._unrewarded = np.zeros((3, num_envs), np.int64)
        self._terminated, self._truncated = np.zeros((2, num_envs), bool)
        self._process = os.getpid()

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        """Start the episodes of these seeds in these games, and look at them."""
        raise NotImplementedError

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Step these games with their actions, (N, ...), and look at them.

        Returns rewards (N,) float64 and terminated (N,) bool, both 0 for other games.
        """
        raise NotImplementedError

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin episodes in all games, or in those where options["reset_mask"], (N,) bool, says so.

        seed: a list with a seed for each game (those not reset are ignored), or s for s, s + 1, s + 2...,
        or None for seeds drawn at random. Returns the observations of all games and their seeds.
        """
        check_process(self._process)
        seeds = each_seed(seed, self.num_envs)
        super().reset(seed=seeds[0] if isinstance(seed, int | np.integer) else None)
        rows = np.flatnonzero((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        drawn = self.np_random.integers(SEEDS, size=self.num_envs)
        chosen = [int(drawn[i]) if seeds[i] is None else check_seed(seeds[i]) % SEEDS for i in rows.tolist()]
        self._seeds[rows] = chosen
        if chosen:
            self.begin(rows, chosen)
        self._steps[rows] = self._unrewarded[rows] = 0
        self._terminated[rows] = self._truncated[rows] = False
        self.live[rows] = True
        return self.frames.copy(), {"seed": self._seeds.copy()}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step in every game that is not over."""
        check_process(self._process)
        rows = np.flatnonzero(self.live)
        checked = check_actions(actions, self.single_action_space, self.num_envs, rows)
        rewards, terminated = self.drive(rows, checked)
        self._steps[rows] += 1
        if self.time_limit:
            out_of_time = terminated & (self._steps >= self.time_limit) & (rewards <= 0)
            self._truncated |= out_of_time
            terminated &= ~out_of_time
        self._terminated |= terminated
        self._unrewarded = np.where(rewards > 0, 0, self._unrewarded + 1)
        cut = self._steps >= self.max_steps
        if self.patience:
            cut |= self._unrewarded >= self.patience
        self._truncated |= self.live & cut & ~self._terminated
        self.live &= ~(self._terminated | self._truncated)
        return self.frames.copy(), rewards, self._terminated.copy(), self._truncated.copy(), {}
