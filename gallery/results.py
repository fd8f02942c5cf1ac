"""What a run has measured: training curves, table, temperatures and returns, from the files of its folder alone."""

from typing import Any

import numpy as np

from controller.report import loss_panels, returns_panel, temperatures_panel, training_panels
from controller.scores import Record, Row, table
from envs.worlds import world_of
from experiment.config import load_made
from experiment.run import Run
from experiment.schema import Experiment
from viz.curves import Curves, Histogram

SECTIONS = ("env", "dream", "controller")


class Results:
    """What a run has measured. What it has not is left out: a run without a sweep has no temperatures."""

    def __init__(self, run: Run):
        self.run, self.title = run, run.title
        self.settings: Experiment = load_made(run.config, SECTIONS)
        self.world = world_of(self.settings)
        self.evaluations: dict[str, Any] = run.read_results().get("evaluations", {})
        with run.reading_results():  # what cannot be shown is not what was written
            self.table(), self.temperatures(), self.returns(), self.fixed_policies()

    @property
    def swept(self) -> dict[float, tuple[Record, Record]]:
        """The temperature that C was evolved at -> (in its dream, in the real world), the run's own C included, unless it
        went on in the real world."""
        own = [] if self.settings.controller.real_generations else [self.evaluations]
        records = [*self.evaluations.get("sweep", {}).values(), *own]
        pairs = [(record["dream"], record["game"]) for record in records if "dream" in record and "game" in record]
        return {dream["temperature"]: (dream, game) for dream, game in sorted(pairs, key=lambda p: p[0]["temperature"])}

    def table(self) -> str:
        """The scores beside the published ones."""
        rows = [Row(f"this run, evolved at τ {τ:.2f}", dream, game) for τ, (dream, game) in self.swept.items()]
        if (generations := self.settings.controller.real_generations) and "game" in self.evaluations:
            name = f"this run, {generations} generations on in the real world"
            rows.append(Row(name, self.evaluations.get("dream"), self.evaluations["game"]))
        if "random" in self.evaluations:
            rows.append(Row("random policy, measured here", None, self.evaluations["random"]))
        return table(rows, self.settings)

    def training(self) -> list[Curves]:
        """What C reached while it evolved, in the dream and in the real world, beside the published curve."""
        return training_panels(self.settings, self.run)

    def losses(self) -> list[Curves]:
        """V's and M's losses, in training and held out."""
        return loss_panels(self.run)

    def temperatures(self) -> list[Curves]:
        """Scores against the temperature of the dream, where there is more than one."""
        return [temperatures_panel(self.settings, self.swept)] if len(self.swept) > 1 else []

    def returns(self) -> list[Histogram]:
        """How episodes end up, in the real world and in dreams."""
        if "game" not in self.evaluations or "random" not in self.evaluations:
            return []
        game, random = self.evaluations["game"], self.evaluations["random"]
        return [returns_panel(self.settings, game, self.evaluations.get("dream"), random)]

    def fixed_policies(self) -> list[Curves]:
        """Fixed policies in the dream against the same in the real world: on the diagonal, the dream is as hard."""
        policies = self.run.read_results().get("survival", {}).get("policies", {})
        means = {
            name: [place["mean"] for place in (of["game"], of["dream"])] for name, of in policies.items()
        }  # (real, dream)
        if not means:
            return []
        line = np.linspace(min(map(min, means.values())), max(map(max, means.values())), 100)
        series = {name: ([real], [dream]) for name, (real, dream) in means.items()} | {"the same in both": (line, line)}
        heading = "The same actions in the dream and in the real world"
        return [Curves(series, f"{self.world.score}, real", f"{self.world.score}, dream", heading)]
