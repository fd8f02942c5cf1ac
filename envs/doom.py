"""DoomTakeCover: survive in ViZDoom's `take_cover` at skill 4, as one environment or many side by side.

A step is one tic of the game (35 a second), reward 1; death ends an episode. The screen is RGB, of a size that is a
setting; the status bar, its lowest sixth, is cut off and the rest shrunk to 64 x 64 (paper, appendix A). The same seed
and actions give the same episode, also when the game's process dies in between: it is started again and the episode
played again up to there.

Whether a step brought a hit is told in `info["hit"]`, for whoever measures; the agent is not shown it.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np
import vizdoom

from envs import actions
from envs.engine import DIED, Engine
from envs.shrink import BLOCK, Shrink
from envs.sidebyside import Alone, SideBySide, pixels
from envs.worlds import FRAME, Rates, World
from experiment.hardware import thread_count
from experiment.problem import Problem

MAX_STEPS = 2100
FPS = 35
START_HEALTH = 100.0
ATTEMPTS = 3
CROSSING = 125  # tics from one side of the room to the other

BUTTONS = ([0, 0], [1, 0], [0, 1])
"""What discrete action 0 (stay), 1 (left) and 2 (right) press: [MOVE_LEFT, MOVE_RIGHT]."""


class Game:
    """One game, from frames and button presses up."""

    def __init__(self, screen: str = "160x120", flashes: bool = False, start_tic: int = 1):
        """screen, flashes, start_tic: see experiment.schema.Env."""
        self.options = screen, flashes, start_tic
        width, height = map(int, screen.split("x"))
        self.rows = height * 5 // 6  # below them is the status bar
        self.screen = np.zeros((height, width, 3), np.uint8)
        """The whole screen as last seen. After the last tic of an episode there is no new one."""
        self.seed = 0
        self.actions: list[int] = []  # the episode's discrete actions so far
        self.dead = self.hit = False  # whether the last tic killed the player; whether it hurt
        self.health = 0.0
        self.engine: Engine | None = None
        self.shrink = Shrink((self.rows, width), FRAME[:2])

    def reset(self, seed: int) -> None:
        """Begin the episode of that seed."""
        self.seed, self.actions = seed, []
        self._outliving(self._begin)

    def step(self, action: int) -> None:
        """Play one tic with a discrete action."""
        self.actions.append(action)
        self._outliving(lambda: self._advance(action))

    def view(self, frame: np.ndarray) -> None:
        """Write the observation into `frame`, (64, 64, 3) uint8."""
        self.shrink(self.screen[: self.rows], frame)

    def play(self, seed: int, actions: Iterable[int], max_steps: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """The episode of that seed, of T tics, under the first T discrete actions of a player who does not look.

        The fastest way to record one. It gives what DoomVector gives, but the screens are shrunk several at a time, and
        nothing is done for every tic that could be done for many: seven tenths of the work.
        Returns the frames (T, 64, 64, 3) uint8, each seen before the action of its row, the rewards (T,) float32, and
        whether it ended in death; else it was cut short after max_steps tics.
        """
        frames, screens = [], []
        self.reset(seed)
        for tic, action in enumerate(actions, start=1):
            screens.append(self.screen[: self.rows])
            self.step(action)
            over = self.dead or tic == max_steps
            if over or len(screens) == BLOCK:
                frames.append(np.empty((len(screens), *FRAME), np.uint8))
                self.shrink(np.stack(screens), frames[-1])
                screens = []
            if over:
                break
        return np.concatenate(frames), np.ones(tic, np.float32), self.dead

    def close(self) -> None:
        """End the game's process."""
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def _outliving(self, act: Callable[[], None]) -> None:
        """Do something with the game's process; if it has died, start another and play the episode again up to here."""
        for _ in range(ATTEMPTS):
            try:
                return act()
            except DIED as error:
                fault, act = error, self._replay
                self.close()
        raise Problem(
            f"the game's process ended {ATTEMPTS} times in a row ({fault}): is the machine out of memory?"
        ) from fault

    def _replay(self) -> None:
        self._begin()
        for action in self.actions:
            self._advance(action)

    def _begin(self) -> None:
        self.engine = self.engine or Engine(new_game(*self.options))
        self.engine.game.set_seed(self.seed)  # without it an episode would depend on those before it
        self.engine.game.new_episode()
        self.health = np.inf
        self._look(self.engine.game.get_state())

    def _advance(self, action: int) -> None:
        assert self.engine is not None
        self.engine.game.make_action(BUTTONS[action])
        self._look(self.engine.game.get_state())

    def _look(self, state: vizdoom.GameState | None) -> None:
        self.dead, health = state is None, 0.0
        if state is not None:
            assert state.game_variables is not None
            health, self.screen = float(state.game_variables[0]), state.screen_buffer  # the scenario's only variable
        self.hit, self.health = health < min(self.health, START_HEALTH), health


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


