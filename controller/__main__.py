"""`python -m controller`: evolve C in the dream."""

from typing import Any

from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import Stage, main

STAGE = Stage(
    name="controller",
    sections=("env", "extract", "data", "vae", "rnn", "dream", "controller"),
    needs=("vae", "vae.encode", "rnn"),
    makes=("controller",),
    text="""
    Evolve C, the linear controller, with CMA-ES, in the dream of M alone.

    Every generation is one batch of controller.population x controller.episodes dreams, all with the same start
    latents and the same random numbers. The number of generations is fixed in advance (controller.generations)
    and the mean of the last one is the result; every controller.real_every generations that mean is also tried
    in the real game, on seeds that neither training nor the final evaluation uses.

    Reads latents.h5, rnn.weights.h5 and, for the trials, vae.weights.h5.
    Writes controller.h5, metrics/controller.csv, metrics/controller_real.csv, checkpoints/evolution.pickle.
    Interrupted, it goes on after the last finished generation. More generations can be asked for at any time.
    """,
)


def run(settings: Experiment, folder: Run) -> dict[str, Any]:
    """Evolve what is left to evolve."""
    from controller.policy import policy_from
    from controller.real import RealGame
    from controller.training import evolve
    from experiment.hardware import prepare
    from rnn.dream import load_dream

    prepare(settings.hardware)
    dream = load_dream(settings, folder)
    with RealGame(settings, folder) as game:
        return evolve(settings, folder, dream, policy_from(settings), game.trial)


if __name__ == "__main__":
    main(STAGE, run)
