"""Settings that are impossible, alone or together, and why: found before any work begins."""

from collections.abc import Iterator
from itertools import chain
from operator import attrgetter

from experiment.problem import UsageProblem
from experiment.schema import OFFLINE, SEED, Experiment, Rnn, Train, Vae, for_iteration

MOST_NUMBERS = 2**31  # numbers in what has to be in memory at once, 8 GB: what has more cannot be meant


def check(settings: Experiment) -> None:
    """Raise UsageProblem if a value is impossible, alone or together with another."""
    for key, why in chain(faults(settings), size_faults(settings)):
        raise impossible(settings, key, why)
    for number in range(1, min(settings.iterations, 2) + 1):  # later ones are like the second
        for key, why in recording_faults(for_iteration(settings, number), "extract" if number == 1 else "repeat"):
            raise impossible(settings, key, why)


def impossible(settings: Experiment, key: str, why: str) -> UsageProblem:
    """What is said of a setting, by its dotted key."""
    return UsageProblem(f"impossible value {key}={attrgetter(key)(settings)}: {why}")


def faults(settings: Experiment) -> Iterator[tuple[str, str]]:
    """Settings that are impossible in any world, and why; for what is peculiar to one see envs.worlds.check."""
    env, extract, rnn, c = settings.env, settings.extract, settings.rnn, settings.controller
    start, limits, offline = settings.dream.start_steps, rnn.reward_limits, env.name in OFFLINE
    openloop, context, longest = settings.openloop, settings.model.context, extract.max_steps or env.max_steps
    for wrong, key, why in (
        (not c.inputs or len(set(c.inputs)) != len(c.inputs) or not set(c.inputs) <= {"z", "c", "h"}, "controller.inputs",
         "expected some of z, c, h, each once"),
        (c.components and c.inputs == ["z"], "controller.components", "C sees nothing of M (controller.inputs), expected 0"),
        (not settings.evaluate.temperatures, "evaluate.temperatures", "expected numbers above 0"),
        (not c.generations and not c.real_generations, "controller.generations",
         "C has to be evolved somewhere, and controller.real_generations=0 too"),
        (len(env.crop) != 4, "env.crop", "expected four numbers: top, bottom, left and right"),
        (len(start) != 2 or start[0] > start[1], "dream.start_steps",
         "expected two steps, the first not above the second"),
        (start[:1] == [0] and any(start) and rnn.predict_done, "dream.start_steps",
         "M is told where episodes begin (rnn.predict_done), so all dreams begin there ([0,0]), or all after it"),
        (len(limits) != 2 or limits[0] >= limits[1], "rnn.reward_limits", "expected two numbers, the first below the second"),
        (rnn.keep == "done" and not rnn.predict_done, "rnn.keep",
         "an M that does not predict done has no loss of it (rnn.predict_done), expected best or last"),
        (c.generations and not (rnn.predict_done or rnn.predict_reward), "controller.generations",
         "in the dream of an M that predicts neither done nor reward nothing can be learnt (rnn.predict_done, "
         "rnn.predict_reward)"),
        (c.generations and not rnn.train, "controller.generations",
         "in the dream of an M that was never trained (rnn.train=false) nothing can be learnt; set "
         "controller.generations=0 and let C evolve in the real world (controller.real_generations)"),
        (offline and extract.policy not in ("held", "per_step", "sticky"), "extract.policy",
         f"in {env.name}, which has actions to choose from and no V, M and C, expected held, per_step or sticky"),
        (extract.policy == "agent", "extract.policy",
         "the first iteration has no controller to play with; later ones play with the last one's by themselves (iterations=2)"),
        (offline and settings.iterations > 1, "iterations",
         f"in {env.name} there is no controller to go on with, expected 1"),
        (offline and openloop.context < context, "openloop.context", f"the model sees {context} frames (model.context)"),
        (offline and openloop.context + openloop.horizon > longest, "openloop.horizon",
         f"with openloop.context={openloop.context}, no episode is as long, of {longest} steps at most"),
        (offline and context + settings.train.unroll > longest, "train.unroll",
         f"with model.context={context}, no episode is as long, of {longest} steps at most"),
        (c.seed + settings.iterations + settings.evaluate.controllers - 2 > SEED, "controller.seed",
         f"a later iteration's, or another controller's, would be above {SEED}"),
        (extract.seed + settings.iterations - 1 > SEED, "extract.seed", f"a later iteration's would be above {SEED}"),
        (offline and env.size % settings.model.patch, "model.patch", f"env.size={env.size} is not a multiple of it"),
        (settings.workers.address and settings.workers.backend != "ray", "workers.address",
         "only Ray has a cluster, set workers.backend=ray too"),
        (extract.max_steps > env.max_steps, "extract.max_steps", f"no episode is longer than env.max_steps={env.max_steps}"),
        (settings.repeat.max_steps > env.max_steps, "repeat.max_steps",
         f"no episode is longer than env.max_steps={env.max_steps}"),
    ):  # fmt: skip
        if wrong:
            yield key, why
    trained: dict[str, Vae | Rnn | Train] = {"train": settings.train} if offline else {"vae": settings.vae, "rnn": rnn}
    for name, part in trained.items():
        first = part.learning_rate * (min(1.0, settings.repeat.rate) if settings.iterations > 1 else 1.0)
        if part.schedule in ("cosine", "onecycle") and part.final_rate > first:
            yield f"{name}.final_rate", f"the learning rate is to fall, and it begins at {first:g}"


