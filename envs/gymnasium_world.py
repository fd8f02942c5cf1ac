"""Any environment that `gymnasium.make` opens and that shows pixels: what `env.id` names, with `env.kwargs`.

A frame is what the environment shows, cropped (env.crop) and shrunk to 64 x 64 RGB: its observation where that is a
picture, or what it renders (env.view). C chooses one of n actions by the largest of n numbers, each of several choices
likewise, and a quantity by a number between its limits; M sees the choice as one-hot, the quantity as it is executed.
What the environment itself cuts short is a truncation, as after env.max_steps.
"""

import functools
import importlib.util
import inspect
import json
import os
import time
from importlib import metadata
from typing import Any

import cv2
import gymnasium
import numpy as np

from envs import actions
from envs.sidebyside import SideBySide, keep_freed_memory, pixels
from envs.worlds import FRAME, Rates, World
from experiment.problem import UsageProblem
from experiment.schema import LONGEST, STEPS, Env

PICTURE = 32  # an observation with fewer pixels a side is not taken for a picture unless that is asked for
TRIED, UNKNOWN = 0.2, 200
"""Seconds in which the steps of an unknown world are counted, for estimates, and as many before that, in which they are not;
steps that its episodes are taken to last."""
KEYS = 10  # actions that a player has keys for, the digits


class Game:
    """One environment, from pixels and actions up. Raises UsageProblem, in one line, for what V and C cannot live in."""

    def __init__(self, id: str, kwargs: dict[str, Any], view: str, crop: list[int], skip: int):
        """As the settings of the same names, see experiment.schema.Env."""
        self.name = f"env.id={id}"
        if not id:
            raise UsageProblem("env.id is empty: name an environment of Gymnasium, such as env.id=CartPole-v1")
        keep_freed_memory()
        self.skip, self.env = skip, opened(id, kwargs, view)
        space: Any = self.env.observation_space
        shown = is_picture(space) and min(space.shape[:2]) >= PICTURE
        self.rendered = view == "render" or (view == "auto" and not shown)
        try:
            self.see(self.env.reset(seed=0)[0])
        except Exception as fault:  # whatever a stranger's code raises
            self.env.close()
            unseen = f"{self.name} shows no pixels that V could learn from ({told(fault)}); see env.view"
            raise UsageProblem(unseen) from fault
        top, bottom, left, right = crop
        height, width = self.screen.shape[:2]
        if min(height - top - bottom, width - left - right) < 1:
            raise UsageProblem(f"impossible value env.crop={crop}: {self.name} shows {height} x {width} pixels")
        self.seen = slice(top, height - bottom), slice(left, width - right)
        self.start = int(getattr(self.env.action_space, "start", 0)) if discrete(self.env.action_space) else 0

    def see(self, observation: Any) -> None:
        """Take the picture of this moment, (h, w, 3) uint8. Raises ValueError where there is none."""
        picture = np.asarray(self.env.render() if self.rendered else observation)
        if not is_picture(picture):
            shown = "render" if self.rendered else "observation"
            raise ValueError(f"its {shown} is {picture.dtype} of shape {picture.shape}, not uint8 (h, w, 3)")
        self.screen = np.broadcast_to(picture.reshape(*picture.shape[:2], -1), (*picture.shape[:2], 3))

    def reset(self, seed: int) -> None:
        """Begin the episode of that seed."""
        self.see(self.env.reset(seed=seed)[0])

    def step(self, action: Any) -> tuple[float, bool, bool]:
        """The reward of env.skip steps with the same action, whether they ended the episode, and whether it was cut."""
        total = 0.0
        for _ in range(self.skip):
            observation, reward, terminated, truncated, _ = self.env.step(action + self.start if self.start else action)
            total += float(reward)
            if terminated or truncated:
                break
        self.see(observation)
        return total, bool(terminated), bool(truncated)

    def view(self, frame: np.ndarray) -> None:
        """Write the observation into `frame`, (64, 64, 3) uint8."""
        # Of the large pictures that many environments draw it takes an eighth of Shrink's time, and the pixels are the same.
        cv2.resize(np.ascontiguousarray(self.screen[self.seen]), FRAME[:2], frame, interpolation=cv2.INTER_AREA)


def opened(id: str, kwargs: dict[str, Any], view: str) -> gymnasium.Env[Any, Any]:
    """The environment itself, which renders unless `view` is its observation.

    A folder without a module, such as `runs`, is not taken for a package: nothing that lies in a run folder is executed.
    """
    package = id.partition(":")[0].partition(".")[0] if ":" in id else ""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is not None and spec.origin is None:
        raise UsageProblem(f"env.id={id} cannot be opened: {package} is a folder, not a module")
    os.environ["SDL_VIDEODRIVER"] = "dummy"  # pygame looks for a display otherwise, and complains
    modes: dict[str, Any] = {} if view == "observation" else {"render_mode": "rgb_array"}
    try:
        return gymnasium.make(id, disable_env_checker=True, **modes, **kwargs)
    except Exception as fault:  # also what the environment's own code raises, such as a TypeError for unknown arguments
        raise UsageProblem(f"env.id={id} cannot be opened: {told(fault)}") from fault


