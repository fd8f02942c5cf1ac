"""What a run has measured, beside what was published: tables and plots, from the files of its folder alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.scores import (
    Record,
    Row,
    both_together,
    published_curve,
    published_episodes,
    published_rows,
    swept_row,
    table,
)
from envs.worlds import world_of
from experiment.metrics import read_metrics
from experiment.run import Run
from experiment.schema import Experiment
from viz.curves import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, Curves, Histogram

SECTIONS = ("env", "dream", "controller")
FEWEST = 3  # points that a curve of losses is drawn of
PUBLISHED_EPISODES = 64 * 16  # of a generation of the published runs
# Of what a curve shows, in whichever experiment or plot: its label's beginning, without what is in brackets.
COLOURS = {
    "dream, population mean": BLUE,
    "real, population mean": VERMILION,
    "real, CMA-ES mean": GREEN,
    "published, dream, population mean": PURPLE,
    "published, real, population mean": PURPLE,
    "published, real, CMA-ES mean": ORANGE,
    "ours, dream": BLUE,
    "ours, game": GREEN,
    "ours, game, as dreams count": VERMILION,
    "paper, dream": SKY,
    "paper, game": ORANGE,
}


class Results:
    """What a run has measured. What it has not is left out: a run without a sweep has no temperatures.

    settings: those that the run was made with, unless given.
    """

    def __init__(self, run: Run, settings: Experiment | None = None):
        self.run, self.title = run, run.title
        self.settings = settings or run.settings(SECTIONS)
        self.world = world_of(self.settings)
        self.solved = {} if self.world.solved is None else {"solved": self.world.solved}
        self.evaluations: dict[str, Any] = run.read_results().get("evaluations", {})
        with run.reading_results():  # what cannot be shown is not what was written
            self.table(), self.temperatures(), self.returns(), self.fixed_policies()

    @property
    def swept(self) -> dict[float, tuple[Record, Record]]:
        """The temperature that C was evolved at -> (in its dream, in the real world), the run's own C included, unless it
        went on in the real world; of several controllers, see `together`."""
        records = [*self.evaluations.get("sweep", {}).values()]
        own = self.evaluations.get("game", {}).get("controller", "")
        known = {record.get("game", {}).get("controller") for record in records}  # the own one too, on other episodes
        if not self.settings.controller.real_generations and own not in known:
            records.append(self.evaluations)
        pairs = [(record["dream"], record["game"]) for record in records if "dream" in record and "game" in record]
        at: dict[float, list[tuple[Record, Record]]] = {}
        for dream, game in sorted(pairs, key=lambda pair: float(pair[0]["temperature"])):
            at.setdefault(dream["temperature"], []).append((dream, game))
        return {temperature: both_together(pairs) for temperature, pairs in at.items()}

    def table(self) -> str:
        """The scores beside the published ones."""
        rows = [swept_row("this run", temperature, *places) for temperature, places in self.swept.items()]
        if (generations := self.settings.controller.real_generations) and "game" in self.evaluations:
            name = f"this run, {generations} generations on in the real world"
            rows.append(Row(name, self.evaluations.get("dream"), self.evaluations["game"]))
        return table([*rows, *self.by_chance()], self.settings)

    def by_chance(self) -> list[Row]:
        """What players reached who have learnt nothing."""
        random, drawn = self.evaluations.get("random"), self.evaluations.get("random_controllers")
        rows = [Row("random policy, measured here", None, random)] if random else []
        return [*rows, Row(f"best of {drawn['drawn']} random controllers", None, drawn)] if drawn else rows

    def panels(self, *names: str) -> dict[str, list[Curves | Histogram]]:
        """The plots of these names, 'training' and so on, as far as there is anything to draw."""
        drawn = {name: getattr(self, name)() for name in names}
        return {name: panels for name, panels in drawn.items() if panels}

    def training(self) -> list[Curves]:
        """What C reached against generations, environment steps and hours, beside the published; none without metrics."""
        ours, trials = history(self.run, "controller"), history(self.run, "controller_real")
        if not ours:
            return []
        published, published_mean = (published_curve(self.settings.env.name, of) for of in ("population", "mean_eval"))
        if published:
            published["steps"] = np.cumsum(published["steps_mean"]) * PUBLISHED_EPISODES
        if published_mean:
            published_mean["steps"] = np.interp(
                published_mean["generation"], published["generation"], published["steps"]
            )
        panels = []
        for x, published_x, xlabel, scale in (
            ("step", "generation", "generation", 1),
            ("steps", "steps", "steps, dreamed or real", 1),
            ("elapsed", "elapsed_s", "hours of evolving", 3600),
        ):
            if x not in ours:
                continue
            series: dict[str, Any] = {}
            for place, real in (("dream", 0.0), ("real", 1.0)):
                rows = ours["real"] == real if "real" in ours else np.full(len(ours["step"]), not real)
                if rows.any():
                    band = np.stack([ours["min"], ours["max"]])[:, rows]
                    label = f"{place}, population mean (band: worst to best)"
                    series[label] = ours[x][rows] / scale, ours["mean"][rows], band
            if trials and x in trials:
                error = trials["std"] / np.sqrt(trials["episodes"])
                series["real, CMA-ES mean (band: standard error)"] = trials[x] / scale, trials["mean"], error
            of_published = {f"published, {self.world.published_in}, population mean (64 cores)": published,
                            "published, real, CMA-ES mean": published_mean}  # fmt: skip
            series |= {label: (of[published_x] / scale, of["return_mean"]) for label, of in of_published.items() if of}
            panels.append(self._scores(series, xlabel, logx=True))
        return panels

    def losses(self) -> list[Curves]:
        """Training and held-out losses of V and M, where there are enough points for a curve."""
        tables = {
            name: read_metrics(self.run.metrics / f"{name}.csv") for name in ("vae", "vae_heldout", "rnn_losses", "rnn")
        }
        panels = []
        for title, column, unit, (training, held_out) in (
            ("V: squared error of a frame", "squared_error", "squared error", ("vae", "vae_heldout")),
            ("V: divergence from the prior", "kl", "KL (nats)", ("vae", "vae_heldout")),
            ("M: the next latent", "z_nll", "negative log-likelihood (nats a dimension)", ("rnn_losses", "rnn")),
            ("M: whether the episode ends", "done_loss", "weighted cross-entropy (nats)", ("rnn_losses", "rnn")),
            ("M: the reward", "reward_error", "squared error", ("rnn_losses", "rnn")),
        ):
            series = {
                label: (tables[name]["step"], tables[name][column])
                for label, name in (("training", training), ("held out", held_out))
                if tables[name].get(column, np.zeros(1)).any()  # a head that M does not have is written as 0
            }
            if any(len(steps) >= FEWEST for steps, _ in series.values()):
                panels.append(Curves(series, "training steps", unit, title))
        return panels

    def temperatures(self) -> list[Curves]:
        """Scores against the temperature of the dream, where there is more than one."""
        return [self.against_temperature(self.swept)] if len(self.swept) > 1 else []

    def against_temperature(self, swept: Mapping[float, tuple[Record, Record]]) -> Curves:
        """Dream and world of controllers evolved at each temperature, and the paper's where it has any; see `swept`."""
        series: dict[str, Any] = {}
        paper = [row for row in published_rows(self.settings.env.name) if row.temperature]
        for i, place in enumerate(("dream", "game")):
            records = [swept[temperature][i] for temperature in sorted(swept)]
            series |= scores_at(sorted(swept), f"ours, {place}", records)
            if any("counted" in record for record in records):
                counted = [record.get("counted", record) for record in records]
                series |= scores_at(sorted(swept), f"ours, {place}, as dreams count", counted)
            if paper:
                means = [getattr(row, place)["mean"] for row in paper]
                series[f"paper, {place}"] = [float(row.temperature) for row in paper], means
        return self._scores(series, "temperature τ of the dream that C was evolved in", "the temperature of the dream")

    def returns(self) -> list[Histogram]:
        """How episodes end up; where dreams are cut sooner than real episodes, their label says so."""
        if "game" not in self.evaluations or "random" not in self.evaluations:
            return []
        samples = {"this agent, real": self.evaluations["game"]["returns"]}
        if dream := self.evaluations.get("dream"):
            longest = min(self.settings.env.max_steps, self.world.limit)
            cut = f", {dream['max_steps']:,} steps" if dream["max_steps"] < longest else ""
            samples[f"this agent, dream at τ {dream['temperature']:g}{cut}"] = dream["returns"]
        samples["random policy, real"] = self.evaluations["random"]["returns"]
        if drawn := self.evaluations.get("random_controllers"):
            samples[f"best of {drawn['drawn']} random controllers, real"] = drawn["returns"]
        samples["published agent, real"] = published_episodes(self.settings.env.name)
        return [Histogram(samples, self.world.score, "How episodes end up", self.solved)]

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

    def _scores(self, series: dict[str, Any], xlabel: str, title: str = "", logx: bool = False) -> Curves:
        """Returns against something, with what to compare them with: the return that counts as solved, the random policy."""
        world, score = self.world, self.world.score
        against = f"{score.capitalize()} against {title or xlabel}"
        levels = self.solved | ({"random": world.random[0]} if world.random else {})
        roles = {label: label.split(" (")[0] for label in series}
        colours = {label: COLOURS[role] for label, role in roles.items() if role in COLOURS}
        return Curves(series, xlabel, score, against, logx=logx, hlines=levels, colours=colours)


def scores_at(temperatures: list[float], label: str, records: list[Record]) -> dict[str, Any]:
    """A series of scores against the temperatures, by its label."""
    errors = np.array([record["standard_error"] for record in records])
    return {f"{label} (band: standard error)": (temperatures, [record["mean"] for record in records], errors)}


def history(run: Run, name: str) -> dict[str, np.ndarray]:
    """metrics/NAME.csv of all iterations up to this one: generations, steps and seconds of evolving count on."""
    tables, before = [], dict.fromkeys(("step", "steps", "elapsed"), 0.0)
    for number in range(1, run.iteration + 1):
        folder = run.at(number).metrics
        evolved, table = read_metrics(folder / "controller.csv"), read_metrics(folder / f"{name}.csv")
        if table:
            tables.append({column: values + before.get(column, 0) for column, values in table.items()})
        before = {column: before[column] + (evolved[column][-1] if column in evolved else 0) for column in before}
    shared = [column for column in (tables[0] if tables else ()) if all(column in table for table in tables)]
    return {column: np.concatenate([table[column] for table in tables]) for column in shared}
