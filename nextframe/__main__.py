"""`python -m nextframe`: train the offline, action-conditioned next-frame model on recorded rollouts."""

from typing import Any

from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import Stage, main

STAGE = Stage(
    name="nextframe",
    sections=("env", "extract", "data", "begin", "model", "train", "wandb"),
    needs=("extract",),
    makes=("nextframe_weights",),
    text="""
    Train the next-frame model: from the last model.context frames and the actions taken after them to the frame that
    follows. Reads the rollouts; episodes of data.val_ratio are held out.

    Writes, in the run folder: nextframe.weights.h5, the best by held-out loss; metrics/metrics.csv (means over
    train.log_every steps) and metrics/val_metrics.csv (loss, MSE, PSNR of at most 58.9 dB, SSIM on held-out windows);
    plots/nextframe_step_*.png: what the model sees, its prediction, the truth and their difference;
    videos/nextframe_step_*: left what happened, right what the model predicts from its own predictions; TensorBoard
    events; checkpoints/nextframe.weights.h5, from which an interrupted run goes on. Weights & Biases only if
    wandb.mode says so.
    """,
)


def run(settings: Experiment, run: Run) -> dict[str, Any]:
    """Train; see nextframe/training.py."""
    from nextframe.training import train

    return train(settings, run)


if __name__ == "__main__":
    main(STAGE, run)
