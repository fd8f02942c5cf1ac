"""The cheapest sign of whether what is learnt in the dream will hold in the world: fixed policies in both.

The same action sequences are played in M's dream and in the world, blind to what happens. Where they fare
much better in the dream, M has a hole there, and a controller evolved in it will go and live in that hole.
"""

import contextlib
import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from envs.episodes import Each, play
from envs.worlds import World, dream_steps, world_of
from experiment.backend import tf
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment
from experiment.tables import aligned
from extract.collect import SEEDS
from extract.policies import describe_policy, make_policy
from rnn.dream import Dream, can_dream, drawn_weight
from rnn.model import load_rnn
from rnn.starts import first_frames
from vae.latents import Latents

# Dream and world are far apart where the means differ by more than this factor, and by more than this part of the spread.
FAR_OFF, NOTABLE = 2.0, 0.5
Fared = dict[str, np.ndarray]  # policy -> returns (n,)


def compare(settings: Experiment, run: Run) -> None:
    """Play fixed policies in the dream and in the world; print both, warn where they are far apart, and record them.

    Dreams begin at first frames here, as episodes do. Writes `survival` into results.json: for each policy the mean and
    all returns in dream and world.
    """
    if not can_dream(settings):
        print("nothing is learnt in the dream of this M: no fixed policies to compare")
        return
    world = world_of(settings)
    longest = min(dream_steps(settings), settings.env.max_steps)
    scripts = fixed_scripts(settings, world, longest)
    model = load_rnn(run, settings)
    starts = first_frames(Latents.load(run.latents), model.hidden)
    dream = Dream(model, starts, drawn_weight(settings))
    in_dream = dream_returns(dream, scripts, settings.dream.temperature)
    in_world, first_hits = in_the_world(replace(settings, env=replace(settings.env, max_steps=longest)), world, scripts)
    places = {"game": in_world} | ({"first hits": first_hits} if first_hits else {})
    if settings.dream.done != "threshold":
        places = dict(reversed(places.items()))
    places = {"dream": in_dream, **places}
    print("\n".join(table(places, settings.dream.temperature, world.score, world.digits)), flush=True)

    def returns_of(name: str) -> dict[str, Any]:
        each = {place: fared[name] for place, fared in places.items()}
        return {place: {"mean": float(returns.mean()), "returns": returns.tolist()} for place, returns in each.items()}

    figures = {"policies": {name: returns_of(name) for name in scripts}}
    of = {"temperature": settings.dream.temperature, "first_seed": SEEDS, "max_steps": longest}
    run.update_results("survival", of | figures)


def fixed_scripts(settings: Experiment, world: World, steps: int) -> Fared:
    """What each policy does: raw actions, float32 (n, steps) or (n, steps, A), of n episodes each."""
    extract = settings.extract
    episodes = settings.rnn.check_episodes or world.compared
    if extract.policy in ("networks", "agent"):  # they see, so they cannot be played blind
        extract = replace(extract, policy="brownian" if world.actions > 1 else "held")
    random = np.zeros((episodes, steps, world.actions), np.float32)
    for episode, script in enumerate(random):
        policy = make_policy(world.actions, extract)(np.random.default_rng([SEEDS, episode]))
        script[:] = list(itertools.islice(policy, steps))
    scripts = {describe_policy(extract): random}
    for name, raw in world.fixed.items():
        script = np.asarray(raw, np.float32)[np.arange(steps) % len(raw)]  # (steps, A)
        scripts[name] = np.broadcast_to(script, random.shape)
    return {name: script[..., 0] if world.actions == 1 else script for name, script in scripts.items()}


def dream_returns(dream: Dream, scripts: Fared, temperature: float) -> Fared:
    """Returns of as many dreams as there are scripts of each policy."""
    actions = tf.constant(np.moveaxis(np.stack(list(scripts.values())), 2, 0))  # (steps, P, E) or (steps, P, E, A)

    def act(parameters: Any, z: Any, h: Any, c: Any, step: Any, episode: Any) -> Any:
        policy = tf.cast(parameters[:, 0], tf.int32)  # (N,)
        return tf.gather_nd(actions, tf.stack([tf.fill(tf.shape(policy), step), policy, episode], axis=1))

    policies = np.arange(len(scripts), dtype=np.float32)[:, None]  # (P, 1): a candidate's only parameter is its number
    outcome = dream.rollout(act, policies, actions.shape[2], SEEDS, temperature, actions.shape[0])
    return dict(zip(scripts, outcome.returns, strict=True))


def in_the_world(settings: Experiment, world: World, scripts: Fared) -> tuple[Fared, Fared]:
    """Returns of as many real episodes as there are scripts of each policy, the same seeds for each policy.

    And the steps after which they were first hit; nothing where a world does not tell.
    """
    total = sum(len(script) for script in scripts.values())
    games = min(settings.env.games, total)
    seeds = [SEEDS + episode for script in scripts.values() for episode in range(len(script))]
    every = np.concatenate(list(scripts.values()))
    with (
        contextlib.closing(world.open(settings.env, games, 0)) as vector,
        Progress("fixed policies", total, "episodes") as bar,
    ):
        played = play(world, vector, Each(lambda episode, _: iter(every[episode]), games), seeds, bar.update)
    parts = (np.split(part, len(scripts)) for part in (played.returns, played.first_hits))
    returns, hits = (dict(zip(scripts, part, strict=True)) for part in parts)
    return returns, hits if (played.first_hits < played.lengths).any() else {}


def table(places: dict[str, Fared], temperature: float, score: str, digits: int = 0) -> list[str]:
    """Mean returns of every policy in dream and world, line by line, and a warning for each that is far off.

    The dream is the first of the places, and compared with the last: the first hits where these are known and it ends at
    each, because M is not shown how much the player can still bear; the game where it ends with the probability of a death.
    """
    rows, far_off = [["", *places]], []
    for name in next(iter(places.values())):
        columns = [fared[name] for fared in places.values()]
        errors = [x.std(ddof=1) / np.sqrt(len(x)) for x in columns]
        numbers = zip(columns, errors, strict=True)
        rows.append([name, *(f"{x.mean():.{digits}f} ± {error:.{digits}f}" for x, error in numbers)])
        both = columns[0], columns[-1]
        low, high = sorted(float(x.mean()) for x in both)
        if high > FAR_OFF * low and high - low > NOTABLE * max(x.std() for x in both):
            far_off.append(name)
    lines = [f"fixed policies, {score}, mean ± standard error (dream at temperature {temperature:g}):"]
    lines += [f"  {line}" for line in aligned(rows, left=1)]
    if far_off:
        lines.append(
            f"warning: the dream is far off for: {'; '.join(far_off)}. A controller evolved in it may not hold in the world: "
            "train M longer (rnn.steps), or record more episodes (extract.episodes)"
        )
    return lines
