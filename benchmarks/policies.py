"""What random policies see of the tracks: which one CarRacing's rollouts are recorded with.

    python -m benchmarks.policies [--tracks N] [--steps N] [--output FILE]

Plays each candidate on the same tracks (EnvPool's) and measures the return, the share of the track
visited, the share of steps that bring a new tile, and how the episodes are divided between driving and wandering on the
grass; then, on a few tracks of Gymnasium's own environment, how fast the car is. Prints a table and writes it
as JSON. What is wanted for V and M: frames from all of the track, at the speeds that an agent
will drive, on the road and off it.
"""

import argparse
import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from controller.collect import RandomNetworks
from envs.carracing import CarRacingEnv, share_visited
from envs.play import Player, moments
from envs.worlds import world_of
from experiment.config import load_config
from experiment.files import write_json
from experiment.hardware import import_tensorflow, prepare
from experiment.schema import Experiment
from experiment.stage import guard
from extract.policies import Each, describe_policy, make_policy

RESULTS = Path(__file__).parent / "results" / "policies.json"
SPEED_TRACKS = 4
CANDIDATES: dict[str, dict[str, Any]] = {
    "per step": {"policy": "per_step"},
    "held 1-10": {"policy": "held"},
    "networks": {"policy": "networks"},
    "brownian, gas 0.5": {"brownian_centre": [0.0, 0.0, -0.8]},
    "brownian, gas 0.4": {"brownian_centre": [0.0, -0.2, -0.8]},
    "brownian, gas 0.3": {"brownian_centre": [0.0, -0.4, -0.8]},
    "brownian, gas 0.2": {"brownian_centre": [0.0, -0.6, -0.8]},
    "brownian, gas 0.3, gentle": {"brownian_centre": [0.0, -0.4, -0.8], "brownian_spread": [0.25, 0.4, 0.4]},
    "brownian, gas 0.2, gentle": {"brownian_centre": [0.0, -0.6, -0.8], "brownian_spread": [0.2, 0.3, 0.3]},
    "brownian, gas 0.3, quick": {"brownian_centre": [0.0, -0.4, -0.8], "brownian_memory": 4.0},
}


def player_of(settings: Experiment, games: int) -> Player:
    """Who plays with these settings."""
    if settings.extract.policy == "networks":
        return RandomNetworks(settings, games, seed=0)
    return Each([make_policy(settings.env, settings.extract) for _ in range(games)], seed=0)


def on_tracks(settings: Experiment, tracks: int) -> dict[str, float]:
    """Returns and tiles of one episode on each of the tracks."""
    world = world_of(settings)
    rewards: list[list[float]] = [[] for _ in range(tracks)]
    with contextlib.closing(world.open(settings.env, min(tracks, 64), 0)) as vector:
        for moment in moments(world, vector, player_of(settings, min(tracks, 64)), iter(range(tracks))):
            for episode, reward in zip(moment.episodes.tolist(), moment.rewards.tolist(), strict=True):
                rewards[episode].append(reward)
    shares = [share_visited(np.array(episode)) for episode in rewards]
    last_tile = [float(np.max(np.flatnonzero(np.array(episode) > 0), initial=0)) for episode in rewards]
    return {
        "return": float(np.mean([sum(episode) for episode in rewards])),
        "track_visited": float(np.mean(shares)),
        "track_visited_best": float(np.max(shares)),
        "steps_with_a_tile": float(np.mean(np.concatenate(rewards) > 0)),
        "last_tile_at_step": float(np.mean(last_tile)),
    }


def speeds(settings: Experiment, tracks: int) -> dict[str, float]:
    """Speed of the car in Gymnasium's own environment, in its units of length a second."""
    if settings.extract.policy == "networks":
        return {}
    world, env = world_of(settings), CarRacingEnv(settings.env.max_steps)
    policy = make_policy(settings.env, settings.extract)
    found: list[float] = []
    with contextlib.closing(env):
        for seed in range(tracks):
            env.reset(seed=seed)
            policy.reset(np.random.default_rng((0, seed)))
            over = False
            while not over:
                *_, terminated, truncated, _ = env.step(world.execute(policy.act()))
                found.append(env.game.car.hull.linearVelocity.length)
                over = terminated or truncated
    return {f"speed_p{share}": float(np.percentile(found, share)) for share in (10, 50, 90)}


def main() -> None:
    """Measure every candidate."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.policies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tracks", type=int, default=128, help="tracks that each plays on (128)")
    parser.add_argument("--steps", type=int, default=250, help="steps of an episode (250)")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="where the JSON goes (benchmarks/results/policies.json)"
    )
    arguments = parser.parse_args()
    tracks = arguments.tracks
    import_tensorflow()
    settings = load_config("configs/carracing.yaml", None, [f"env.max_steps={arguments.steps}"])
    prepare(settings.hardware)
    rows = []
    for name, changes in CANDIDATES.items():
        extract = dataclasses.replace(settings.extract, **{"policy": "brownian", **changes})
        chosen = dataclasses.replace(settings, extract=extract)
        row = {"name": name, "policy": describe_policy(extract), **changes, **on_tracks(chosen, tracks)}
        rows.append(row | speeds(chosen, SPEED_TRACKS))
        print(
            "  ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{value}" for key, value in rows[-1].items()
            ),
            flush=True,
        )
    write_json(
        arguments.output, {"tracks": tracks, "steps": arguments.steps, "speed_tracks": SPEED_TRACKS, "rows": rows}
    )
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    sys.exit(guard(main))
