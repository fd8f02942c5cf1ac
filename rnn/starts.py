"""Where dreams begin: moments of recorded episodes, with M's memory of what came before."""

import contextlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiment.arrays import open_hdf5, written
from experiment.backend import graph, tf
from experiment.files import checksum
from experiment.problem import Problem
from experiment.run import Run, difference
from experiment.schema import Experiment
from rnn.model import MDNRNN
from rnn.series import Series
from rnn.unrolled import LSTMState, run_sequence
from vae.latents import Latents

EPISODES = 1024
WINDOW = 25  # steps that M is run at once


class Starts(NamedTuple):
    """S moments: V's mu and logvar of the frame, (S, Z), and M's h and c before it, (S, H), all float32."""

    mu: np.ndarray
    logvar: np.ndarray
    h: np.ndarray
    c: np.ndarray

    @property
    def fresh(self) -> bool:
        """Whether these are first frames, where M remembers nothing (and is told so by the restart flag)."""
        return not self.h.any()


def first_frames(latents: Latents, hidden: int) -> Starts:
    """Where every recorded episode starts."""
    first = np.asarray(latents.episode_starts)
    empty = np.zeros((len(first), hidden), "float32")
    return Starts(np.asarray(latents.mu[first], "float32"), np.asarray(latents.logvar[first], "float32"), empty, empty)


def load_starts(settings: Experiment, run: Run, model: MDNRNN) -> Starts:
    """The moments between dream.start_steps of a run's recorded episodes; the same ones every time.

    They are kept in starts.h5, so that dreaming needs neither to read all latents nor to have them.
    """
    earliest, latest = settings.dream.start_steps
    wanted = made_with(settings, run)
    try:
        kept = read_starts(run.starts, model, wanted)
    except Problem:
        if not run.latents.exists():
            raise
        kept = None
    if kept is not None and not (run.latents.exists() and run.latents.stat().st_mtime > run.starts.stat().st_mtime):
        return kept
    latents = Latents.load(run.latents)
    if latest:
        starts = remembered(settings, latents, model, earliest, latest, settings.dream.starts)
    else:
        starts = first_frames(latents, model.hidden)
    with contextlib.suppress(Problem):  # they are kept for speed; who only plays may not be allowed to write here
        write_starts(run.starts, starts, wanted)
    return starts


def made_with(settings: Experiment, run: Run) -> dict[str, Any]:
    """Attributes by which it is known whether starts that were kept are the ones that are wanted."""
    beyond = settings.dream.start_steps[1] > 0  # first frames do not depend on M
    return {
        "weights": checksum(run.rnn_weights) if beyond else 0,
        "start_steps": settings.dream.start_steps,
        "starts": settings.dream.starts if beyond else 0,
    }


def write_starts(path: Path, starts: Starts, attributes: dict[str, Any]) -> None:
    """Write starts.h5, with the attributes of `made_with`."""
    with written(path) as (file, _):
        for name, values in starts._asdict().items():
            if name in ("mu", "logvar") or not starts.fresh:
                file[name] = values
        file.attrs.update(attributes)


def read_starts(path: Path, model: MDNRNN, attributes: dict[str, Any]) -> Starts | None:
    """What write_starts wrote, float32, if it has these attributes and is for such an M. Raises Problem if it is damaged."""
    if not path.exists():
        return None
    with open_hdf5(path, "delete it and run `python -m vae.encode` again") as file:
        if difference(file.attrs, attributes, unsaid={}) is not None:
            return None
        mu, logvar = (file[name][()].astype("float32") for name in ("mu", "logvar"))
        empty = np.zeros((len(mu), model.hidden), "float32")
        h, c = (file[name][()].astype("float32") if name in file else empty for name in ("h", "c"))
        shape = (len(mu), model.latent_size)
        fits = len(mu) and mu.shape == logvar.shape == shape and h.shape == c.shape == empty.shape
        return Starts(mu, logvar, h, c) if fits else None


def remembered(
    settings: Experiment, latents: Latents, model: MDNRNN, earliest: int, latest: int, moments: int
) -> Starts:
    """About so many moments of steps `earliest` to `latest`, spread evenly over steps and the episodes that last so long.

    M is run over the episodes' beginnings, on latents drawn once, and its state kept at the moments. The episodes are
    those of the last iteration, at most EPISODES of them, with those that end before `latest`: else dreams would begin
    only where all goes well for long.
    """
    newest = np.arange(latents.episodes) >= latents.episodes - latents.groups[-1]
    long_enough = np.flatnonzero(newest & (latents.lengths > earliest))
    episodes = np.random.default_rng(0).permutation(long_enough)[:EPISODES]
    if not len(episodes):
        raise Problem(
            f"no recorded episode has more than {earliest} steps: lower dream.start_steps, or record longer episodes"
        )
    lengths = latents.lengths[episodes]
    latest = min(latest, lengths.max() - 1)
    there = np.minimum(lengths, latest + 1) - earliest  # moments of each
    each = math.ceil(moments * (latest + 1 - earliest) / there.sum())
    steps = np.linspace(earliest, latest, each).round().astype(int)
    series = Series(latents, model, settings.rnn.reward_limits)
    run_m = graph(lambda inputs, keep, state: run_sequence(model, inputs, keep, state))
    state = LSTMState(*tf.zeros((2, len(episodes), model.hidden)))
    memories: dict[int, Any] = {}
    for first in range(0, latest + 1, WINDOW):
        frames = latents.episode_starts[episodes] + np.arange(first, first + WINDOW)[:, None]  # (T, B)
        frames = np.where(np.arange(first, first + WINDOW)[:, None] < lengths, frames, -1)
        batch = series.batch(frames, np.random.default_rng([first, 3]))
        for step in steps[(steps >= first) & (steps < first + WINDOW)]:
            if step == first:
                memories[step] = state
            else:  # M's state after the steps before
                part = slice(0, step - first)
                memories[step] = run_sequence(model, batch.inputs[part], batch.keep[part], state)[1]
        _, state = run_m(tf.constant(batch.inputs), tf.constant(batch.keep), state)
    at = np.concatenate([(latents.episode_starts[episodes] + step)[lengths > step] for step in steps])
    h, c = (np.concatenate([memories[step][i].numpy()[lengths > step] for step in steps]) for i in range(2))
    return Starts(latents.mu[at].astype("float32"), latents.logvar[at].astype("float32"), h, c)
