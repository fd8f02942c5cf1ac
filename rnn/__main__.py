"""`python -m rnn`: train M on latent series."""

from typing import Any

from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import Stage, main

STAGE = Stage(
    name="rnn",
    text="""
    Train M, the recurrent mixture-density network that predicts the next latent and whether the episode ends,
    on the latents of the recorded episodes; then compare how long fixed policies survive in its dream, as dream.done and
    dream.temperature have it, and in the game.

    reads   latents.h5
    writes  rnn.weights.h5          M at the epoch that rnn.keep says
            metrics/rnn.csv         held-out likelihood of z; precision, recall and calibration of done (a row an epoch)
            metrics/rnn_losses.csv  training losses
            checkpoints/            what going on after an interruption needs
            results.json            evaluations.rnn and survival
    """,
    sections=("env", "extract", "data", "begin", "vae", "rnn", "wandb"),
    reads=("dream.temperature", "dream.max_steps", "dream.done"),
    needs=("vae.encode",),
    makes=("rnn_weights",),
)


def run(settings: Experiment, run: Run) -> dict[str, Any]:
    """Train M, then check its dream against the game."""
    from rnn.comparison import compare
    from rnn.training import train

    figures = train(settings, run)
    compare(settings, run)
    return figures


if __name__ == "__main__":
    main(STAGE, run)
