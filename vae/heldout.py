"""How well V does on episodes it was not trained on: numbers and pictures."""

from pathlib import Path

import numpy as np

from envs.worlds import World
from extract.rollouts import Rollouts
from vae.latents import ACTIVE_NATS
from vae.model import VAE, kl_divergence
from viz.frames import to_rgb
from viz.strips import save_strip

SAMPLE = 2000  # frames the numbers are measured on
PICTURES = 12  # frames in a strip
BATCH = 500
DETAIL_SIZES = (4, 80)  # pixels that show the detail in the first and in the last frame of its strip, of 4,096


class HeldOut:
    """A fixed sample of frames from held-out episodes, and frames of them that show the world's detail (fireballs, kerbs).

    rollouts, episode_ids: where the frames come from. The same arguments give the same frames.
    """

    def __init__(self, rollouts: Rollouts, episode_ids: np.ndarray, world: World):
        self.world = world
        numbers = np.concatenate([np.arange(rollouts.lengths[i]) + rollouts.starts[i] for i in episode_ids])
        chosen = np.linspace(0, len(numbers) - 1, min(SAMPLE, len(numbers))).astype(int)
        self.frames = rollouts.read(numbers[chosen])  # (n, 64, 64, 3) uint8
        self.shown = self.frames[np.linspace(0, len(self.frames) - 1, PICTURES).astype(int)]
        self.details = self.frames[pick_details(world.shows_detail(self.frames))]

    def evaluate(self, model: VAE) -> dict[str, float]:
        """Means over the sample: squared error and KL of a frame, active latent dimensions, detail found.

        detail_found: of the pixels that show the detail in the frames, the share that does in the reconstructions too.
        """
        shows = self.world.shows_detail
        squared_error, kl, found = 0.0, np.zeros(model.latent_size), 0
        for first in range(0, len(self.frames), BATCH):
            frames = self.frames[first : first + BATCH]
            reconstruction, mu, logvar = (np.asarray(part) for part in model.predict_on_batch(frames))
            squared_error += float(np.square(frames / np.float32(255) - reconstruction).sum())
            kl += np.asarray(kl_divergence(mu, logvar)).sum(axis=0)
            found += int((shows(frames) & shows(to_rgb(reconstruction))).sum())
        return {
            "squared_error": squared_error / len(self.frames),
            "kl": kl.sum() / len(self.frames),
            "active": int((kl / len(self.frames) > ACTIVE_NATS).sum()),
            "detail_found": found / max(1, int(shows(self.frames).sum())),
        }

    def save_strips(self, model: VAE, folder: Path, name: str) -> dict[str, Path]:
        """Pictures of frames over their reconstructions: any frames, and frames with the detail, if there are any.

        Returns the files: reconstruction/frames, reconstruction/fireballs.
        """
        saved = {}
        for kind, frames in {"frames": self.shown, self.world.detail: self.details}.items():
            if len(frames):
                mu, _ = model.encode(frames)
                saved[f"reconstruction/{kind}"] = folder / f"vae_{kind}_{name}.png"
                save_strip(saved[f"reconstruction/{kind}"], {"game": frames, "V": model.pictures(mu)})
        return saved


def pick_details(shown: np.ndarray) -> np.ndarray:
    """The numbers of up to PICTURES frames that show a detail, from a small (far) one to a large (near) one.

    shown: which pixels do, (n, h, w) bool.
    """
    size = shown.sum(axis=(1, 2))  # (n,)
    order = np.lexsort((np.random.default_rng(0).permutation(len(size)), size))  # equal sizes from anywhere
    order = order[(size[order] >= DETAIL_SIZES[0]) & (size[order] <= DETAIL_SIZES[1])]
    wanted = np.geomspace(*DETAIL_SIZES, PICTURES)
    nearest = np.searchsorted(size[order], wanted).clip(0, max(0, len(order) - 1))
    return order[np.unique(nearest)] if len(order) else order
