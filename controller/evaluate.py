"""`python -m controller.evaluate`: the reported figures, the table beside the paper's, plots and videos."""

from typing import Any

from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import Stage, main

STAGE = Stage(
    name="controller.evaluate",
    sections=("env", "extract", "data", "begin", "vae", "rnn", "dream", "controller", "evaluate"),
    needs=("controller",),
    of_last=True,
    text="""
    Evaluate the evolved controller, the CMA-ES mean: evaluate.episodes episodes of the real world on held-out seeds
    (evaluate.seed and those after it), evaluate.dreams dreams of at most dream.max_steps at dream.temperature, where M
    can dream; the random policy, a new action every step; and the best of evaluate.random_controllers, if there are any.
    Mean, standard deviation of a sample, standard error, n, seeds and all returns are written into results.json, and
    printed beside the paper's figures.

    Reads controller.h5, vae.weights.h5, rnn.weights.h5, latents.h5 and metrics/.
    Writes results.json; plots/training.png, plots/returns.png, and plots/losses.png where there are points enough for a
    curve; videos/game and videos/dream (MP4 and GIF), the episode and the dream of median return, and videos/game-best
    and videos/game-worst (evaluate.extremes).
    Parts that were measured before, of the same controller and seeds, are not measured again.
    """,
)


def run(settings: Experiment, folder: Run) -> dict[str, Any]:
    """Measure, print and draw."""
    from controller.evaluation import evaluate

    return evaluate(settings, folder)


if __name__ == "__main__":
    main(STAGE, run)
