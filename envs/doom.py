"""DoomTakeCover: survive in ViZDoom's `take_cover` at skill 4, as one environment or many side by side.

A step is one tic of the game (35 a second). The screen is RGB, of a size that is a setting; the status bar, its lowest
sixth, is cut off and the rest shrunk to 64 x 64 (paper, appendix A). The same seed and actions give the same episode,
also when the game's process dies in between: it is started again and the episode played again up to there.

Whether a step brought a hit is told in `info["hit"]`, for whoever measures; the agent is not shown it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np
import vizdoom
from gymnasium.vector.utils import batch_space

from envs.checks import check_actions, check_process, check_seed, each_seed
from envs.engine import DIED, Engine
from envs.shrink import Shrink
from experiment.hardware import thread_count
from experiment.problem import Problem

FRAME = (64, 64, 3)
MAX_STEPS = 2100
START_HEALTH = 100.0
ATTEMPTS = 3
BLOCK = 4  # screens shrunk at a time
SEEDS = 2**31  # those that are drawn
ALL_SEEDS = 2**32  # ViZDoom's are uint32; larger ones are folded into these

BUTTONS = ([0, 0], [1, 0], [0, 1])
"""What discrete action 0 (stay), 1 (left) and 2 (right) press: [MOVE_LEFT, MOVE_RIGHT]."""


class Game:
    """One game, from frames and button presses up: what both environments are made of."""

    def __init__(self, max_steps: int = MAX_STEPS, screen: str = "160x120", flashes: bool = False, start_tic: int = 1):
        """screen, flashes, start_tic: see experiment.schema.Env."""
        self.max_steps, self.options = max_steps, (screen, flashes, start_tic)
        width, height = map(int, screen.split("x"))
        self.rows = height * 5 // 6
        """Below them is the status bar."""
        self.screen = np.zeros((height, width, 3), np.uint8)
        """The whole screen as last seen. After the last tic of an episode there is no new one."""
        self.seed = 0
        self.actions: list[int] = []
        """The episode's discrete actions so far."""
        self.dead = self.hit = False
        """Whether the last tic killed the player; whether it hurt."""
        self.health = 0.0
        self.engine: Engine | None = None
        self.shrink = Shrink((self.rows, width), FRAME[:2])

    def reset(self, seed: int) -> None:
        """Begin the episode of that seed."""
        self.seed, self.actions = seed, []
        try:
            self._begin()
        except DIED as fault:
            self._recover(fault)

    def step(self, action: int) -> None:
        """Play one tic with a discrete action."""
        self.actions.append(action)
        try:
            self._advance(action)
        except DIED as fault:
            self._recover(fault)

    @property
    def truncated(self) -> bool:
        """Whether the episode has lasted max_steps without the player's death."""
        return not self.dead and len(self.actions) >= self.max_steps

    @property
    def over(self) -> bool:
        """Whether the episode has ended, either way."""
        return self.dead or self.truncated

    def view(self, frame: np.ndarray) -> None:
        """Write the observation into `frame`, (64, 64, 3) uint8."""
        self.shrink(self.screen[: self.rows], frame)

    def close(self) -> None:
        """End the game's process."""
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def _recover(self, fault: Exception) -> None:
        """Start another process for one that has died, and play the episode again up to here."""
        for _ in range(ATTEMPTS - 1):
            self.close()
            try:
                self._begin()
                for action in self.actions:
                    self._advance(action)
                return
            except DIED as error:
                fault = error
        self.close()
        raise Problem(
            f"the game's process ended {ATTEMPTS} times in a row ({fault}): is the machine out of memory?"
        ) from fault

    def _begin(self) -> None:
        if self.engine is None:
            self.engine = Engine(new_game(*self.options))
        self.engine.game.set_seed(self.seed)  # without it an episode would depend on those before it
        self.engine.game.new_episode()
        self.health = np.inf
        self._look()

    def _advance(self, action: int) -> None:
        assert self.engine is not None
        self.engine.game.make_action(BUTTONS[action])
        self._look()

    def _look(self) -> None:
        assert self.engine is not None
        state = self.engine.game.get_state()
        self.dead = state is None
        health = 0.0
        if state is not None:
            assert state.game_variables is not None
            health, self.screen = float(state.game_variables[0]), state.screen_buffer  # the scenario's only variable
        self.hit, self.health = health < min(self.health, START_HEALTH), health


class DoomBlind:
    """One game for whole episodes of a player who does not look: the fastest way to record them.

    What it gives is what DoomVector gives, but the screens are shrunk several at a time, and nothing is done for
    every tic that could be done for many.
    """

    def __init__(self, max_steps: int = MAX_STEPS, **options: Any):
        """options: those of Game."""
        self.game = Game(max_steps, **options)
        self._screens = np.empty((BLOCK, self.game.rows, *self.game.screen.shape[1:]), np.uint8)

    def play(self, seed: int, actions: Iterable[int]) -> tuple[np.ndarray, np.ndarray, bool]:
        """The episode of that seed, of T tics, under the first T of the discrete actions.

        Returns the frames (T, 64, 64, 3) uint8, each seen before the action of its row, the rewards (T,) float32, and
        whether it ended in death; else it was cut short after max_steps tics.
        """
        game, blocks, waiting = self.game, [], 0
        game.reset(seed)
        for action in actions:
            self._screens[waiting] = game.screen[: game.rows]
            waiting += 1
            if waiting == BLOCK:
                blocks.append(self._shrunk(waiting))
                waiting = 0
            game.step(action)
            if game.over:
                break
        if waiting:
            blocks.append(self._shrunk(waiting))
        frames = np.concatenate(blocks)
        return frames, np.ones(len(frames), np.float32), game.dead

    def _shrunk(self, number: int) -> np.ndarray:
        frames = np.empty((number, *FRAME), np.uint8)
        self.game.shrink(self._screens[:number], frames)
        return frames

    def close(self) -> None:
        """End the game's process."""
        self.game.close()


