"""What can be played with: the models of a run. TensorFlow is imported only where there are any."""

from experiment.arrays import needed
from experiment.hardware import import_tensorflow
from experiment.run import Run
from play.scenes import Models


def kind_of(run: Run) -> str:
    """'agent': V, M and C; 'nextframe': a next-frame model alone. Raises Problem, at once, if a run has no models."""
    run.settings(())  # what cannot be read is told first
    if run.nextframe_weights.exists() and not run.vae_weights.exists():
        return "nextframe"
    needed(run.vae_weights, "python -m vae")
    return "agent"


def load_models(run: Run) -> Models:
    """The models of a run; V, M and C where it has them and a next-frame model too. Raises Problem if there are none."""
    kind = kind_of(run)
    import_tensorflow()
    if kind == "nextframe":
        from play.nextframe import NextFrameModels

        return NextFrameModels(run)
    from play.agent import AgentModels

    return AgentModels(run)
