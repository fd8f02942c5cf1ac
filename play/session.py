"""A session: one page's own scene, stepped by a thread of its own at the world's own speed.

What the page wants is kept as wishes, which the thread fulfils between two steps, always the newest; what the page is
to see is kept as the newest frame, which a page that is slow in taking them skips. So neither side can fill the other's
memory, and nobody waits for anybody.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiment.problem import Problem, one_line
from play.messages import SEEDS, pack_frame
from play.recorder import Recorder, Recordings
from play.scenes import Models, Scene

LATE = 0.25  # seconds behind the clock after which a session no longer tries to catch up
PAUSE_BETWEEN = 2.0  # seconds that C waits before it plays again
RATE_OVER = 50  # steps that the rate is measured over
LONGEST = 500  # characters of what went wrong; TensorFlow has more to say
NEWS = 100  # messages that are kept for a page that does not take them


@dataclass(frozen=True)
class Wishes:
    """What the page wants, but for the action."""

    world: str
    temperature: float
    restarts: int = 0
    steps: int = 0  # single ones
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
        self.wishes = Wishes(world, float(models.settings.dream.temperature))
        self.action = models.rest  # what the page presses, as the world executes it, (A,)
        self.held: dict[int, float] = {}  # what the page holds numbers of z at, by their places in it
        self.bends: dict[int, float] = {}  # those of them that z has not been set to yet, though let go since
        self.changed = threading.Condition()
        self.stopped = False
        self.news: deque[dict[str, Any]] = deque(maxlen=NEWS)
        self.frame: bytes | None = None  # the newest frame that was not taken yet
        self.scene = Scene()  # of nothing, until one could be opened
        self.opened = ""  # which world the scene is of
        self.recorder: Recorder | None = None
        self.episode, self.steps, self.total = 0, 0, 0.0
        self.times: deque[float] = deque(maxlen=RATE_OVER)
        self.over: str | None = None
        self.raw = models.raw(models.rest)
        self.failure: str | None = None  # why the session has ended by itself, once its world is freed

    # For the server.

    def hear(self, message: dict[str, Any]) -> None:
        """Take a checked message of the page."""
        wishes = self.wishes
        match message["type"]:
            case "input":
                self.action = np.array(message["action"], "float32")
            case "world":
                self._wish(world=message["name"], paused=not wishes.controller)
            case "restart":
                self._wish(restarts=wishes.restarts + 1, seed=message["seed"], paused=False)
            case "temperature":
                self._wish(temperature=float(message["value"]))
            case "controller":
                on = message["on"] and "controller" not in self.models.missing
                self._wish(controller=on, paused=wishes.paused and not on)
            case "pause":
                self._wish(paused=message["on"])
            case "step":
                self._wish(paused=True, steps=wishes.steps + 1)
            case "bend":
                with self.changed:
                    values = zip(self.models.sliders, message["values"], strict=False)
                    self.held = {place: float(value) for place, value in values if value is not None}
                    self.bends |= self.held
                    self.changed.notify()
            case "record":
                self._wish(recording=message["on"])

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

    def _wish(self, **changes: Any) -> None:
        with self.changed:
            self.wishes = replace(self.wishes, **changes)
            self.changed.notify()

    # What the thread does.

    def run(self) -> None:
        failure = None
        for part in (self._live, lambda: self._record(False), lambda: self.scene.close()):
            try:
                part()
            except BaseException as error:  # a world may call sys.exit() too
                failure = failure or reason_of(error)
        self.failure = failure
        self.wake()

    def _live(self) -> None:
        fulfilled: Wishes | None = None
        due = time.monotonic()
        while not self.stopped:
            wishes = self.wishes
            if wishes != fulfilled:
                self._fulfil(wishes, fulfilled)
                fulfilled = wishes
                self._tell_state()
            waits = not self.opened or wishes.paused or (self.over and not wishes.controller)
            if waits or self.over:
                if self.bends and self._bend():
                    self._show()
                if not self._sleep(wishes, None if waits else PAUSE_BETWEEN):
                    self._begin(None)
                due = time.monotonic()
                self.times.clear()
            else:
                self._step(wishes)
                due += 1 / self.models.world.fps
                now = time.monotonic()
                time.sleep(max(0.0, due - now))
                due = due if now - due < LATE else now

    def _sleep(self, wishes: Wishes, seconds: float | None) -> bool:
        """Until the page wants something else, or so long. Returns whether it does."""
        with self.changed:
            return self.changed.wait_for(lambda: self.stopped or self.wishes != wishes or bool(self.bends), seconds)

    def _fulfil(self, wishes: Wishes, before: Wishes | None) -> None:
        """Bring about what changed."""
        if wishes.world != self.opened:
            self._enter(wishes.world, wishes.seed)
        elif before is not None and wishes.restarts != before.restarts and self.opened:
            self._begin(wishes.seed)
        elif before is not None and wishes.steps != before.steps and self.opened:
            self._begin(None) if self.over else self._step(wishes)
        if wishes.recording != (self.recorder is not None):
            self._record(wishes.recording)
            if (self.recorder is not None) != wishes.recording:  # it could not be brought about
                self._wish(recording=self.recorder is not None)

    def _bend(self) -> bool:
        """Set z to what the page holds it at. Returns whether there was anything to set."""
        with self.changed:
            bends, self.bends = self.bends | self.held, {}
        if not bends or self.scene.z is None:
            return False
        self.scene.bend(bends)
        return True

    def _enter(self, name: str, seed: int | None) -> None:
        """Open another world and leave the one there is. If it cannot be had, stay, and say why."""
        scene: Scene | None = None
        try:
            scene = self.models.open(name)
            scene.begin(chosen(seed))
        except (Exception, SystemExit) as error:
            if scene is not None:
                scene.close()
            if self.wishes.world == name:  # so that to wish for it again is another try
                self._wish(world=self.opened)
            self._tell({"type": "unopened", "world": name, "message": reason_of(error)})
            return
        left, self.scene, self.opened = self.scene, scene, name
        left.close()
        self._tell_state()  # the page must know what the first frame is of
        self._begun()

    def _begin(self, seed: int | None) -> None:
        self.scene.begin(chosen(seed))
        self._begun()

    def _begun(self) -> None:
        """Count an episode, and show its first frame."""
        self.episode += 1
        self.steps, self.total, self.over = 0, 0.0, None
        self.raw = self.models.raw(self.models.rest)
        self._show()

    def _step(self, wishes: Wishes) -> None:
        advice = self.scene.advice if wishes.controller else None
        self.raw = self.models.raw(self.action) if advice is None else np.asarray(advice, "float32")
        reward, died, cut = self.scene.step(self.raw, wishes.temperature)
        self.times.append(time.monotonic())
        self.steps += 1
        self.total += reward
        self.over = "died" if died else "cut" if cut else None
        self._bend()
        self._show()

    def _show(self) -> None:
        """Hand what is seen now to the page and the recording."""
        times = self.times
        about = {
            "episode": self.episode,
            "step": self.steps,
            "total": round(self.total, 2),
            "over": self.over,
            "action": self.models.played(self.raw).astype(float).round(3).tolist(),
            "controller": self.wishes.controller,
            "expected": {name: round(value, 4) for name, value in self.scene.expected.items()},
            "z": [] if self.scene.z is None else self.scene.z[[*self.models.sliders]].astype(float).round(2).tolist(),
            "rate": round((len(times) - 1) / (times[-1] - times[0]), 1) if len(times) > 1 else 0.0,
        }
        packed = pack_frame(about, self.scene.pictures)
        with self.changed:
            self.frame = packed
        first, *others = self.scene.labels
        labels = [f"{first}, temperature {self.wishes.temperature:.2f}" if self.scene.heated else first, *others]
        if self.recorder is not None and not self.recorder.add(self.scene.pictures, labels):
            self._wish(recording=False)  # it is as long as it may be
        self.wake()

    def _record(self, on: bool) -> None:
        """Begin a recording, or end it and tell the page where it is."""
        if on and self.recorder is None and self.opened:
            self.recorder = self.recordings.begin(self.models.world.fps)
            self._show()
        elif self.recorder is not None:
            recorder, self.recorder = self.recorder, None
            try:
                url, seconds = self.recordings.finish(recorder)
            except Problem as problem:
                self._tell({"type": "error", "message": reason_of(problem), "closed": False})
            else:
                self._tell({"type": "recorded", "url": url, "seconds": round(seconds, 1)})

    def _tell_state(self) -> None:
        wishes = self.wishes
        self._tell(
            {
                "type": "state",
                "world": self.opened,
                "labels": self.scene.labels,
                "scored": self.scene.scored,
                "temperature": wishes.temperature,
                "controller": wishes.controller,
                "paused": wishes.paused,
                "recording": self.recorder is not None,
            }
        )

    def _tell(self, message: dict[str, Any]) -> None:
        self.news.append(message)
        self.wake()


def chosen(seed: int | None) -> int:
    """A seed, or any where none was asked for."""
    return random.randrange(SEEDS) if seed is None else seed


def reason_of(error: BaseException) -> str:
    """What went wrong, for the page and the terminal."""
    reason = str(error) if isinstance(error, Problem) else f"something went wrong: {type(error).__name__}: {error}"
    return one_line(reason, LONGEST)