class DoomVector(SideBySide):
    """Many games stepped at once, N of them, by as many threads as there are cores.

    Observations (N, 64, 64, 3) uint8, actions (N,): 0 stay, 1 left, 2 right. info["hit"] (N,) bool. After the last tic the
    observation is still the one before.
    """

    seeds = 2**32  # ViZDoom's are uint32
    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(
        self,
        num_envs: int,
        max_steps: int = MAX_STEPS,
        threads: int = 0,
        screen: str = "160x120",
        flashes: bool = False,
        start_tic: int = 1,
        **common: Any,
    ):
        """screen, flashes, start_tic: see experiment.schema.Env. common: see SideBySide."""
        super().__init__(num_envs, pixels(*FRAME), gymnasium.spaces.Discrete(len(BUTTONS)), max_steps, **common)
        self.games = [Game(screen, flashes, start_tic) for _ in range(num_envs)]
        self.threads = threads or thread_count()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="doom")

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        chosen = dict(zip(rows.tolist(), seeds, strict=True))
        self._each(chosen, lambda row: self.games[row].reset(chosen[row]))

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> None:
        pressed = actions.tolist()
        self._each(rows.tolist(), lambda row: self.games[row].step(pressed[row]))
        self.info = {"hit": np.zeros(self.num_envs, bool)}
        for row in rows:
            self.rewards[row], self.ended[row], self.info["hit"][row] = 1, self.games[row].dead, self.games[row].hit

    def _each(self, rows: Iterable[int], act: Callable[[int], None]) -> None:
        """Do something with some games and look at them, each thread taking the next game that is left."""
        rows = list(rows)
        left, threads = iter(rows), min(self.threads, len(rows))

        def work(left: Iterator[int]) -> None:
            for row in left:
                act(row)
                self.games[row].view(self.frames[row])

        if threads <= 1:
            work(left)
        else:
            list(self._pool.map(work, [left] * threads))

    def render(self) -> tuple[np.ndarray, ...]:
        """The whole screens as last seen, each (120, 160, 3) uint8 unless other ones are asked for."""
        return tuple(game.screen.copy() for game in self.games)

    def close_extras(self, **kwargs: Any) -> None:
        """End the games' processes."""
        # First: a game that is closed while a thread plays it crashes the program.
        self._pool.shutdown(cancel_futures=True)
        for game in self.games:
            game.close()


class DoomEnv(Alone):
    """DoomTakeCover-v0: one game as a Gymnasium environment."""

    kind, metadata = DoomVector, DoomVector.metadata


def burning(frames: np.ndarray) -> np.ndarray:
    """Nothing but fireballs is so bright: walls, floor and monsters stay below 150 in red."""
    return (frames[..., 0] >= 200) & (frames[..., 1] >= 120)


DOOM = World(
    environment="DoomTakeCover-v0",
    package="vizdoom",
    vector=DoomVector,
    blind=Game,
    options=("screen", "flashes", "start_tic"),
    longest=MAX_STEPS,
    actions=1,
    execute=actions.move,
    to_env=actions.to_discrete,
    from_env=actions.from_discrete,
    action_space=gymnasium.spaces.Discrete(len(BUTTONS)),
    action_names=("stay", "left", "right"),
    fps=FPS,
    step="tic",
    score="survival in tics",
    solved=750,
    random=(210, 108),
    published_in="dream",
    recorded=16,
    spread=64,
    detail="fireballs",
    shows_detail=burning,
    fixed={
        "always stay": [[0.0]],
        "always left": [[-1.0]],
        "always right": [[1.0]],
        "there and back": [[-1.0]] * (CROSSING // 2) + [[1.0]] * CROSSING + [[-1.0]] * (CROSSING - CROSSING // 2),
    },
    rates=Rates(
        episode=330, random=210, agent_episode=850, extract=7_900, blind=3_000, agent=2_700,
        final=(2_700, 1_700, 860), alone=(350, 250, 127), rnn=(36_000, 24_763, 11_000), dream=(160_000, 78_528, 28_000),
    ),
)  # fmt: skip
