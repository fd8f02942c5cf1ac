"""`python -m vae`: train V on recorded rollouts."""

from typing import Any

from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import Stage, main

STAGE = Stage(
    name="vae",
    sections=("env", "extract", "data", "begin", "vae", "wandb"),
    needs=("extract",),
    makes=("vae_weights",),
    text="""
    Train V, the convolutional variational autoencoder that compresses each frame to a latent vector
    (Ha & Schmidhuber 2018, section 2.1). Reads the rollouts; episodes of data.val_ratio are held out.

    Writes, in the run folder: vae.weights.h5; metrics/vae.csv (means over 50 steps) and
    metrics/vae_heldout.csv (each epoch: squared error and KL of held-out frames, active latent
    dimensions, share found of what is small: fireballs, kerbs); plots/vae_frames_epoch_*.png and
    plots/vae_fireballs_epoch_*.png (vae_kerbs_*): frames above their reconstructions; TensorBoard events of
    these numbers and pictures; checkpoints/vae.weights.h5 every 250 steps, from which an interrupted run goes on.
    With repeat.vae_steps=0, iterations after the first write vae.weights.h5 alone: that of the one before.
    """,
)


def run(settings: Experiment, run: Run) -> dict[str, Any]:
    """Train; see vae/training.py."""
    from vae.training import train

    return train(settings, run)


if __name__ == "__main__":
    main(STAGE, run)
