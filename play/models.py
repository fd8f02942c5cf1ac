"""What can be played with: the models of a run, loaded and compiled once, for all sessions."""

from typing import Protocol

from envs.worlds import World
from experiment.run import Run
from experiment.schema import Experiment
from play.places import Place


class Models(Protocol):
    """What a session needs of them."""

    kind: str
    """'agent': V, M and C; 'nextframe': a next-frame model, beside which there is neither a C nor a temperature."""
    settings: Experiment
    world: World
    missing: dict[str, str]
    """Why it cannot be had: of 'dream', 'real' and 'controller'."""

    def open(self, name: str) -> Place:
        """A game or dream of its own for a session: 'dream' or 'real'. Raises Problem if it cannot be had."""

    def warm_up(self) -> None:
        """Compile everything, so that the first session need not wait for it."""


def load_models(run: Run) -> Models:
    """The models of a run; V, M and C where it has them and a next-frame model too. Raises Problem if there are none."""
    if run.nextframe_weights.exists() and not run.vae_weights.exists():
        from play.nextframe import NextFrameModel

        return NextFrameModel(run)
    from play.agent import Agent

    return Agent(run)
