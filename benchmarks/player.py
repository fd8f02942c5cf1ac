"""The player: frames a second that one session could have, beside those that its world shows at its own speed."""

import contextlib
from collections.abc import Iterator

from benchmarks.measure import Measurement, best_rate
from experiment.problem import Problem
from experiment.run import PRETRAINED, Run
from play.messages import pack_frame
from play.models import load_models
from play.scenes import Models, Scene

STEPS = 150


def measure() -> Iterator[Measurement]:
    """Of each shipped model's dream and real world."""
    for name in sorted(path.name for path in PRETRAINED.iterdir()):
        models = load_models(Run(PRETRAINED / name))
        models.warm_up()
        for world in ("dream", "real"):
            try:
                scene = models.open(world)
            except Problem as problem:  # CoinRun without Qt
                print(f"player, {name} ({world}): {problem}")
                continue
            with contextlib.closing(scene):
                rate = best_rate(lambda models=models, scene=scene: play(models, scene), repeats=2)  # type: ignore[misc]
            yield Measurement(f"player, {name}, {world}", "frames", rate, models.world.fps, "the world's own speed")


def play(models: Models, scene: Scene) -> float:
    """Steps that are packed for the page, C acting where there is one; returns their number."""
    idle, temperature = models.raw(models.rest), models.settings.dream.temperature
    scene.begin(0)
    for step in range(STEPS):
        _, died, cut = scene.step(idle if scene.advice is None else scene.advice, temperature)
        pack_frame({"step": step}, scene.pictures)
        if died or cut:
            scene.begin(step + 1)
    return STEPS
