"""What can be played with: the models of a run."""

from experiment.run import Run
from play.agent import AgentModels
from play.nextframe import NextFrameModels
from play.scenes import Models


def load_models(run: Run) -> Models:
    """The models of a run; V, M and C where it has them and a next-frame model too. Raises Problem if there are none."""
    alone = run.nextframe_weights.exists() and not run.vae_weights.exists()
    return NextFrameModels(run) if alone else AgentModels(run)
