"""What the page may say to the server, and the frames that it is sent.

The page's messages are small JSON objects, each checked before anything is done with it. Each has a `type`; the others
of its keys, all of them needed unless said otherwise, are in MESSAGES.

Of a frame four bytes, big-endian, say how long the JSON is that follows and says what it is; it ends with `sizes`, the
bytes of each picture that comes after it. Small pictures are PNG, as they are; larger ones, which are only looked at,
JPEG.
"""

import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import gymnasium
import numpy as np

from envs.worlds import World

LONGEST = 512  # bytes of a message
TEMPERATURES = (0.05, 3.0)  # of the dream, lowest and highest
SLIDERS = 6  # numbers of z that a page can change, fewer where z has fewer
BENDS = (-3.0, 3.0)  # the lowest and highest value that it can give them
SEEDS = 2**31
RATE, BURST = 150, 150
"""Messages that a session may send a second, and at once after being silent: at most one a frame is needed."""
FORGIVEN = 5  # messages with a mistake after which a session is closed
SMALL = 100  # rows of a picture up to which it is sent as PNG
JPEG_QUALITY = 90


class Refused(Exception):
    """A message with a mistake in it; the text is for the page."""


class Axis(NamedTuple):
    """One number: of an action, as the world executes it, or another of a message."""

    name: str
    low: float
    high: float
    whole: bool = False

    def fits(self, value: Any) -> bool:
        """Whether it is such a number, however long it is; NaN never is."""
        return type(value) in ((int,) if self.whole else (int, float)) and self.low <= value <= self.high


def of(kind: type) -> Callable[[Any], bool]:
    """Whether it is of a type, and of none that is derived from it."""
    return lambda value: type(value) is kind


def bent(values: Any) -> bool:
    """Whether it is what the sliders are held at: a number for each, None for one that is left alone."""
    fits = Axis("z", *BENDS).fits
    return type(values) is list and len(values) <= SLIDERS and all(value is None or fits(value) for value in values)


MESSAGES: dict[str, dict[str, Callable[[Any], bool]]] = {
    # `seen`: the number of the newest frame that has arrived. `action`: what is pressed, a number for each axis.
    "input": {"seen": Axis("seen", 0, 2**53, whole=True).fits, "action": of(list)},
    "world": {"name": lambda value: value in ("dream", "real")},
    "restart": {"seed": lambda value: value is None or Axis("seed", 0, SEEDS - 1, whole=True).fits(value)},
    "temperature": {"value": Axis("temperature", *TEMPERATURES).fits},
    "controller": {"on": of(bool)},
    "pause": {"on": of(bool)},
    "step": {},  # pause, and make one step
    "bend": {"values": bent},  # hold z there
    "record": {"on": of(bool)},
}


def axes_of(world: World) -> list[Axis]:
    """The numbers of an action in a world."""
    if world.choices:
        return [Axis("choice", 0.0, world.choices - 1.0, whole=True)]
    space: Any = world.action_space
    if isinstance(space, gymnasium.spaces.Box):
        limits = space.low.ravel().tolist(), space.high.ravel().tolist()
        return [Axis(*axis) for axis in zip(world.action_names, *limits, strict=True)]
    if world.actions == 1:
        return [Axis("move", -1.0, 1.0)]
    return [Axis(name, 0.0, 1.0) for name in world.action_names]  # several choices, each thing apart


def parse(text: str, axes: list[Axis]) -> dict[str, Any]:
    """A message, checked. axes: of an action. Raises Refused."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("the message is not JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise Refused("the message is not an object with a type")
    kind = message["type"]
    if kind not in MESSAGES:
        raise Refused(f"there is no message of this type: expected one of {', '.join(MESSAGES)}")
    wanted = MESSAGES[kind]
    if set(message) != {"type", *wanted}:
        raise Refused(f"a message of type {kind} has the keys {', '.join(['type', *wanted])}")
    for key, fits in wanted.items():
        if not fits(message[key]):
            raise Refused(f"wrong value for {key} in a message of type {kind}")
    if kind == "input":
        action = message["action"]
        if len(action) != len(axes) or not all(axis.fits(value) for axis, value in zip(axes, action, strict=True)):
            limits = ", ".join(f"{axis.low:g} to {axis.high:g}{' (whole)' * axis.whole}" for axis in axes)
            raise Refused(f"wrong value for action: expected {len(axes)} of numbers, {limits}")
    return message


class Meter:
    """Counts messages: `Meter().allows()` is False once there were too many (RATE a second, BURST at once)."""

    def __init__(self) -> None:
        self.left, self.last = float(BURST), time.monotonic()

    def allows(self) -> bool:
        now = time.monotonic()
        self.left = min(BURST, self.left + (now - self.last) * RATE) - 1
        self.last = now
        return self.left >= 0


def pack_frame(about: dict[str, Any], pictures: list[np.ndarray]) -> bytes:
    """Pictures, each (h, w, 3) uint8 RGB, and what is to be said of them."""
    images = [encode(picture) for picture in pictures]
    header = json.dumps({**about, "sizes": [len(image) for image in images]}, separators=(",", ":")).encode()
    return b"".join([len(header).to_bytes(4, "big"), header, *images])


def encode(picture: np.ndarray) -> bytes:
    """One picture, (h, w, 3) uint8 RGB, as PNG or JPEG."""
    small = len(picture) <= SMALL
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if small else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png" if small else ".jpg", bgr, options)[1].tobytes()
