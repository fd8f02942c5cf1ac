"""The reported figures of a run: its CMA-ES mean in the real world and in dreams, the random policy, and the sweep."""

import dataclasses
from typing import Any

import numpy as np

from controller.arenas import InDream, InReal
from controller.components import search_basis
from controller.evolution import generation_seed
from controller.policy import Controller, load_controller, policy_from
from controller.real import RealWorld
from controller.report import Results
from controller.scores import Record, Row, both_together, counted, once, summary, swept_row, table
from controller.training import evolve
from envs.worlds import dream_steps, world_of
from experiment.hardware import prepare
from experiment.problem import Problem
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment
from rnn.dream import Dream, can_dream, load_dream
from viz.curves import save_panels
from viz.video import save_video, side_by_side


def measure_real(world: RealWorld, controller: Controller | None, run: Run, *keys: str) -> Record:
    """The CMA-ES mean, or the random policy, in as many episodes of the real world as `evaluate` says.

    They have seeds that neither training nor trials ever use. The random policy does something new in every step, as in
    the paper.
    """
    wanted, longest = world.settings.evaluate, world.settings.env.max_steps
    count = wanted.episodes if controller else wanted.random_episodes
    who = controller.described if controller else {"policy": "random action every step"}
    seeds = [wanted.seed + i for i in range(count)]

    def measure() -> Record:
        with Progress("real episodes" if controller else "random policy", count, "episodes") as bar:
            played = world.play(controller.mean if controller else None, seeds, bar.update)
        hits, like = played.first_hits, counted(world.settings, played)
        return {
            **summary(played.returns),
            **({"first_hits": summary(hits)} if (hits < played.lengths).any() else {}),
            **({"counted": summary(like)} if (like != played.returns).any() else {}),
        }

    return once(run, keys, {**who, **picture(world), "max_steps": longest, "seeds": seeds}, measure)


def picture(world: RealWorld) -> Record:
    """Which of a world's two pictures the agent sees, where it has two."""
    return {"picture": "own" if world.final else "fast"} if world.world.final else {}


def measure_best_of_random(world: RealWorld, run: Run) -> Record:
    """The best of evaluate.random_controllers random ones, chosen on seeds of training, in the same episodes as C.

    They are drawn as CMA-ES draws its first generation from nothing: what C has learnt should be better.
    """
    wanted, evolved = world.settings.evaluate, world.settings.controller
    seeds = list(range(wanted.seed, wanted.seed + wanted.episodes))
    drawn = {"drawn": wanted.random_controllers, "sigma": evolved.sigma, "seed": evolved.seed, **picture(world)}

    def measure() -> Record:
        size = (wanted.random_controllers, world.agent.policy.size)
        candidates = np.random.default_rng(evolved.seed).normal(scale=evolved.sigma, size=size).astype("float32")
        with Progress("random controllers", 2, "rounds") as bar:
            tried = InReal(world)(candidates, 0, None)
            bar.update(1)
            best = int(tried.returns.mean(axis=1).argmax())
            returns = world.play(candidates[best], seeds).returns
            bar.update(1)
        return {"best": best, **summary(returns)}

    return once(
        run, ("random_controllers",), {**drawn, "max_steps": world.settings.env.max_steps, "seeds": seeds}, measure
    )


def measure_dream(arena: InDream, controller: Controller, run: Run, *keys: str) -> Record:
    """The CMA-ES mean in evaluate.dreams dreams, on a seed that no generation was dreamed with."""
    settings = arena.settings
    seed = generation_seed(settings.evaluate.seed, 0)
    of = {
        **controller.described, "temperature": settings.dream.temperature, "max_steps": dream_steps(settings),
        "seed": seed, "n": settings.evaluate.dreams,
    }  # fmt: skip
    return once(run, keys, of, lambda: summary(arena.dreams(controller.mean, seed)))


def evaluate(settings: Experiment, run: Run) -> dict[str, Any]:
    """Measure what is not yet measured, print the table beside the published one, and draw plots and videos."""
    prepare(settings.hardware, run)
    temperature, step = settings.dream.temperature, world_of(settings).step
    dream, in_dream = None, None
    with RealWorld(settings, run, final=not settings.evaluate.fast) as world:
        controller = world.controller
        if can_dream(settings):
            dream = load_dream(settings, run)
            in_dream = measure_dream(InDream(settings, dream, world.agent.policy), controller, run, "dream")
        in_game = measure_real(world, controller, run, "game")
        random = measure_real(world, None, run, "random")
        if settings.evaluate.random_controllers:
            measure_best_of_random(world, run)
        results = Results(run, settings)
        for name, panels in results.panels("training", "losses", "returns").items():
            save_panels(run.plots / f"{name}.png", panels)
        if settings.evaluate.videos:
            save_real_videos(world, in_game)
            if dream is not None and in_dream is not None:
                save_dream_video(world, dream, in_dream)
    name = f"this run, CMA-ES mean of generation {controller.generation}"
    name += f", τ {temperature:.2f}" if in_dream is not None else ""
    name += ", fast picture" if in_game.get("picture") == "fast" else ""
    print(table([Row(name, in_dream, in_game), *results.by_chance()], settings))
    if hits := in_game.get("first_hits"):
        print(
            f"first hit in the game after {hits['mean']:,.0f} ± {hits['std']:,.0f} ({hits['standard_error']:,.0f}) {step}s"
        )
    dreams = in_dream["n"] if in_dream is not None else 0
    print(f"n = {in_game['n']} games, {dreams} dreams, {random['n']} random games; all returns in {run.results}")
    print(f"plots in {run.plots}, videos in {run.videos}", flush=True)
    return {"episodes": in_game["n"] + random["n"], "dreams": dreams}


