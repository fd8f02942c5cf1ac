"""Pictures of a run's results: training curves, histogram of returns, held-out losses, and the videos."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.scores import Record, published_curve, published_episodes, published_rows
from envs.worlds import world_of
from experiment.metrics import read_metrics
from experiment.run import Run
from experiment.schema import Experiment
from viz.curves import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, Curves, Histogram
from viz.video import save_video, side_by_side

FEWEST = 3  # points that a curve of losses is drawn of
PUBLISHED_EPISODES = 64 * 16  # of a generation of the published runs
# Of what a curve shows, in whichever experiment or plot: its label's beginning, without what is in brackets.
COLOURS = {
    "dream, population mean": BLUE,
    "real, population mean": VERMILION,
    "real, CMA-ES mean": GREEN,
    "published, dream, population mean": PURPLE,
    "published, real, population mean": PURPLE,
    "published, real, CMA-ES mean": ORANGE,
    "ours, dream": BLUE,
    "ours, game": GREEN,
    "paper, dream": SKY,
    "paper, game": ORANGE,
}


def training_panels(settings: Experiment, run: Run) -> list[Curves]:
    """What C reached against generations, environment steps and hours, beside the published; none without metrics."""
    ours, trials = history(run, "controller"), history(run, "controller_real")
    if not ours:
        return []
    world, name = world_of(settings), settings.env.name
    published, published_mean = (published_curve(name, of) for of in ("population", "mean_eval"))
    if published:
        published["steps"] = np.cumsum(published["steps_mean"]) * PUBLISHED_EPISODES
    if published_mean:
        published_mean["steps"] = np.interp(published_mean["generation"], published["generation"], published["steps"])
    panels = []
    for x, published_x, xlabel, scale in (
        ("step", "generation", "generation", 1),
        ("steps", "steps", "steps, dreamed or real", 1),
        ("elapsed", "elapsed_s", "hours of evolving", 3600),
    ):
        if x not in ours:
            continue
        series: dict[str, Any] = {}
        for place, real in (("dream", 0.0), ("real", 1.0)):
            rows = ours["real"] == real if "real" in ours else np.full(len(ours["step"]), not real)
            if rows.any():
                band = np.stack([ours["min"], ours["max"]])[:, rows]
                label = f"{place}, population mean (band: worst to best)"
                series[label] = ours[x][rows] / scale, ours["mean"][rows], band
        if trials and x in trials:
            error = trials["std"] / np.sqrt(trials["episodes"])
            series["real, CMA-ES mean (band: standard error)"] = trials[x] / scale, trials["mean"], error
        of_published = {f"published, {world.published_in}, population mean (64 cores)": published,
                        "published, real, CMA-ES mean": published_mean}  # fmt: skip
        series |= {label: (of[published_x] / scale, of["return_mean"]) for label, of in of_published.items() if of}
        panels.append(score_panel(settings, series, xlabel, logx=True))
    return panels


def score_panel(
    settings: Experiment, series: dict[str, Any], xlabel: str, title: str = "", logx: bool = False
) -> Curves:
    """Returns against something, with what to compare them with: the return that counts as solved, the random policy."""
    world = world_of(settings)
    score, against = world.score, f"{world.score.capitalize()} against {title or xlabel}"
    levels = ({"solved": world.solved} if world.solved is not None else {}) | (
        {"random": world.random[0]} if world.random else {}
    )
    roles = {label: label.split(" (")[0] for label in series}
    colours = {label: COLOURS[role] for label, role in roles.items() if role in COLOURS}
    return Curves(series, xlabel, score, against, logx=logx, hlines=levels, colours=colours)


def history(run: Run, name: str) -> dict[str, np.ndarray]:
    """metrics/NAME.csv of all iterations up to this one: generations, steps and seconds of evolving count on."""
    tables, before = [], dict.fromkeys(("step", "steps", "elapsed"), 0.0)
    for number in range(1, run.iteration + 1):
        folder = run.at(number).metrics
        evolved, table = read_metrics(folder / "controller.csv"), read_metrics(folder / f"{name}.csv")
        if table:
            tables.append({column: values + before.get(column, 0) for column, values in table.items()})
        before = {column: before[column] + (evolved[column][-1] if column in evolved else 0) for column in before}
    shared = [column for column in (tables[0] if tables else ()) if all(column in table for table in tables)]
    return {column: np.concatenate([table[column] for table in tables]) for column in shared}


def returns_panel(settings: Experiment, game: Record, dream: Record | None, random: Record) -> Histogram:
    """How episodes end up; where dreams are cut sooner than real episodes, their label says so."""
    world, samples = world_of(settings), {"this agent, real": game["returns"]}
    if dream is not None:
        cut = f", {dream['max_steps']:,} steps" if dream["max_steps"] < settings.env.max_steps else ""
        samples[f"this agent, dream at τ {dream['temperature']:g}{cut}"] = dream["returns"]
    samples["random policy, real"] = random["returns"]
    samples["published agent, real"] = published_episodes(settings.env.name)
    lines = {"solved": world.solved} if world.solved is not None else {}
    return Histogram(samples, world.score, "How episodes end up", lines)


def loss_panels(run: Run) -> list[Curves]:
    """Training and held-out losses of V and M, where there are enough points for a curve."""
    tables = {name: read_metrics(run.metrics / f"{name}.csv") for name in ("vae", "vae_heldout", "rnn_losses", "rnn")}
    panels = []
    for title, column, unit, (training, held_out) in (
        ("V: squared error of a frame", "squared_error", "squared error", ("vae", "vae_heldout")),
        ("V: divergence from the prior", "kl", "KL (nats)", ("vae", "vae_heldout")),
        ("M: the next latent", "z_nll", "negative log-likelihood (nats a dimension)", ("rnn_losses", "rnn")),
        ("M: whether the episode ends", "done_loss", "weighted cross-entropy (nats)", ("rnn_losses", "rnn")),
        ("M: the reward", "reward_error", "squared error", ("rnn_losses", "rnn")),
    ):
        series = {
            label: (tables[name]["step"], tables[name][column])
            for label, name in (("training", training), ("held out", held_out))
            if tables[name].get(column, np.zeros(1)).any()  # a head that M does not have is written as 0
        }
        if any(len(steps) >= FEWEST for steps, _ in series.values()):
            panels.append(Curves(series, "training steps", unit, title))
    return panels


def temperatures_panel(settings: Experiment, measured: Mapping[float, tuple[Record, Record]]) -> Curves:
    """Dream and world of controllers evolved at each temperature, and the paper's where it has any.

    measured: temperature -> (in its dream, in the world).
    """
    paper = [row for row in published_rows(settings.env.name) if row.temperature]
    series: dict[str, Any] = {}
    for i, place in enumerate(("dream", "game")):
        records = [measured[temperature][i] for temperature in sorted(measured)]
        errors = np.array([record["standard_error"] for record in records])
        series[f"ours, {place} (band: standard error)"] = sorted(measured), [r["mean"] for r in records], errors
        if paper:
            means = [getattr(row, place)["mean"] for row in paper]
            series[f"paper, {place}"] = [float(row.temperature) for row in paper], means
    return score_panel(
        settings, series, "temperature τ of the dream that C was evolved in", "the temperature of the dream"
    )


def save_videos(
    run: Run, vae: Any, name: str, label: str, z: np.ndarray, fps: int, frames: np.ndarray | None = None
) -> None:
    """videos/NAME.mp4 and .gif: what V makes of latents z (T, Z), beside the real frames (T, 64, 64, 3) if there are any."""
    pictures = vae.pictures(z)
    shown = {label: pictures} if frames is None else {label: frames, "V's reconstruction": pictures}
    save_video(run.videos / name, side_by_side(shown), fps)
