"""A session: one page's own game or dream, stepped by a thread of its own at the world's own speed.

What the page wants is kept as wishes, which the thread fulfils between two steps, always the newest; what the page is
to see is kept as the newest frame, which a page that is slow in taking them skips. So neither side can fill the other's
memory, and nobody waits for anybody.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiment.problem import Problem, one_line
from play.messages import SEEDS, axes_of
from play.models import Models
from play.places import Happened, Place
from play.recorder import Recorder, Recordings
from play.wire import pack_frame

LATE = 0.25
"""Seconds behind the clock after which a session no longer tries to catch up."""
PAUSE_BETWEEN = 2.0
"""Seconds that C waits before it plays again."""
RATE_OVER = 50
"""Steps that the rate is measured over."""
LONGEST = 500
"""Characters of what went wrong; TensorFlow has more to say."""
NEWS = 100
"""Messages that are kept for a page that does not take them."""


@dataclass
class Wishes:
    """What the page wants."""

    world: str
    temperature: float
    action: np.ndarray
    """As the world executes it, (A,)."""
    restarts: int = 0
    seed: int | None = None
    controller: bool = False
    paused: bool = True
    recording: bool = False


class Session(threading.Thread):
    """Begins when started, ends after `stop` or a failure. wake: called, in this thread, when there is something for the page.

    The other methods may be called by any thread.
    """

    def __init__(self, models: Models, recordings: Recordings, wake: Callable[[], Any]):
        super().__init__(daemon=True, name="session")
        self.models, self.recordings, self.wake = models, recordings, wake
        world = "real" if "dream" in models.missing else "dream"
        self.neutral = np.full(len(axes_of(models.world)), models.world.rest, "float32")
        self.wishes = Wishes(world, float(models.settings.dream.temperature), self.neutral)
        self.changed = threading.Condition()
        self.stopped = False
        self.news: deque[dict[str, Any]] = deque(maxlen=NEWS)
        self.frame: bytes | None = None
        """The newest frame that was not taken yet."""
        self.place: Place | None = None
        self.opened = ""
        """Which world the place is."""
        self.recorder: Recorder | None = None
        self.episode, self.steps, self.total = 0, 0, 0.0
        self.times: deque[float] = deque(maxlen=RATE_OVER)
        self.over: str | None = None
        self.raw = self._raw(self.neutral)
        self.failure: str | None = None
        """Why the session has ended by itself, once its world is freed."""

    # For the server.

    def hear(self, message: dict[str, Any]) -> None:
        """Take a checked message of the page."""
        with self.changed:
            wishes = self.wishes
            match message["type"]:
                case "input":
                    wishes.action = np.array(message["action"], "float32")
                    return
                case "world":
                    wishes.world = message["name"]
                    wishes.paused = not wishes.controller
                case "restart":
                    wishes.restarts += 1
                    wishes.seed, wishes.paused = message["seed"], False
                case "temperature":
                    wishes.temperature = float(message["value"])
                case "controller":
                    wishes.controller = message["on"] and "controller" not in self.models.missing
                    wishes.paused = wishes.paused and not wishes.controller
                case "pause":
                    wishes.paused = message["on"]
                case "record":
                    wishes.recording = message["on"]
            self.changed.notify()

    def stop(self) -> None:
        """End the thread, after the step that it is in, and free its world."""
        with self.changed:
            self.stopped = True
            self.changed.notify()

    def take(self) -> bytes | None:
        """The newest frame, once."""
        with self.changed:
            frame, self.frame = self.frame, None
            return frame

    @property
    def rate(self) -> float:
        """Steps a second just now; 0 where nothing moves."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0]) if len(self.times) > 1 else 0.0

    # What the thread does.

    def run(self) -> None:
        failure = None
        for part in (self._live, lambda: self._record(False), self._leave):
            try:
                part()
            except Exception as error:
                failure = failure or reason_of(error)
        self.failure = failure
        self.wake()

    def _live(self) -> None:
        fulfilled: Wishes | None = None
        due = time.monotonic()
        while not self.stopped:
            with self.changed:
                wishes = Wishes(**vars(self.wishes))
            if fulfilled is None or vars_but_action(wishes) != vars_but_action(fulfilled):
                self._fulfil(wishes, fulfilled)
                fulfilled = wishes
                self._tell_state()
            if self.place is None or wishes.paused or (self.over and not wishes.controller):
                self._sleep(wishes, None)
                due = time.monotonic()
                self.times.clear()
                continue
            if self.over:
                if not self._sleep(wishes, PAUSE_BETWEEN):
                    self._begin(None)
                due = time.monotonic()
                self.times.clear()
                continue
            self._step(wishes)
            due = self._wait(due)

    def _sleep(self, wishes: Wishes, seconds: float | None) -> bool:
        """Until the page wants something else, or so long. Returns whether it does."""
        with self.changed:
            before = vars_but_action(wishes)
            return self.changed.wait_for(lambda: self.stopped or vars_but_action(self.wishes) != before, seconds)

    def _wait(self, due: float) -> float:
        """Until the next step is due, which is returned; it is put off where this session is far behind."""
        due += 1 / self.models.world.fps
        now = time.monotonic()
        if now < due:
            time.sleep(due - now)
        return due if now - due < LATE else now

    def _fulfil(self, wishes: Wishes, before: Wishes | None) -> None:
        """Bring about what changed."""
        if wishes.world != self.opened:
            self._enter(wishes.world)
        elif before is not None and wishes.restarts != before.restarts and self.place is not None:
            self._begin(wishes.seed)
        if wishes.recording != (self.recorder is not None):
            self._record(wishes.recording)
            with self.changed:
                self.wishes.recording = self.recorder is not None

    def _enter(self, name: str) -> None:
        """Open another world and leave the one there is. If it cannot be had, stay, and say why."""
        place: Place | None = None
        try:
            place = self.models.open(name)
            place.begin(chosen(self.wishes.seed))
        except Exception as error:
            if place is not None:
                place.close()
            with self.changed:
                if self.wishes.world == name:  # so that to wish for it again is another try
                    self.wishes.world = self.opened
            self._tell({"type": "unopened", "world": name, "message": reason_of(error)})
            return
        self._leave()
        self.place, self.opened = place, name
        self._tell_state()  # the page must know what the first frame is of
        self._begun()

    def _leave(self) -> None:
        if self.place is not None:
            self.place.close()
            self.place = None

    def _begin(self, seed: int | None) -> None:
        assert self.place is not None
        self.place.begin(chosen(seed))
        self._begun()

    def _begun(self) -> None:
        """Count an episode, and show its first frame."""
        self.episode += 1
        self.steps, self.total, self.over = 0, 0.0, None
        self.raw = self._raw(self.neutral)
        self._show()

    def _step(self, wishes: Wishes) -> None:
        assert self.place is not None
        if wishes.controller and self.place.advice is not None:
            self.raw = np.asarray(self.place.advice, "float32")
        else:
            self.raw = self._raw(wishes.action)
        happened: Happened = self.place.step(self.raw, wishes.temperature)
        self.times.append(time.monotonic())
        self.steps += 1
        self.total += happened.reward
        self.over = "died" if happened.died else "cut" if happened.cut else None
        self._show()

    def _show(self) -> None:
        """Hand what is seen now to the page and the recording."""
        assert self.place is not None
        executed = np.atleast_1d(self.models.world.execute(self.raw)).astype(float).round(3).tolist()
        about = {
            "episode": self.episode,
            "step": self.steps,
            "total": round(self.total, 2),
            "over": self.over,
            "action": executed,
            "controller": self.wishes.controller,
            "rate": round(self.rate, 1),
        }
        packed = pack_frame(about, self.place.pictures)
        with self.changed:
            self.frame = packed
        if self.recorder is not None and not self.recorder.add(self.place.pictures, self._labels()):
            with self.changed:  # it is as long as it may be
                self.wishes.recording = False
        self.wake()

    def _labels(self) -> list[str]:
        assert self.place is not None
        first, *others = self.place.labels
        return [f"{first}, temperature {self.wishes.temperature:.2f}" if self.place.heated else first, *others]

    def _record(self, on: bool) -> None:
        """Begin a recording, or end it and tell the page where it is."""
        if on and self.recorder is None and self.place is not None:
            self.recorder = self.recordings.begin(self.models.world.fps)
            self.recorder.add(self.place.pictures, self._labels())
        elif self.recorder is not None:
            recorder, self.recorder = self.recorder, None
            try:
                url, seconds = self.recordings.finish(recorder)
            except Problem as problem:
                self._tell({"type": "error", "message": reason_of(problem), "closed": False})
            else:
                self._tell({"type": "recorded", "url": url, "seconds": round(seconds, 1)})

    def _tell_state(self) -> None:
        wishes, place = self.wishes, self.place
        self._tell(
            {
                "type": "state",
                "world": self.opened,
                "labels": list(place.labels) if place is not None else [],
                "scored": place is None or place.scored,
                "temperature": wishes.temperature,
                "controller": wishes.controller,
                "paused": wishes.paused,
                "recording": self.recorder is not None,
            }
        )

    def _tell(self, message: dict[str, Any]) -> None:
        with self.changed:
            self.news.append(message)
        self.wake()

    def _raw(self, executed: np.ndarray) -> np.ndarray:
        """A raw action, () or (A,), that is executed as the page wants it."""
        raw = np.asarray(self.models.world.unexecute(executed), "float32")
        return raw[0] if self.models.world.actions == 1 else raw


def chosen(seed: int | None) -> int:
    """A seed, or any where none was asked for."""
    return random.randrange(SEEDS) if seed is None else seed


def reason_of(error: Exception) -> str:
    """What went wrong, for the page and the terminal."""
    reason = str(error) if isinstance(error, Problem) else f"something went wrong: {type(error).__name__}: {error}"
    return one_line(reason, LONGEST)


def vars_but_action(wishes: Wishes) -> dict[str, Any]:
    """What a change of needs to be fulfilled, rather than merely looked at in the next step."""
    return {name: value for name, value in vars(wishes).items() if name != "action"}
