"""The next-frame model: what goes in and out, its loss, its architectures by name, and its files."""

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import viz.frames
from envs.worlds import world_of
from experiment.arrays import load_weights, needed, open_hdf5
from experiment.backend import graph, keras, ops, save_weights
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment, Train
from extract.recorded import signature_from
from nextframe.networks import ARCHITECTURES
from nextframe.windows import Clips
from vae.model import to_unit

Tensor = Any


class NextFrame(keras.Model):
    """From K frames, and the actions taken after each of them, the frame that follows the last action.

    Frames are (B, K, height, width, C), oldest first, uint8 or float in [0, 1]; C is 1 or 3. Actions are raw, as recorded,
    (B, K) or (B, K, A): number t was taken after seeing frame t, so the last one leads to the predicted frame. One frame
    is (B, height, width, C), float32. The network predicts its difference from the last frame.

    With C last a frame's pixels are where convolutions on CPUs want them; a (B, K, height, width) array of grey frames is
    the same with [..., None].
    """

    def __init__(self, settings: Experiment):
        super().__init__(autocast=False)  # in bfloat16 an action may be another; the layers cast what they get
        self.settings, options, signature = settings, settings.model, signature_from(settings)
        self.world, self.context = world_of(settings), options.context
        frames = keras.Input((options.context, signature.height, signature.width, signature.channels))
        actions = keras.Input((options.context, signature.actions))
        with drawn_by(settings.train.seed):
            self.network = keras.Model([frames, actions], ARCHITECTURES[options.name](frames, actions, options))
        self.step = graph(self.next_frame, reduce_retracing=True)  # next_frame, compiled: what rollouts call
        self.built = True

    def encode_actions(self, raw: Tensor) -> Tensor:
        """Actions as the network is told them: (B, K) to one-hot (B, K, A) where they are chosen, else as executed."""
        executed = self.world.execute(ops.cast(raw, "float32"), ops)
        if self.world.choices:
            return ops.one_hot(ops.cast(executed, "int32"), self.world.choices, dtype="float32")
        return executed if self.world.actions > 1 else ops.expand_dims(executed, -1)

    def unclipped(self, frames: Tensor, actions: Tensor) -> Tensor:
        """The next frame as the network has it, which may leave [0, 1]; frames float."""
        return frames[:, -1] + self.network([frames, self.encode_actions(actions)])

    def next_frame(self, frames: Tensor, actions: Tensor) -> Tensor:
        """The next frame, (B, height, width, C) float32 in [0, 1]."""
        return ops.clip(self.unclipped(to_unit(frames), actions), 0.0, 1.0)

    def open_loop(self, frames: Tensor, actions: Tensor) -> Tensor:
        """The n frames after frames (B, K, ...) under actions (B, K - 1 + n, ...), each from predictions before it.

        Returns (B, n, height, width, C) float32 in [0, 1].
        """
        return self.unroll(self.step, frames, actions)

    def unroll(self, predict: Callable[[Tensor, Tensor], Tensor], frames: Tensor, actions: Tensor) -> Tensor:
        """What `predict` makes of frames and actions, and then of its own predictions, clipped."""
        window, predicted = to_unit(frames), []
        for t in range(actions.shape[1] - self.context + 1):
            predicted.append(predict(window, actions[:, t : t + self.context]))
            window = ops.concatenate([window[:, 1:], ops.clip(predicted[-1], 0.0, 1.0)[:, None]], axis=1)
        return ops.stack(predicted, axis=1)

    def losses(self, clips: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Of windows of K + n frames and their actions: the means over windows, steps and pixels of loss and squared error.

        The n predictions are unclipped: what is beyond [0, 1] has a gradient back.
        """
        frames, actions = clips
        predicted = self.unroll(self.unclipped, frames[:, : self.context], actions)
        frames = to_unit(frames)
        truth, before = frames[:, self.context :], frames[:, self.context - 1 : -1]
        loss = ops.mean(pixel_loss(truth, predicted, before, self.settings.train))
        return {"loss": loss, "mse": ops.mean(ops.square(truth - predicted))}


@contextlib.contextmanager
def drawn_by(seed: int) -> Iterator[None]:
    """In the block Keras draws weights by this seed, with Python's own generator, which then goes on as if it had not."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


def pixel_loss(truth: Tensor, predicted: Tensor, before: Tensor, options: Train) -> Tensor:
    """The loss of every pixel, in the shape of the frames.

    Huber's: error² / 2 up to delta, then delta (|error| - delta / 2); or the squared error; times 1 + motion_weight where
    the truth is further than motion_threshold from the frame before.
    """
    error = ops.abs(truth - predicted)
    if options.loss == "mse":
        loss = ops.square(error)
    else:
        near = ops.minimum(error, options.huber_delta)
        loss = near * (error - 0.5 * near)
    if options.motion_weight:
        moves = ops.cast(ops.abs(truth - before) > options.motion_threshold, "float32")
        loss = loss * (1 + options.motion_weight * moves)
    return loss


def save(model: NextFrame, path: Path) -> None:
    """Write a model's weights, its optimiser's state if it has one, and what it is for, whole or not at all."""
    save_weights(model, path, nextframe=json.dumps(describe(model)))


def describe(model: NextFrame) -> dict[str, Any]:
    """What a file of weights says of its model."""
    options = {f"model.{key}": value for key, value in asdict(model.settings.model).items()}
    return {**signature_from(model.settings)._asdict(), **options}


def load(model: NextFrame, path: Path, damaged: str | None = None) -> None:
    """Read weights that `save` wrote. Raises Problem if they are missing, damaged, or of another game, frames or model.

    damaged: what to do then, if not to delete them and train again.
    """
    needed(path, "python -m nextframe")
    remedy = "use the settings and data it was trained with, or another run folder (--run)"
    again = damaged or "delete it and run `python -m nextframe` again"
    fault = "is damaged or not a next-frame model"
    with open_hdf5(path, again, fault=fault) as file:
        about = json.loads(file.attrs["nextframe"])
        for key, value in describe(model).items():
            if about.get(key) != value:
                raise Problem(f"{path} was trained with {key}={about.get(key)}, but here it is {value}: {remedy}")
    load_weights(model, path, "python -m nextframe", fault, damaged)


def load_nextframe(run: Run, settings: Experiment, damaged: str | None = None) -> NextFrame:
    """The trained model of a run, the best by validation; see load.

    Raises Problem if there is none, or it is of another game, frame size, action count or architecture than the settings.
    """
    model = NextFrame(settings)
    load(model, run.nextframe_weights, damaged)
    return model


class NextFrames:
    """The model as a predictor, see openloop.predictor.Predictor.

    Its prediction is not random, and shows any frame: one draw, no floor. Its memory is what the model sees but for the
    action that is still to come: K frames and the K - 1 actions between them.
    """

    draws = 1

    def __init__(self, model: NextFrame):
        self.model, self.sees = model, model.context
        self.title = f"Next-frame model ({model.settings.model.name})"

    def begin(self, frames: np.ndarray, actions: np.ndarray, windows: np.ndarray) -> Clips:
        recorded, seen = frames.shape[1], self.model.context
        if recorded < seen:
            raise Problem(
                f"openloop.context={recorded} is too few: the next-frame model sees model.context={seen} frames"
            )
        return Clips(viz.frames.to_unit(frames[:, recorded - seen :]), actions[:, recorded - seen :])

    def imagine(self, memory: Clips, actions: np.ndarray) -> tuple[np.ndarray, Clips]:
        taken = np.concatenate([memory.actions, actions[:, None]], axis=1)
        predicted = np.asarray(self.model.step(memory.frames, taken))  # (B, h, w, c)
        return predicted[:, None], self.observe(memory, actions, predicted)

    def observe(self, memory: Clips, actions: np.ndarray, frames: np.ndarray) -> Clips:
        taken = np.concatenate([memory.actions, actions[:, None]], axis=1)
        return Clips(np.concatenate([memory.frames[:, 1:], viz.frames.to_unit(frames)[:, None]], axis=1), taken[:, 1:])

    def reconstruct(self, frames: np.ndarray) -> None:
        return None
