"""The player: frames a second that one session could have, beside those that its world shows at its own speed."""

import contextlib
from collections.abc import Iterator

import numpy as np

from benchmarks.measure import Measurement, best_rate
from experiment.problem import Problem
from experiment.run import PRETRAINED, Run
from play.models import Models, load_models
from play.places import Place
from play.wire import pack_frame

STEPS = 150


def measure() -> Iterator[Measurement]:
    """Of each shipped model's dream and real world."""
    for name in sorted(path.name for path in PRETRAINED.iterdir()):
        models = load_models(Run(PRETRAINED / name))
        models.warm_up()
        for world in ("dream", "real"):
            try:
                place = models.open(world)
            except Problem as problem:  # CoinRun without Qt
                print(f"player, {name} ({world}): {problem}")
                continue
            with contextlib.closing(place):
                rate = best_rate(lambda models=models, place=place: play(models, place), repeats=2)  # type: ignore[misc]
            yield Measurement(f"player, {name}, {world}", "frames", rate, models.world.fps, "the world's own speed")


def play(models: Models, place: Place) -> float:
    """Steps that are packed for the page, C acting where there is one; returns their number."""
    actions, temperature = models.world.actions, models.settings.dream.temperature
    idle = np.zeros(actions if actions > 1 else (), np.float32)
    place.begin(0)
    for step in range(STEPS):
        happened = place.step(idle if place.advice is None else place.advice, temperature)
        pack_frame({"step": step}, place.pictures)
        if happened.died or happened.cut:
            place.begin(step + 1)
    return STEPS
