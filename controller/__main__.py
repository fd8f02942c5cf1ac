"""`python -m controller`: evolve C, in the dream or in the real world."""

from typing import Any

from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import Stage, main

STAGE = Stage(
    name="controller",
    sections=("env", "extract", "data", "begin", "vae", "rnn", "dream", "controller", "wandb"),
    reads=("evaluate.dreams",),
    needs=("vae", "vae.encode", "rnn"),
    makes=("controller",),
    text="""
    Evolve C, the controller, with CMA-ES: controller.generations in the dream of M, then controller.real_generations
    in the real world.

    Every generation is one batch of controller.population x controller.episodes dreams, or of controller.real_population
    x controller.real_episodes real episodes, with the same starts and random numbers (the same seeds) for all candidates.
    The number of generations is fixed in advance and the mean of the last one is the result; every controller.trial_every
    generations that mean is also tried in the real world, on seeds that neither training nor the final evaluation uses.
    Where CMA-ES cannot go on, as its steps have become too small or too large, it begins anew around its mean, and says so.

    Reads latents.h5, rnn.weights.h5 and, for the trials, vae.weights.h5.
    Writes controller.h5, metrics/controller.csv, metrics/controller_real.csv and controller_both.csv, and
    checkpoints/evolution.npz.
    Interrupted, it goes on after the last finished generation. More generations can be asked for later, never fewer; no more in
    the dream once C has gone on from there in the real world, nor once the next iteration has recorded with it.
    """,
)


def run(settings: Experiment, folder: Run) -> dict[str, Any]:
    """Evolve what is left to evolve."""
    from controller.training import evolve_all

    return evolve_all(settings, folder)


if __name__ == "__main__":
    main(STAGE, run)
