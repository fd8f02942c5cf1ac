"""How well V does on episodes it was not trained on: numbers and pictures."""

from pathlib import Path

import numpy as np

from extract.rollouts import Rollouts
from vae.model import VAE, kl_divergence
from viz.strips import save_strip

SAMPLE = 2000  # frames the numbers are measured on
PICTURES = 12  # frames in a strip
BATCH = 500
ACTIVE_NATS = 0.1  # a latent dimension is active if its KL is more than this on average
FIRE_SIZES = (4, 80)  # pixels of the smallest and the largest fireball shown, of 4,096


class HeldOut:
    """A fixed sample of frames from held-out episodes, and frames of them that show fireballs.

    rollouts, episode_ids: where the frames come from. The same arguments give the same frames.
    """

    def __init__(self, rollouts: Rollouts, episode_ids: np.ndarray):
        numbers = np.concatenate([np.arange(rollouts.lengths[i]) + rollouts.starts[i] for i in episode_ids])
        chosen = np.linspace(0, len(numbers) - 1, min(SAMPLE, len(numbers))).astype(int)
        self.frames = rollouts.read(numbers[chosen])  # (n, 64, 64, 3) uint8
        self.shown = self.frames[np.linspace(0, len(self.frames) - 1, PICTURES).astype(int)]
        self.fireballs = self.frames[pick_fireballs(self.frames)]

    def evaluate(self, model: VAE) -> dict[str, float]:
        """Means over the sample: squared error and KL of a frame, active latent dimensions, fire found.

        fire_found: of the pixels that burn in the frames, the share that burns in the reconstructions too.
        """
        squared_error, kl, found = 0.0, np.zeros(model.latent_size), 0
        for first in range(0, len(self.frames), BATCH):
            frames = self.frames[first : first + BATCH]
            reconstruction, mu, logvar = (np.asarray(part) for part in model.predict_on_batch(frames))
            squared_error += float(np.square(frames / np.float32(255) - reconstruction).sum())
            kl += np.asarray(kl_divergence(mu, logvar)).sum(axis=0)
            found += int((burning(frames) & burning(to_bytes(reconstruction))).sum())
        return {
            "squared_error": squared_error / len(self.frames),
            "kl": kl.sum() / len(self.frames),
            "active": int((kl / len(self.frames) > ACTIVE_NATS).sum()),
            "fire_found": found / max(1, int(burning(self.frames).sum())),
        }

    def save_strips(self, model: VAE, folder: Path, name: str) -> None:
        """Pictures of frames over their reconstructions: any frames, and frames with fireballs, if there are any."""
        for kind, frames in {"frames": self.shown, "fireballs": self.fireballs}.items():
            if len(frames):
                mu, _ = model.encode(frames)
                save_strip(folder / f"vae_{kind}_{name}.png", [frames, to_bytes(model.decode(mu))], ["game", "V"])


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as uint8."""
    return np.round(np.asarray(images) * 255).astype(np.uint8)


def burning(frames: np.ndarray) -> np.ndarray:
    """Which pixels are part of a fireball: (..., h, w, 3) uint8 to (..., h, w) bool.

    In DoomTakeCover nothing else is nearly as bright: walls, floor and monsters stay below 150 in red.
    """
    return (frames[..., 0] >= 200) & (frames[..., 1] >= 120)


def pick_fireballs(frames: np.ndarray) -> np.ndarray:
    """The numbers of up to PICTURES frames with fireballs, from a small (far) one to a large (near) one."""
    size = burning(frames).sum(axis=(1, 2))  # (n,)
    order = np.lexsort((np.random.default_rng(0).permutation(len(size)), size))  # equal sizes from anywhere
    order = order[(size[order] >= FIRE_SIZES[0]) & (size[order] <= FIRE_SIZES[1])]
    wanted = np.geomspace(*FIRE_SIZES, PICTURES)
    nearest = np.searchsorted(size[order], wanted).clip(0, max(0, len(order) - 1))
    return order[np.unique(nearest)] if len(order) else order