def of_others(run: Run, settings: Experiment) -> bool:
    """Whether the run's own figures are of other episodes or dreams than are asked for: the sweep lets them be."""
    wanted, evaluations = settings.evaluate, run.read_results().get("evaluations", {})
    game, dream = (evaluations.get(place, {}) for place in ("game", "dream"))
    elsewhere = bool(game) and (game.get("picture") == "fast") != (wanted.fast and bool(world_of(settings).final))
    seeds = list(range(wanted.seed, wanted.seed + wanted.episodes))
    return bool(elsewhere or game.get("seeds", seeds) != seeds or dream.get("n", wanted.dreams) != wanted.dreams)


def sweep(settings: Experiment, run: Run, evolve_each: bool) -> dict[str, Any]:
    """What `python -m controller.sweep` does: evolve (if evolve_each) and measure at every temperature.

    Everything that is there already is kept.
    """
    if evolve_each and not settings.controller.generations:
        raise Problem(
            "controller.generations=0: nothing is evolved in the dream; give --evaluate-only to measure what there is"
        )
    prepare(settings.hardware, run)
    policy, dream = policy_from(settings), load_dream(settings, run)
    basis = search_basis(settings, run, policy)
    own = settings.dream.temperature

    def arena(temperature: float, number: int = 0) -> InDream:
        at = dataclasses.replace(settings.dream, temperature=temperature)
        of = dataclasses.replace(settings.controller, seed=settings.controller.seed + number)
        return InDream(dataclasses.replace(settings, dream=at, controller=of), dream, policy)

    def reach(game: RealWorld, temperature: float, number: int) -> tuple[Record, Record]:
        name, wanted = f"tau-{temperature:g}" + f"-{number + 1}" * (number > 0), settings.controller
        evolved = not wanted.real_generations and controller.generation == wanted.generations
        have = not number and temperature == own and evolved
        keys = [] if have and not of_others(run, settings) else ["sweep", name]
        folder = run if have else Run(run.path / "sweep" / name)
        if not have:
            print(f"controller {number + 1} at temperature {temperature:g}", flush=True)
            start = load_controller(run.previous.controller, policy).mean if run.previous is not None else None
            evolve(folder, arena(temperature, number), start=start, basis=basis)
        reached = load_controller(folder.controller, policy)
        in_dream = measure_dream(arena(temperature), reached, run, *keys, "dream")
        return in_dream, measure_real(game, reached, run, *keys, "game")

    controller = load_controller(run.controller, policy)
    swept: dict[float, tuple[Record, Record]] = {}
    count = settings.evaluate.controllers
    with RealWorld(settings, run, final=not settings.evaluate.fast) as game:
        for temperature in settings.evaluate.temperatures if evolve_each else ():
            swept[temperature] = both_together([reach(game, temperature, number) for number in range(count)])
    rows = [swept_row("ours", temperature, *places) for temperature, places in swept.items()]
    for temperature in settings.evaluate.temperatures:
        known = temperature == own and not of_others(run, settings)
        keys = ["dream"] if known else ["dreams", f"tau-{temperature:g}"]
        record = measure_dream(arena(temperature), controller, run, *keys)
        rows.append(Row(f"this run's C, dreaming at τ {temperature:.2f}", record, None))
    if swept:
        save_panels(run.plots / "temperatures.png", [Results(run, settings).against_temperature(swept)])
        if settings.evaluate.fast and world_of(settings).final:
            print("in the fast picture")
    print(table(rows, settings), flush=True)
    if swept and count > 1:
        print(f"{count} C: the standard error is over controllers, all on the same episodes")
    return {"temperatures": settings.evaluate.temperatures}


def save_real_videos(world: RealWorld, record: Record) -> None:
    """Play the median real episode again, and the best and the worst if wanted, and film them beside V's reconstruction."""
    order = np.argsort(record["returns"], kind="stable")
    chosen = {"game": order[len(order) // 2]}
    if world.settings.evaluate.extremes:
        chosen |= {"game-best": order[-1], "game-worst": order[0]}
    recordings = world.record(world.controller.mean, [record["seeds"][index] for index in chosen.values()])
    for (name, index), recording in zip(chosen.items(), recordings, strict=True):
        about, reached, steps = world.world, record["returns"][index], len(recording.z)
        score = "the game" if reached == steps else f"{about.score} {reached:,.{about.digits}f}"
        label = f"{score}, {steps:,} {about.step}s"
        save_videos(world, name, label, recording.z, recording.frames)


def save_dream_video(world: RealWorld, dream: Dream, record: Record) -> None:
    """Dream the dream of median return again, and film it."""
    of = {"episodes": record["n"], **{name: record[name] for name in ("seed", "temperature", "max_steps")}}
    episode = int(np.argsort(record["returns"], kind="stable")[record["n"] // 2])
    lengths, lived = dream.trace(world.agent.policy.act, world.controller.mean[None], **of, only=episode)
    z = lived.z[0, 0, : lengths[0, 0]]  # (T, Z)
    label = f"a dream, τ {record['temperature']:g}, {len(z):,} {world.world.step}s"
    save_videos(world, "dream", label, z)


def save_videos(world: RealWorld, name: str, label: str, z: np.ndarray, frames: np.ndarray | None = None) -> None:
    """videos/NAME.mp4 and .gif: what V makes of latents z (T, Z), beside the real frames (T, 64, 64, 3) if there are any."""
    pictures = world.agent.vae.pictures(z)
    shown = {label: pictures} if frames is None else {label: frames, "V's reconstruction": pictures}
    save_video(world.run.videos / name, side_by_side(shown), world.world.fps)
