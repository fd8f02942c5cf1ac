"""Pictures of a run's results: training curves, histogram of survival, held-out losses, and the videos."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.scores import Record, published_curve, published_episodes, published_table
from experiment.metrics import read_metrics
from experiment.run import Run
from viz.curves import Curves, save_curves, save_histogram, save_panels
from viz.video import save_video, side_by_side

FPS = 35
"""Tics a second of the real game."""
SOLVED = 750
DECODED_AT_ONCE = 256


def save_training(run: Run) -> None:
    """plots/training.png: survival in dream and game, against generations and against hours, beside the published."""
    ours, real = read_metrics(run.metrics / "controller.csv"), read_metrics(run.metrics / "controller_real.csv")
    if not ours:
        return
    published = published_curve("doom")
    panels = []
    for x, published_x, xlabel, scale in (
        ("step", "generation", "generation", 1),
        ("elapsed", "elapsed_s", "hours of evolving", 3600),
    ):
        band = np.stack([ours["min"], ours["max"]])
        series: dict[str, Any] = {"dream, population mean (band: worst to best)": (ours[x] / scale, ours["mean"], band)}
        if real:
            error = real["std"] / np.sqrt(real["episodes"])
            series["game, CMA-ES mean (band: standard error)"] = (real[x] / scale, real["mean"], error)
        series["published, dream, population mean (64 cores)"] = (
            published[published_x] / scale,
            published["return_mean"],
        )
        levels = {"solved": float(SOLVED), "random": 210.0}
        panels.append(Curves(series, xlabel, "survival (tics)", f"Survival against {xlabel}", logx=True, hlines=levels))
    save_panels(run.plots / "training.png", panels)


def save_survival(run: Run, game: Record, dream: Record, random: Record) -> None:
    """plots/survival.png: how long episodes last."""
    samples = {
        "this agent, game": game["returns"],
        f"this agent, dream at τ {dream['temperature']:g}": dream["returns"],
        "random policy, game": random["returns"],
        "published agent, game": published_episodes("doom"),
    }
    save_histogram(run.plots / "survival.png", samples, "survival (tics)", "How long episodes last", {"solved": SOLVED})


def save_losses(run: Run) -> None:
    """plots/losses.png: training and held-out losses of V and M."""
    tables = {name: read_metrics(run.metrics / f"{name}.csv") for name in ("vae", "vae_heldout", "rnn_losses", "rnn")}
    panels = []
    for title, column, unit, (training, held_out) in (
        ("V: squared error of a frame", "squared_error", "squared error", ("vae", "vae_heldout")),
        ("V: divergence from the prior", "kl", "KL (nats)", ("vae", "vae_heldout")),
        ("M: the next latent", "z_nll", "negative log-likelihood (nats a dimension)", ("rnn_losses", "rnn")),
        ("M: whether the episode ends", "done_loss", "weighted cross-entropy (nats)", ("rnn_losses", "rnn")),
    ):
        series = {
            label: (tables[name]["step"], tables[name][column])
            for label, name in (("training", training), ("held out", held_out))
            if column in tables[name]
        }
        if series:
            panels.append(Curves(series, "training steps", unit, title))
    if panels:
        save_panels(run.plots / "losses.png", panels)


def save_temperatures(run: Run, measured: Mapping[float, tuple[Record, Record]]) -> None:
    """plots/temperatures.png: survival in dream and game of controllers evolved at each temperature, and the paper's.

    measured: temperature -> (in its dream, in the game).
    """
    paper = [line for line in published_table("doom") if line["temperature"]]
    series: dict[str, Any] = {}
    for i, place in enumerate(("dream", "game")):
        records = [measured[temperature][i] for temperature in sorted(measured)]
        errors = np.array([record["standard_error"] for record in records])
        series[f"ours, {place} (band: standard error)"] = sorted(measured), [r["mean"] for r in records], errors
        series[f"paper, {place}"] = [float(line["temperature"]) for line in paper], [line[place].mean for line in paper]
    save_curves(
        run.plots / "temperatures.png", series, "temperature τ of the dream that C was evolved in", "survival (tics)",
        "Survival against the temperature of the dream", hlines={"solved": float(SOLVED), "random": 210.0},
    )  # fmt: skip


def decode(vae: Any, z: np.ndarray) -> np.ndarray:
    """V's pictures (T, 64, 64, 3) uint8 of latents (T, Z)."""
    parts = [np.asarray(vae.decode(z[i : i + DECODED_AT_ONCE])) for i in range(0, len(z), DECODED_AT_ONCE)]
    return np.round(np.concatenate(parts) * 255).astype("uint8")


def save_videos(run: Run, vae: Any, recording: Any, dreamed: np.ndarray, labels: Mapping[str, str]) -> None:
    """videos/game and videos/dream, each .mp4 and .gif: the game beside what V keeps of it; and a dream.

    recording: a controller.agent.Recording. dreamed: z of a dream, (T, Z). labels: of 'game' and 'dream'.
    """
    videos = [recording.frames, decode(vae, recording.z)]
    save_video(run.videos / "game", side_by_side(videos, [labels["game"], "V's reconstruction"]), FPS)
    save_video(run.videos / "dream", side_by_side([decode(vae, dreamed)], [labels["dream"]]), FPS)
