"""Recording rollouts: our stage, all cores, into HDF5, against one game in a loop that saves compressed arrays."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measure import Measurement
from envs.doom import BUTTONS, new_game
from envs.engine import Engine
from experiment.config import load_config
from experiment.run import Run
from extract.collect import collect

EPISODES = 600
PLAIN_EPISODES = 12


def measure() -> Iterator[Measurement]:
    """Tics a second, with starting the games and workers, resizing and writing."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_config("configs/doom.yaml", "laptop", [f"extract.episodes={EPISODES}"])
        began = time.perf_counter()
        tics = collect(settings, Run(folder))["tics"]
        rate = tics / (time.perf_counter() - began)
        yield Measurement(
            "extraction, doom", "tics", rate, plain_rate(Path(folder)), "one game, one process, npz files"
        )


def plain_rate(folder: Path) -> float:
    """The original's way: an episode in lists, resized tic by tic, saved with np.savez_compressed."""
    engine = Engine(new_game())
    game = engine.game
    random = np.random.default_rng(0)
    tics, began = 0, time.perf_counter()
    for seed in range(PLAIN_EPISODES):
        frames: list[np.ndarray] = []
        actions: list[int] = []
        left = 0
        game.set_seed(seed)
        game.new_episode()
        while not game.is_episode_finished() and len(frames) < 2100:
            if left == 0:
                action, left = int(random.integers(3)), int(random.integers(1, 11))
            left -= 1
            screen = game.get_state().screen_buffer[:100]  # without the status bar
            frames.append(cv2.resize(screen, (64, 64), interpolation=cv2.INTER_AREA))
            actions.append(action)
            game.make_action(BUTTONS[action])
        np.savez_compressed(folder / f"{seed}.npz", obs=np.array(frames), action=np.array(actions))
        tics += len(frames)
    rate = tics / (time.perf_counter() - began)
    engine.close()
    return rate
