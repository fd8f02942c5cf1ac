"""A player's server with tiny untrained models, and a page without a browser, for tests."""

import contextlib
import functools
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.sync.client import connect

from experiment.run import Run
from experiment.schema import Dream, Env, Experiment, Hardware, Rnn
from play.hosts import Hosts
from play.models import load_models
from play.scenes import Models
from play.server import Site, listen_on, make_server
from tests.fake import save_next_frames, save_random_c
from tests.test_dream_environment import untrained

PATIENCE = 30
"""Seconds after which something that does not happen has failed."""


def doom_run(path: Any) -> Run:
    """Its dreams do not end by themselves."""
    settings = Experiment(hardware=Hardware(precision="float32"))
    return save_random_c(untrained(path, settings, done_bias=-30.0))


def racing_run(path: Any) -> Run:
    """Its dreams are cut after 20 steps."""
    settings = Experiment(
        env=Env(name="carracing", max_steps=1000),
        rnn=Rnn(predict_done=False, predict_reward=True),
        dream=Dream(start_steps=[1, 1], max_steps=20),
        hardware=Hardware(precision="float32"),
    )
    return save_random_c(untrained(path, settings))


def next_frame_run(name: str, path: Any) -> Run:
    """A next-frame model's."""
    return save_next_frames(Run(path), name)


@dataclass
class Serving:
    """A server in this process."""

    site: Site
    address: str
    """host:port."""


@functools.cache
def models(name: str) -> Models:
    """Of a tiny run in this world, compiled once for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        make = {"doom": doom_run, "carracing": racing_run}.get(name, functools.partial(next_frame_run, name))
        loaded = load_models(make(folder))
    loaded.warm_up()
    return loaded


@contextlib.contextmanager
def serving(models: Models, sessions: int = 3, hosts: Hosts | None = None) -> Iterator[Serving]:
    """A server until the block ends. hosts: of this machine alone, unless said otherwise."""
    site = Site(models, models.settings.env.name, sessions, hosts or Hosts("127.0.0.1"))
    server = make_server(site)
    with listen_on("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        wait(lambda: server.started)
        yield Serving(site, "{}:{}".format(*listening.getsockname()))
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive() and not site.sessions


def server_of(name: str) -> Any:
    """A fixture: such a server for all tests of a file."""

    @pytest.fixture(scope="module")
    def server() -> Iterator[Serving]:
        with serving(models(name)) as started:
            yield started

    return server


def wait(happens: Callable[[], Any]) -> None:
    """Until something is true."""
    end = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def unpack_frame(packed: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What play.messages.pack_frame was given."""
    first = 4 + int.from_bytes(packed[:4], "big")
    about = json.loads(packed[4:first])
    pictures = []
    for size in about["sizes"]:
        image = cv2.imdecode(np.frombuffer(packed[first : first + size], np.uint8), cv2.IMREAD_COLOR)
        pictures.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        first += size
    return about, pictures


class Page:
    """What the page does: takes frames, and answers each with what is pressed."""

    def __init__(self, serving: Serving, **kwargs: Any):
        self.socket = connect(f"ws://{serving.address}/socket", legacy=True, **kwargs)
        self.action: list[float] = []
        self.news: list[dict[str, Any]] = []
        self.hello = self.hear("hello")
        self.say("input", seen=0, action=[self.hello["rest"]] * len(self.hello["axes"]))
        self.action = [self.hello["rest"]] * len(self.hello["axes"])
        self.episode = self.frame()[0]["episode"]

    def say(self, kind: str, **rest: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **rest}))

    def take(self, patience: float = PATIENCE) -> tuple[dict[str, Any], list[np.ndarray]] | None:
        """The next message; a frame is returned, and answered, news are kept."""
        message = self.socket.recv(timeout=patience)
        if isinstance(message, str):
            self.news.append(json.loads(message))
            return None
        self.say("input", seen=int.from_bytes(message[:4], "big"), action=self.action)
        return unpack_frame(message[4:])

    def hear(self, kind: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The next news of a kind; frames and other news before it are skipped."""
        while True:
            for i, each in enumerate(self.news):
                if each["type"] == kind and fits(each):
                    self.news = self.news[i + 1 :]
                    return each
            self.news = []
            self.take()

    def frame(self, fits: Callable[[dict[str, Any]], bool] = lambda _: True) -> tuple[dict[str, Any], list[np.ndarray]]:
        """The next frame of a kind."""
        while True:
            taken = self.take()
            if taken is not None and fits(taken[0]):
                self.episode = taken[0]["episode"]
                return taken

    def drive(self, seed: int, steps: int, action: list[float] | None = None) -> dict[int, np.ndarray]:
        """Begin the episode of a seed with something pressed; what is seen after each step, as far as it has arrived."""
        self.action = action or self.action
        self.say("input", seen=0, action=self.action)
        self.say("restart", seed=seed)
        before, seen = self.episode, {}
        while max(seen, default=0) < steps:
            about, pictures = self.frame(lambda about: about["episode"] > before)
            seen[about["step"]] = pictures[0]
        return seen

    def closed(self) -> int:
        """The code with which the server closes this."""
        while True:
            try:
                message = self.socket.recv(timeout=PATIENCE)
            except TimeoutError:
                raise AssertionError("it was not closed") from None
            except Exception:
                assert self.socket.close_code is not None
                return self.socket.close_code
            if isinstance(message, str):
                self.news.append(json.loads(message))

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
