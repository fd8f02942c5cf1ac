"""PPO of Stable-Baselines3 learns in M's dream, and then plays the real game: both show z, and M's memory c and h.

bash launch_scripts/setup.bash rl
.venv/bin/python examples/ppo_in_the_dream.py doom        # or carracing, or a run folder

docs/other_agents.md says how that goes.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import world_models  # isort: skip  # noqa: F401 (first, so that TensorFlow and PyTorch can be loaded beside each other)

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from controller.policy import load_controller, policy_from
from envs.worlds import world_of
from experiment.run import Run, find_run
from experiment.stage import guard

NAMES = {"doom": "Doom", "carracing": "CarRacing"}


class Vector(VecEnv):
    """A vector environment of Gymnasium in which episodes begin anew in the step that ends them, for Stable-Baselines3."""

    def __init__(self, vector: gymnasium.vector.VectorEnv[Any, Any, Any]):
        self.vector = vector
        super().__init__(vector.num_envs, vector.single_observation_space, vector.single_action_space)

    def reset(self) -> np.ndarray:
        seen, _ = self.vector.reset(seed=self._seeds)
        self._reset_seeds()
        return seen

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        seen, rewards, terminated, truncated, info = self.vector.step(self.actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(terminated | truncated):
            infos[row] = {"terminal_observation": info["final_obs"][row], "TimeLimit.truncated": bool(truncated[row])}
        return seen, rewards, terminated | truncated, infos

    def close(self) -> None:
        self.vector.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.vector, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError

    def env_method(self, method_name: str, *arguments: Any, indices: Any = None, **options: Any) -> list[Any]:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def controller_of(run: Run) -> Callable[[np.ndarray], Any]:
    """What the run's own C does, given what is seen."""
    settings = run.settings(("env", "vae", "rnn", "controller"))
    policy, world = policy_from(settings), world_of(settings)
    parameters = load_controller(run.controller, policy).mean[None]
    sizes = np.cumsum([policy.latent_size, policy.memory])

    def act(seen: np.ndarray) -> Any:
        z, c, h = np.split(seen, sizes, axis=1)
        return world.to_env(world.execute(policy.act(np.repeat(parameters, len(seen), axis=0), z, h, c).numpy()))

    return act


def play(games: gymnasium.vector.VectorEnv[Any, Any, Any], act: Callable[[np.ndarray], Any], seed: int) -> np.ndarray:
    """What an agent reaches in one episode of each game, from this seed on; games that are over wait, with reward 0."""
    (seen, _), returns, over = games.reset(seed=seed), np.zeros(games.num_envs), np.zeros(games.num_envs, bool)
    while not over.all():
        seen, rewards, terminated, truncated, _ = games.step(act(seen))
        returns += rewards
        over = terminated | truncated
    return returns


def main() -> None:
    """Learn in the dream, play in the game, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="doom, carracing, or a run folder")
    parser.add_argument("--steps", type=int, default=200_000, help="dreamed steps to learn from (200000)")
    parser.add_argument("--dreams", type=int, default=64, help="dreams side by side (64)")
    parser.add_argument("--episodes", type=int, default=24, help="episodes of the real game for each agent (24)")
    parser.add_argument("--seed", type=int, default=8_000_000, help="of the first of them (8000000)")
    given = parser.parse_args()
    run = find_run(given.run, "ppo_in_the_dream")
    world = run.settings(("env",)).env.name
    if world not in NAMES:
        parser.error(f"there are no environments of {world} by name, expected a run of {' or '.join(NAMES)}")
    name = NAMES[world]
    dreams = Vector(
        gymnasium.make_vec(f"world_models:{name}Dream-v0", given.dreams, run=run, autoreset_mode="SameStep")
    )
    torch.set_num_threads(1)  # networks this small lose more by sharing their products out than they win
    agent = PPO("MlpPolicy", dreams, n_steps=128, batch_size=512, gamma=0.997, seed=0, device="cpu", verbose=1)
    began = time.monotonic()
    agent.learn(given.steps)
    print(f"{agent.num_timesteps:,} dreamed steps in {time.monotonic() - began:.0f} s")
    games = gymnasium.make_vec(f"world_models:{name}Latent-v0", given.episodes, run=run, autoreset_mode="Disabled")
    games.action_space.seed(0)
    agents: dict[str, Callable[[np.ndarray], Any]] = {
        "PPO": lambda seen: agent.predict(seen, deterministic=True)[0],
        "the run's C": controller_of(run),
        "random play": lambda seen: games.action_space.sample(),
    }
    print(f"In {given.episodes} episodes of the real game, from seed {given.seed}:")
    for who, act in agents.items():
        returns = play(games, act, given.seed)
        deviation = returns.std(ddof=1)
        print(f"{who:12} {returns.mean():.0f} ± {deviation:.0f} (mean ± {deviation / len(returns) ** 0.5:.0f})")
    games.close()


if __name__ == "__main__":
    sys.exit(guard(main))