def new_game(screen: str = "160x120", flashes: bool = False, start_tic: int = 1) -> vizdoom.DoomGame:
    """ViZDoom set up as in the paper, not yet running; see Game."""
    game = vizdoom.DoomGame()
    game.load_config(os.path.join(vizdoom.scenarios_path, "take_cover.cfg"))
    game.set_doom_skill(4)
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, f"RES_{screen.upper()}"))
    game.set_render_screen_flashes(flashes)
    game.set_episode_start_time(start_tic)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_render_hud(True)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    return game


class DoomEnv(gymnasium.Env[np.ndarray, Any]):
    """DoomTakeCover-v0: one game as a Gymnasium environment.

    Observation (64, 64, 3) uint8 RGB; actions 0 stay, 1 left, 2 right; reward 1 a tic; terminated by death,
    truncated after max_steps tics. `render` gives the whole screen, (120, 160, 3) uint8 unless another is asked for.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 35}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(self, max_steps: int = MAX_STEPS, render_mode: str | None = None, **options: Any):
        """options: those of Game."""
        self.observation_space = gymnasium.spaces.Box(0, 255, FRAME, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.render_mode = render_mode
        self.game = Game(max_steps, **options)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode: the one of `seed`, or else the next in the chain that the last seed began."""
        super().reset(seed=None if seed is None else check_seed(seed))
        self.game.reset(int(self.np_random.integers(SEEDS)) if seed is None else check_seed(seed) % ALL_SEEDS)
        return self._observation(), {"seed": self.game.seed}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play one tic. After the last the observation is still the one before."""
        self.game.step(int(check_actions(action, self.action_space)))
        return self._observation(), 1.0, self.game.dead, self.game.truncated, {"hit": self.game.hit}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The whole screen as last seen."""
        return self.game.screen.copy()

    def close(self) -> None:
        """End the game's process."""
        self.game.close()

    def _observation(self) -> np.ndarray:
        frame = np.empty(FRAME, np.uint8)
        self.game.view(frame)
        return frame


class DoomVector(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Many games stepped at once, N of them, by as many threads as there are cores.

    Observations (N, 64, 64, 3) uint8, actions (N,) in {0, 1, 2}. A game that is over stays as it is, whatever
    its action, with reward 0, until it is reset: `reset(seed=..., options={"reset_mask": finished})`.
    """

    metadata = DoomEnv.metadata | {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}

    def __init__(
        self,
        num_envs: int,
        max_steps: int = MAX_STEPS,
        threads: int = 0,
        render_mode: str | None = None,
        **options: Any,
    ):
        """options: those of Game."""
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = gymnasium.spaces.Box(0, 255, FRAME, np.uint8)
        self.single_action_space = gymnasium.spaces.Discrete(3)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.games = [Game(max_steps, **options) for _ in range(num_envs)]
        self.threads = threads or thread_count()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="doom")
        self._frames = np.zeros((num_envs, *FRAME), np.uint8)
        self._process = os.getpid()

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
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        drawn = self.np_random.integers(SEEDS, size=self.num_envs)
        chosen = {
            i: int(drawn[i]) if seeds[i] is None else check_seed(seeds[i]) % ALL_SEEDS
            for i in np.flatnonzero(mask).tolist()
        }
        self._each(list(chosen), lambda i: self.games[i].reset(chosen[i]))
        return self._frames.copy(), {"seed": np.array([game.seed for game in self.games])}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Play one tic in every game that is not over."""
        check_process(self._process)
        live = [i for i, game in enumerate(self.games) if not game.over]
        checked = check_actions(actions, self.single_action_space, self.num_envs, live).tolist()
        self._each(live, lambda i: self.games[i].step(checked[i]))
        rewards = np.zeros(self.num_envs)
        rewards[live] = 1
        dead = np.array([game.dead for game in self.games])
        truncated = np.array([game.truncated for game in self.games])
        hit = np.zeros(self.num_envs, bool)
        hit[live] = [self.games[i].hit for i in live]
        return self._frames.copy(), rewards, dead, truncated, {"hit": hit}

    def _each(self, numbers: list[int], act: Callable[[int], None]) -> None:
        """Do something with some games and look at them, each thread taking the next game that is left."""
        left = iter(numbers)
        threads = min(self.threads, len(numbers))

        def work(left: Iterator[int]) -> None:
            for i in left:
                act(i)
                self.games[i].view(self._frames[i])

        if threads <= 1:
            work(left)
        else:
            list(self._pool.map(work, [left] * threads))

    def render(self) -> tuple[np.ndarray, ...]:
        """The whole screens as last seen."""
        return tuple(game.screen.copy() for game in self.games)

    def close_extras(self, **kwargs: Any) -> None:
        """End the games' processes."""
        self._pool.shutdown(
            cancel_futures=True
        )  # first: a game that is closed while a thread plays it crashes the program
        for game in self.games:
            game.close()
