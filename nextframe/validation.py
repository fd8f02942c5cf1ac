"""How well the next-frame model does on held-out episodes: figures, strips and open-loop videos, of the same windows always."""

from pathlib import Path

import numpy as np

from envs.worlds import world_of
from experiment.schema import Experiment
from extract.rollouts import Rollouts
from nextframe.model import NextFrame, pixel_loss
from nextframe.windows import Windows
from viz.frames import to_rgb, to_unit
from viz.scores import score
from viz.strips import save_strip
from viz.video import save_video, side_by_side

BATCH = 64  # windows predicted at once
STRIP = 8  # windows in a strip
AHEAD = 16  # steps that a window goes on where its episode does, however many are looked at: all runs have the same
FILMED = 3  # windows in a video, one under the other


class HeldOutWindows:
    """Fixed windows of held-out episodes, evenly spread. Their frames are read anew each time, a batch at a time.

    Raises Problem if no held-out episode is long enough for a window.
    """

    def __init__(self, rollouts: Rollouts, episode_ids: np.ndarray, settings: Experiment):
        options, self.context, self.fps = settings.train, settings.model.context, world_of(settings).fps
        longest = int(rollouts.lengths[episode_ids].max(initial=0)) - self.context
        self.windows = Windows(rollouts, episode_ids, self.context + options.unroll, "held-out")
        going_on = Windows(rollouts, episode_ids, self.context + max(options.unroll, min(AHEAD, longest)), "held-out")
        self.chosen = going_on.spread(options.val_windows)
        self.steps = min(options.video_steps, longest)
        self.films = Windows(rollouts, episode_ids, self.context + self.steps, "held-out") if self.steps > 0 else None

    def evaluate(self, model: NextFrame) -> dict[str, float]:
        """Means over the windows.

        loss: what training lowers at its end, here of frames as they are shown, over train.unroll steps of the model's own
        predictions. mse, psnr, ssim: of the first predicted frame (see viz.scores); copy_mse: of the last seen frame in
        its place. last_mse: of the last of the train.unroll frames.
        """
        rows: list[tuple[np.ndarray, ...]] = []
        for first in range(0, len(self.chosen), BATCH):
            frames, actions = self.windows.read(self.chosen[first : first + BATCH])
            predicted = np.asarray(model.open_loop(frames[:, : self.context], actions))  # (B, n, height, width, C)
            frames = to_unit(frames)
            truth, before = frames[:, self.context :], frames[:, self.context - 1 : -1]
            loss = np.asarray(pixel_loss(truth, predicted, before, model.settings.train)).mean(axis=(1, 2, 3, 4))
            one, last = score(predicted[:, 0], truth[:, 0]), score(predicted[:, -1], truth[:, -1])
            rows.append((loss, *one, score(before[:, 0], truth[:, 0]).mse, last.mse))
        means = [float(np.concatenate(part).mean()) for part in zip(*rows, strict=True)]
        return dict(zip(("loss", "mse", "psnr", "ssim", "copy_mse", "last_mse"), means, strict=True))

    def save_strip(self, model: NextFrame, path: Path) -> None:
        """A PNG with a column for each of some windows: what the model sees, its prediction, the truth, their difference."""
        frames, actions = self.windows.read(self.windows.spread(STRIP))
        k = self.context
        predicted = to_rgb(np.asarray(model.open_loop(frames[:, :k], actions[:, :k])))[:, 0]
        frames = to_rgb(frames)
        truth = frames[:, k]
        difference = np.abs(predicted.astype(int) - truth).astype(np.uint8)
        inputs = {f"input {t + 1}": frames[:, t] for t in range(k)}
        save_strip(path, {**inputs, "prediction": predicted, "truth": truth, "difference": difference})

    def save_video(self, model: NextFrame, stem: Path) -> None:
        """MP4 and GIF: left what happened, right what the model predicts open loop from the same first frames."""
        if self.films is None:
            return
        frames, actions = self.films.read(self.films.spread(FILMED))
        predicted = np.asarray(model.open_loop(frames[:, : self.context], actions))
        sides = {"truth": frames[:, self.context :], "prediction": predicted}
        films = {label: np.concatenate(list(to_rgb(side)), axis=1) for label, side in sides.items()}
        save_video(stem, side_by_side(films, scale=2), fps=self.fps)
