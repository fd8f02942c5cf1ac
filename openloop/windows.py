"""The windows of recorded episodes that predictions are compared on: fixed, of held-out episodes, each inside of one."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiment.problem import Problem
from experiment.run import Run, is_shipped
from experiment.schema import Experiment, Openloop
from extract.recorded import open_rollouts
from extract.rollouts import Rollouts


class Window(NamedTuple):
    """Some steps of one episode: `openloop.context` frames from `start` on, and the `steps` frames after them."""

    number: int
    episode: int
    start: int  # the step of the episode that the first frame is of
    steps: int  # 1 to openloop.horizon; fewer where the episode ends


class Recorded(NamedTuple):
    """B windows with what was recorded. S is the most steps of any; a shorter one is padded with its last frame."""

    numbers: np.ndarray  # (B,) int64
    steps: np.ndarray  # (B,) int64
    frames: np.ndarray  # (B, C + S, h, w, c) uint8
    actions: np.ndarray  # (B, C + S) or (B, C + S, A) float32, raw: actions[:, t] followed frames[:, t]


def open_recorded(settings: Experiment, run: Run) -> tuple[Rollouts, np.ndarray, list[Window]]:
    """The rollouts of a run, the raw actions of all their frames, (F,) or (F, A) float32, and its windows of them.

    Raises Problem if there are none, or they are not of the run's settings.
    """
    if is_shipped(run) and not run.rollouts.exists():
        raise Problem(f"{run.path} is shipped without rollouts, so there is no window: give your own run")
    rollouts = open_rollouts(settings, run)
    held_out = rollouts.split(settings.data.val_ratio)[1]
    return rollouts, rollouts.actions, choose_windows(rollouts.lengths, held_out, settings.openloop)


def choose_windows(lengths: np.ndarray, held_out: np.ndarray, settings: Openloop) -> list[Window]:
    """openloop.windows of the held-out episodes, the same ones for the same arguments, in order of their place.

    lengths: (episodes,), frames of every episode. As many of each episode as of any other, or one more. A window begins
    anywhere in its episode where its context and one more frame are left; several of an episode begin in different
    parts of it, so that they overlap as little as they can. Raises Problem where there are no such windows.
    """
    context, horizon, wanted = settings.context, settings.horizon, settings.windows
    longest = int(lengths[held_out].max())
    if longest < context + horizon:
        raise Problem(
            f"no held-out episode has {context + horizon} frames (openloop.context={context} and openloop.horizon={horizon}), "
            f"the longest has {longest}: lower one of them, or record longer episodes"
        )
    places = np.maximum(lengths[held_out] - context, 0)  # (held out,), where windows can begin in each
    if places.sum() < wanted:
        raise Problem(
            f"the held-out episodes have room for {places.sum()} windows of {context} frames and one more, not for "
            f"openloop.windows={wanted}: lower it, or hold out more episodes (data.val_ratio)"
        )
    random = np.random.default_rng(settings.seed)
    shares = divide(places, wanted, random.permutation(len(held_out)))
    chosen = []
    for episode, room, share in zip(held_out.tolist(), places.tolist(), shares.tolist(), strict=True):
        edges = np.arange(share + 1) * room // max(share, 1)  # `share` parts, as long as each other
        chosen += [(episode, int(random.integers(low, high))) for low, high in itertools.pairwise(edges)]
    return [
        Window(number, episode, start, min(horizon, int(lengths[episode]) - start - context))
        for number, (episode, start) in enumerate(chosen)
    ]


def divide(room: np.ndarray, wanted: int, order: np.ndarray) -> np.ndarray:
    """Divide `wanted` windows among episodes with room for some, (episodes,) each: evenly, those first in `order` first."""
    shares = np.zeros_like(room)
    while (left := wanted - shares.sum()) > 0:
        shares[[episode for episode in order if shares[episode] < room[episode]][:left]] += 1
    return shares


def read_windows(rollouts: Rollouts, actions: np.ndarray, windows: Sequence[Window], context: int) -> Recorded:
    """What was recorded in some windows. actions: of all frames of the rollouts, as in Rollouts.sequences."""
    steps = np.array([window.steps for window in windows])
    firsts = np.array([rollouts.starts[window.episode] + window.start for window in windows])
    lasts = firsts + context + steps - 1
    places = np.minimum(firsts[:, None] + np.arange(context + steps.max()), lasts[:, None])  # (B, C + S)
    frames = rollouts.read(places.ravel()).reshape(*places.shape, *rollouts.frame_shape)
    return Recorded(np.array([window.number for window in windows]), steps, frames, actions[places])


def seen_in_training(
    rollouts: Rollouts, training: np.ndarray, windows: Sequence[Window], begin: int, end: int
) -> np.ndarray:
    """Which windows' frames from `begin` to `end`, counted from the window's start, stand in a training episode too.

    Exactly, and in a row: (W,) bool. Games that always begin alike come to the same frames in several episodes, of which
    some are then trained on and others held out. Reads all training frames once. training: the episodes' numbers.
    """
    firsts = [int(rollouts.starts[window.episode]) + window.start for window in windows]
    clips = [rollouts.read_range(first + begin, first + end) for first in firsts]
    seen, ending = np.zeros(len(windows), bool), defaultdict(list)
    for number, clip in enumerate(clips):
        ending[clip[-1].tobytes()].append(number)
    for episode in training:
        first = int(rollouts.starts[episode])
        frames = rollouts.read_range(first, first + int(rollouts.lengths[episode]))
        for last in range(end - begin, len(frames) + 1):
            for number in ending.get(frames[last - 1].tobytes(), ()):
                seen[number] |= np.array_equal(clips[number], frames[last - (end - begin) : last])
    return seen