def told(fault: Exception) -> str:
    """What went wrong, with what kind of mistake it is."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())}"


def is_picture(what: Any) -> bool:
    """Whether an array, or those of a space, are uint8 (h, w), (h, w, 1) or (h, w, 3)."""
    return what.dtype == np.uint8 and len(what.shape) in (2, 3) and what.shape[2:] in ((), (1,), (3,))


def discrete(space: gymnasium.Space[Any]) -> bool:
    """Whether an action is one of some."""
    return isinstance(space, gymnasium.spaces.Discrete)


class GymnasiumVector(SideBySide):
    """N environments in this process, one after the other.

    Gymnasium's own vector environments step finished games too, or wait until all are begun anew; work is spread over
    processes by who plays (World.spread). `render` gives the whole pictures, in their own size.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(
        self,
        num_envs: int,
        max_steps: int,
        id: str = "",
        kwargs: dict[str, Any] | None = None,
        view: str = "auto",
        crop: tuple[int, ...] = (0, 0, 0, 0),
        skip: int = 1,
        **common: Any,
    ):
        """id to skip: see Game. common: see SideBySide."""
        self.games = [Game(id, kwargs or {}, view, list(crop), skip) for _ in range(num_envs)]
        super().__init__(num_envs, pixels(*FRAME), plain(self.games[0]), max_steps, **common)

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        for row, seed in zip(rows, seeds, strict=True):
            self.games[row].reset(seed)
            self.games[row].view(self.frames[row])

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> None:
        for row in rows:
            self.rewards[row], self.ended[row], self.cut[row] = self.games[row].step(actions[row])
            self.games[row].view(self.frames[row])

    def render(self) -> tuple[np.ndarray, ...]:
        """The whole pictures of all games."""
        return tuple(game.screen.copy() for game in self.games)

    def close_extras(self, **kwargs: Any) -> None:
        """End the environments."""
        for game in self.games:
            game.env.close()


def plain(game: Game) -> gymnasium.Space[Any]:
    """The environment's action space, its choices counted from 0. Raises UsageProblem if C cannot act in it."""
    space, spaces = game.env.action_space, gymnasium.spaces
    if isinstance(space, spaces.Discrete) and space.n > 1:
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not np.any(space.start):
        return space
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating) and space.is_bounded():
        return space
    raise UsageProblem(
        f"{game.name} has actions that C cannot choose, {space}: expected Discrete, MultiDiscrete, or a Box of bounded "
        "numbers"
    )


GAME_OPTIONS = ("id", "kwargs", "view", "crop", "skip")


def world_with(env: Env) -> World:
    """The world of these settings. The environment is opened once to see what it is."""
    return known(json.dumps({name: getattr(env, name) for name in GAME_OPTIONS}))


@functools.cache
def known(options: str) -> World:
    """The same, once for the same settings, which are given as JSON."""
    game = Game(**json.loads(options))
    space = plain(game)
    spec, fps = game.env.spec, game.env.metadata.get("render_fps") or GymnasiumVector.metadata["render_fps"]
    limit = getattr(spec, "max_episode_steps", None)
    about: dict[str, Any] = {"action_space": space}
    if isinstance(space, gymnasium.spaces.Box):
        size = int(np.prod(space.shape))
        about |= {
            "actions": size,
            "execute": functools.partial(actions.scale, low=space.low.ravel(), high=space.high.ravel()),
            "unexecute": functools.partial(actions.unscale, low=space.low.ravel(), high=space.high.ravel()),
            "to_env": lambda executed: np.asarray(executed, space.dtype).reshape(-1, *space.shape),
            "from_env": lambda taken: np.asarray(taken, np.float32).reshape((-1, size) if size > 1 else -1),
            "action_names": ("move",) if size == 1 else tuple(map(str, range(size))),
        }
    else:
        counts = [int(space.n)] if discrete(space) else space.nvec.tolist()  # type: ignore[attr-defined]
        about |= {
            "actions": sum(counts),
            "execute": functools.partial(actions.pick, counts=counts),
            "unexecute": actions.unpick,
            "to_env": functools.partial(actions.to_numbers, counts=counts, one=discrete(space)),
            "from_env": functools.partial(actions.from_numbers, counts=counts, one=discrete(space)),
            "action_names": tuple(map(str, range(sum(counts)))),
            "choices": counts[0] if discrete(space) and counts[0] <= KEYS else 0,
        }
    rate, skip = steps_a_second(game), game.skip
    limit = -(-limit // skip) if limit else STEPS
    lasts = min(UNKNOWN, limit)
    game.env.close()
    module = inspect.getmodule(type(game.env.unwrapped)).__name__.partition(".")[0]  # type: ignore[union-attr]
    return World(
        environment=spec.id if spec else game.name,
        package=metadata.packages_distributions().get(module, ["gymnasium"])[0],
        vector=GymnasiumVector,
        options=GAME_OPTIONS,
        longest=LONGEST,
        limit=limit,
        fps=max(1, round(fps / skip)),
        score="return",
        solved=spec.reward_threshold if spec else None,
        digits=2,
        recorded=8,
        compared=20,
        rates=Rates(
            episode=lasts, random=lasts, agent_episode=lasts, extract=rate, blind=rate / 2, agent=rate / 2, final=rate,
            alone=rate / 2, rnn=(90_000, 62_000, 15_000), dream=(300_000, 147_000, 40_000),
        ),
        **about,
    )  # fmt: skip


def steps_a_second(game: Game) -> float:
    """About how many random steps two processes take a second, with all that a frame costs."""
    game.env.action_space.seed(0)
    frame = np.zeros(FRAME, np.uint8)
    for _ in range(2):  # the first time the environment makes what it makes once, such as the pictures of its objects
        steps, began = 0, time.monotonic()
        while (spent := time.monotonic() - began) < TRIED:
            _, ended, cut = game.step(np.asarray(game.env.action_space.sample()) - game.start)
            game.view(frame)
            steps += 1
            if ended or cut:
                game.reset(steps)
    return 2 * steps / spent


GYMNASIUM = world_with
