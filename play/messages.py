"""What the page may say to the server: small JSON objects, each checked before anything is done with it.

Every message has a `type`; the others of its keys, all of them needed unless said otherwise, are in MESSAGES.
"""

import json
import math
import time
from collections.abc import Callable
from typing import Any

LONGEST = 512
"""Bytes of a message."""
TEMPERATURES = (0.05, 3.0)
"""Of the dream, lowest and highest."""
SEEDS = 2**31
RATE, BURST = 150, 150
"""Messages that a session may send a second, and at once after being silent: at most one a frame is needed."""
FORGIVEN = 5
"""Messages with a mistake after which a session is closed."""


class Refused(Exception):
    """A message with a mistake in it; the text is for the page."""


def number(low: float, high: float) -> Callable[[Any], bool]:
    """Whether it is a number between two others."""
    return lambda value: type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def whole(high: int) -> Callable[[Any], bool]:
    """Whether it is a whole number from 0 to below another."""
    return lambda value: type(value) is int and 0 <= value < high


def flag(value: Any) -> bool:
    """Whether it is true or false."""
    return type(value) is bool


MESSAGES: dict[str, dict[str, Callable[[Any], bool]]] = {
    # `seen`: the number of the newest frame that has arrived. `action`: what is pressed, a number for each axis.
    "input": {"seen": whole(2**53), "action": lambda value: isinstance(value, list)},
    "world": {"name": lambda value: value in ("dream", "real")},
    "restart": {"seed": lambda value: value is None or whole(SEEDS)(value)},
    "temperature": {"value": number(*TEMPERATURES)},
    "controller": {"on": flag},
    "pause": {"on": flag},
    "record": {"on": flag},
}


def parse(text: str, axes: list[tuple[float, float]]) -> dict[str, Any]:
    """A message, checked. axes: lowest and highest of each number of an action. Raises Refused."""
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
        if len(action) != len(axes) or not all(number(*axis)(value) for axis, value in zip(axes, action, strict=True)):
            limits = ", ".join(f"{low:g} to {high:g}" for low, high in axes)
            raise Refused(f"wrong value for action: expected {len(axes)} of numbers, {limits}")
    return message


class Meter:
    """Counts messages: `Meter().allows()` is False once there were too many (RATE a second, BURST at once)."""

    def __init__(self, rate: float = RATE, burst: float = BURST, clock: Callable[[], float] = time.monotonic):
        self.rate, self.burst, self.clock = rate, burst, clock
        self.left, self.last = burst, clock()

    def allows(self) -> bool:
        """Count a message."""
        now = self.clock()
        self.left = min(self.burst, self.left + (now - self.last) * self.rate)
        self.last = now
        self.left -= 1
        return self.left >= 0