def size_faults(settings: Experiment) -> Iterator[tuple[str, str]]:
    """The same where something has more numbers than can be meant, though each setting alone is within its limits."""
    env, vae, rnn, dream, c = settings.env, settings.vae, settings.rnn, settings.dream, settings.controller
    model, train, openloop = settings.model, settings.train, settings.openloop
    seen = sum({"z": vae.z, "c": rnn.hidden, "h": rnn.hidden}[letter] for letter in c.inputs)
    weights = (seen + 1) * (c.hidden or 1) + (c.hidden + 1) * 3
    kept = sum(vae.z if letter == "z" else min(c.components, rnn.hidden) for letter in c.inputs)
    directions = (kept + 1) * (c.hidden or 1) + (c.hidden + 1) * 3 if c.components else 0
    candidates, state = max(c.population, c.real_population), vae.z + 2 * rnn.hidden
    predicted, drawn = 3 * rnn.mixtures * vae.z, settings.evaluate.random_controllers
    real = c.real_population * c.real_episodes if c.real_generations else 0
    places, frame = (env.size // model.patch) ** 2, env.size**2 * 3
    layers = model.blocks * model.channels
    for what, key, others, numbers in (
        ("M's weights", "rnn.hidden", "vae.z, rnn.mixtures", rnn.hidden * (4 * (vae.z + rnn.hidden) + predicted)),
        ("a batch of M's", "rnn.streams", "rnn.window", rnn.streams * rnn.window * (4 * rnn.hidden + predicted)),
        ("the dreams' beginnings", "dream.starts", "rnn.hidden", dream.starts * state),
        ("CMA-ES's covariance matrix", "controller.hidden", "controller.inputs, rnn.hidden", weights ** (1 if c.diagonal else 2)),
        ("the directions that C is searched for in", "controller.components", "controller.hidden", weights * directions),
        ("a generation", "controller.population", "controller.hidden", candidates * weights),
        ("a real generation", "controller.real_population", "controller.real_episodes", real * weights),
        ("a generation's dreams", "controller.population", "controller.episodes", c.population * c.episodes * state),
        ("the random ones", "evaluate.random_controllers", "controller.real_episodes", drawn * c.real_episodes * weights),
        ("the dreams", "evaluate.dreams", "rnn.hidden", settings.evaluate.dreams * state),
        ("the next-frame model's weights", "model.channels", "model.blocks", 180 * layers * model.channels),
        ("a batch of frames", "train.batch", "train.unroll, env.size", train.batch * (model.context + train.unroll) * frame),
        ("a batch's layers", "train.batch", "model.channels, env.size", train.batch * train.unroll * places * layers),
        ("a window's frames", "openloop.batch", "openloop.horizon", openloop.batch * (openloop.context + openloop.horizon) * frame),
    ):  # fmt: skip
        if numbers > MOST_NUMBERS:
            yield key, f"with such {others}, {what} would have {numbers:,} numbers, more than {MOST_NUMBERS:,}"


def recording_faults(settings: Experiment, section: str) -> Iterator[tuple[str, str]]:
    """The same where an iteration cannot learn from what it records; section: where that is set."""
    extract = settings.extract
    if not extract.steps and not 1 <= round(extract.episodes * settings.data.val_ratio) < extract.episodes:
        recorded = f"{section}.episodes={extract.episodes}"
        yield "data.val_ratio", f"with {recorded} it leaves no episode to train on or to validate on"
    longest, where = extract.max_steps or settings.env.max_steps, f"{section if extract.max_steps else 'env'}.max_steps"
    if extract.min_steps >= longest:
        yield "extract.min_steps", f"no episode is longer than {where}={longest}"
    dreams = settings.controller.generations > 0 and settings.env.name not in OFFLINE
    if dreams and settings.dream.start_steps[1] >= longest:
        yield "dream.start_steps", f"no recorded episode is longer than {where}={longest}"
