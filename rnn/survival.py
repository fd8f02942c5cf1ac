"""The cheapest sign of whether what is learnt in the dream will hold in the game: fixed policies in both.

The same action sequences are played in M's dream and in the game, blind to what happens. Where they survive
much longer in the dream, M has a hole there, and a controller evolved in it will go and live in that hole.
"""

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
import tensorflow as tf

from envs.doom import Game, execute, to_discrete
from experiment.hardware import core_count
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment
from extract.policies import Held
from rnn.dream import Dream, load_dream

EPISODES = 100
"""Of each policy, in either world: a standard error of about 10 tics."""
SEED = 900_000
"""The first seed of the real episodes: extraction uses those below, trials and the final evaluation those far above."""
FAR_OFF = 2.0
"""Dream and game are far apart where one survives this many times as long as the other."""
FIXED = {"always stay": 0, "always left": -1, "always right": 1}


def compare(settings: Experiment, run: Run) -> None:
    """Play fixed policies in the dream and in the game; print both, warn where they are far apart, and record them.

    Writes `survival` into results.json: for each policy the mean and all lengths in dream and game, in steps.
    """
    if not settings.rnn.predict_done:
        print("M does not predict the end of an episode (rnn.predict_done=false): no survival in the dream to compare")
        return
    scripts = fixed_scripts(settings)
    dream = load_dream(settings, run)
    in_dream = dream_lengths(
        dream, scripts, settings.dream.temperature, min(settings.dream.max_steps, settings.env.max_steps)
    )
    in_game = game_lengths(scripts, settings.env.max_steps)
    print("\n".join(table(in_dream, in_game, settings.dream.temperature)), flush=True)
    figures = {
        name: {
            "dream": {"mean": float(in_dream[name].mean()), "lengths": in_dream[name].tolist()},
            "game": {"mean": float(in_game[name].mean()), "lengths": in_game[name].tolist()},
        }
        for name in scripts
    }
    run.update_results("survival", {"temperature": settings.dream.temperature, "first_seed": SEED, "policies": figures})


def fixed_scripts(settings: Experiment) -> dict[str, np.ndarray]:
    """What each policy does: actions to execute (-1 left, 0 stay, 1 right), float32 (EPISODES, env.max_steps)."""
    held, shape = Held(settings.extract.hold_max), (EPISODES, settings.env.max_steps)
    random, blind = np.zeros(shape, np.float32), np.zeros(0)
    for episode, script in enumerate(random):
        held.reset(np.random.default_rng([SEED, episode]))
        script[:] = execute([held.act(blind) for _ in script])
    return {
        f"random, held 1-{settings.extract.hold_max}": random,
        **{name: np.full(shape, a, np.float32) for name, a in FIXED.items()},
    }


def dream_lengths(
    dream: Dream, scripts: dict[str, np.ndarray], temperature: float, max_steps: int
) -> dict[str, np.ndarray]:
    """Steps survived in as many dreams as there are scripts of each policy: int (E,) each."""
    actions = tf.constant(np.stack(list(scripts.values())).transpose(2, 0, 1))  # (steps, P, E)

    def act(parameters: Any, z: Any, h: Any, c: Any, step: Any, episode: Any) -> Any:
        policy = tf.cast(parameters[:, 0], tf.int32)  # (N,)
        return tf.gather_nd(actions, tf.stack([tf.fill(tf.shape(policy), step), policy, episode], axis=1))

    policies = np.arange(len(scripts), dtype=np.float32)[:, None]  # (P, 1): a candidate's only parameter is its number
    return dict(zip(scripts, dream.rollout(act, policies, actions.shape[2], SEED, temperature, max_steps), strict=True))


def game_lengths(scripts: dict[str, np.ndarray], max_steps: int) -> dict[str, np.ndarray]:
    """Tics survived in as many real episodes as there are scripts of each policy: int (E,) each."""
    threads = core_count()
    free: SimpleQueue[Game] = SimpleQueue()
    for _ in range(threads):
        free.put(Game(max_steps))

    def play(actions: np.ndarray, seed: int) -> int:
        game = free.get()
        try:
            game.reset(seed)
            while not game.over:
                game.step(actions[len(game.actions)])
            return len(game.actions)
        finally:
            free.put(game)

    lengths: dict[str, np.ndarray] = {}
    total = sum(len(script) for script in scripts.values())
    with ThreadPoolExecutor(threads) as pool, Progress("fixed policies in the game", total, "episodes") as bar:
        try:
            for name, script in scripts.items():  # the same seeds for each policy
                seeds = range(SEED, SEED + len(script))
                lengths[name] = np.array(list(pool.map(play, to_discrete(script), seeds)))
                bar.update(len(script))
        finally:
            for _ in range(threads):
                free.get().close()
    return lengths


def table(in_dream: dict[str, np.ndarray], in_game: dict[str, np.ndarray], temperature: float) -> list[str]:
    """Mean survival of every policy in both worlds, line by line, and a warning for each that is far off."""
    lines = [f"survival of fixed policies, in steps, mean ± standard error (dream at temperature {temperature:g}):"]
    lines.append(f"  {'':20s} {'dream':>14s} {'game':>14s}")
    far_off = []
    for name, lengths in in_dream.items():
        texts = [f"{x.mean():.0f} ± {x.std(ddof=1) / np.sqrt(len(x)):.0f}" for x in (lengths, in_game[name])]
        lines.append(f"  {name:20s} {texts[0]:>14s} {texts[1]:>14s}")
        if not 1 / FAR_OFF < lengths.mean() / in_game[name].mean() < FAR_OFF:
            far_off.append(name)
    if far_off:
        lines.append(
            f"warning: the dream is far off for: {'; '.join(far_off)}. A controller evolved in it may not hold in the game: "
            "train M longer (rnn.steps), or record more episodes (extract.episodes)"
        )
    return lines
