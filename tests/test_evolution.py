"""CMA-ES through our own ask and tell: it maximises, decays the right way, and resumes exactly."""

import dataclasses
import itertools

import numpy as np
import pytest

from controller.agent import load_agent
from controller.arenas import InDream, InReal
from controller.evolution import Evolution, Space, everywhere, generation_seed
from controller.policy import Policy, load_controller, policy_from
from controller.real import RealWorld
from controller.scores import counted, summary
from controller.training import evolve, evolve_all, save_controller, saved
from envs.episodes import Played
from envs.worlds import WORLDS
from experiment.backend import keras
from experiment.files import write_json
from experiment.metrics import read_metrics
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Controller, Env, Experiment, Hardware, Rnn, Vae
from experiment.schema import Dream as DreamSettings
from extract.collect import SEEDS
from rnn.dream import Dream, Outcome, drawn_weight, load_dream
from rnn.model import MDNRNN
from rnn.starts import Starts
from tests.fake import fake_world, length, save_untrained
from vae.latents import Latents


def sphere(population: np.ndarray) -> np.ndarray:
    """A return that is highest, 100, where every number is 0.5."""
    return 100 - np.sum(np.square(population - 0.5), axis=1)


def test_finds_the_top_of_a_sphere():
    evolution = Evolution(everywhere(20), sigma=0.1, population=16, seed=3)
    for _ in range(150):
        evolution.tell(sphere(evolution.ask()))
    np.testing.assert_allclose(evolution.mean, 0.5, atol=0.01)
    assert evolution.sigma < 0.01


@pytest.mark.parametrize("diagonal", [False, True])
def test_sigma_is_that_of_the_candidates(diagonal):
    evolution = Evolution(everywhere(20), sigma=0.1, population=16, seed=3, diagonal=diagonal)
    for _ in range(60):
        evolution.tell(sphere(evolution.ask()))
    drawn = np.concatenate([evolution.ask() for _ in range(200)]) - evolution.mean
    assert evolution.sigma == pytest.approx(np.sqrt(np.mean(np.square(drawn))), rel=0.02)


def test_weight_decay_makes_weights_small():
    """With a decay of D/2, the top of -(w - 0.5)² - w²/2 is at 1/3 (with the wrong sign it would be at 1)."""
    evolution = Evolution(everywhere(20), sigma=0.1, population=16, seed=3, weight_decay=10.0)
    for _ in range(150):
        evolution.tell(sphere(evolution.ask()))
    np.testing.assert_allclose(evolution.mean, 1 / 3, atol=0.01)


def test_weights_that_are_not_free_stay_0():
    free = np.arange(20) % 3 > 0
    space = Space(free.astype("float32"), free.astype("float32"))
    evolution = Evolution(space, sigma=0.1, population=16, seed=3)
    for _ in range(150):
        population = evolution.ask()
        assert not population[:, ~free].any()
        evolution.tell(sphere(population))
    np.testing.assert_allclose(evolution.mean, 0.5 * free, atol=0.02)


def test_weights_are_searched_for_along_the_basis():
    """The top of the sphere in the plane through the origin (1, ..., 1) along two directions."""
    basis = np.zeros((20, 2), "float32")
    basis[:5, 0], basis[5:, 1] = 3, 0.1
    evolution = Evolution(Space(np.ones(20, "float32"), basis), sigma=0.1, population=16, seed=3)
    for _ in range(100):
        population = evolution.ask()
        np.testing.assert_allclose(population, population[:, [0, 5]][:, [0] * 5 + [1] * 15])
        evolution.tell(sphere(population))
    np.testing.assert_allclose(evolution.mean, 0.5, atol=0.02)


def test_the_seed_decides():
    first, same, other = (Evolution(everywhere(5), 0.1, 4, seed).ask() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    assert len({generation_seed(seed, generation) for seed in range(20) for generation in range(50)}) == 1000


def test_faults_are_one_line(tmp_path):
    evolution = Evolution(everywhere(3), 0.1, 4, seed=0)
    evolution.ask()
    with pytest.raises(Problem, match="generation 1: 1 returns are not finite"):
        evolution.tell(np.array([1.0, np.nan, 2.0, 3.0]))
    evolution.tell(np.arange(4))
    evolution.save(tmp_path / "state")
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:100])
    with pytest.raises(Problem, match=r"state is damaged .*: delete it to evolve from generation 1 again"):
        Evolution.load(tmp_path / "state")


def small_dream(done_bias: float = -1.2, drawn: float | None = None) -> Dream:
    """A dream of a small M that was never trained, whose done logit is moved so that dreams last some steps."""
    keras.utils.set_random_seed(1)
    model = MDNRNN(latent_size=4, action_size=1, hidden=8, mixtures=2, predict_done=True)
    rng = np.random.default_rng(0)
    model.kernel.assign(rng.normal(size=model.kernel.shape))
    model.output_kernel.assign(rng.normal(size=model.output_kernel.shape))
    model.output_bias.assign([*np.zeros(model.mixture_size), done_bias])
    mu, logvar = rng.normal(size=(5, 4)).astype("float32"), np.full((5, 4), -2, "float32")
    return Dream(model, Starts(mu, logvar, *np.zeros((2, 5, 8), "float32")), drawn)


@pytest.fixture(scope="module")
def dream():
    return small_dream()


@pytest.fixture(scope="module")
def arena(dream):
    """That dream as a place to be evolved in."""
    return InDream(SETTINGS, dream, POLICY)


POLICY = Policy(("z", "c", "h"), bias=False, latent_size=4, memory=8)
SETTINGS = dataclasses.replace(
    Experiment(),
    dream=DreamSettings(temperature=1.2, max_steps=90),
    controller=Controller(population=6, episodes=3, generations=5, sigma=0.5, cap_min=20, trial_every=2, seed=4),
)


def trial(parameters):
    """Something to call in place of the real game."""
    returns = parameters[:2].astype(float)
    return Played(returns, np.full(2, 90), np.full(2, 90), returns / 2)


def test_a_generation_is_dreamt_with_its_own_seed(dream, arena):
    population = Evolution(everywhere(POLICY.size), 0.5, 6, seed=1).ask()
    tried = [arena(population, generation, last_length=80.0) for generation in (1, 2)]
    assert np.any(tried[0].returns != tried[1].returns)
    expected = dream.rollout(POLICY.act, population, 3, generation_seed(4, 2), 1.2, 90)
    np.testing.assert_array_equal(tried[1].returns, expected.returns)
    np.testing.assert_array_equal(tried[1].lengths, expected.lengths)


def test_evolving_stopped_and_resumed_comes_to_the_same_end(arena, tmp_path):
    straight, broken = Run(tmp_path / "straight"), Run(tmp_path / "broken")
    evolve(straight, arena, trial)

    def killed(parameters):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # at the first trial, in generation 2
        evolve(broken, arena, killed)
    assert Evolution.load(broken.checkpoints / "evolution.npz").generation == 1
    evolve(broken, arena, trial)
    ends = [load_controller(run.controller, POLICY) for run in (straight, broken)]
    np.testing.assert_array_equal(ends[0].mean, ends[1].mean)
    assert straight.controller.read_bytes() == broken.controller.read_bytes()
    assert ends[0].generation == 5
    assert np.any(ends[0].mean != 0)
    both = read_metrics(straight.metrics / "controller_both.csv")
    dreamt, counted = summary(arena.trial(ends[0].mean)), summary(trial(ends[0].mean).early)
    assert len(set(dreamt["returns"])) > 10 and dreamt["max"] <= 90
    for place, record in (("dream", dreamt), ("real", counted)):  # in the last row, of the controller that is saved
        assert both[place][-1] == pytest.approx(record["mean"], rel=1e-4)
        assert both[f"{place}_error"][-1] == pytest.approx(record["standard_error"], rel=1e-4)
    for name, generations in (
        ("controller.csv", [1, 2, 3, 4, 5]), ("controller_real.csv", [2, 4, 5]), ("controller_both.csv", [2, 4, 5]),
    ):  # fmt: skip
        tables = [read_metrics(run.metrics / name) for run in (straight, broken)]
        assert list(tables[0]["step"]) == generations
        for column in set(tables[0]) - {"seconds", "elapsed", "steps_per_second"}:
            np.testing.assert_array_equal(tables[0][column], tables[1][column])
    assert evolve(straight, arena, killed).generation == 5  # nothing is left to do


def test_real_episodes_are_counted_as_far_as_a_dream_goes():
    """Until the first hit only where the dream ends at each, and a world tells."""
    played = Played(np.array([7.0, 8.0]), np.array([7, 8]), np.array([3, 8]), np.array([5.0, 5.0]))
    drawn = dataclasses.replace(SETTINGS, dream=dataclasses.replace(SETTINGS.dream, done="drawn"))
    assert counted(SETTINGS, played).tolist() == [3, 8]
    assert counted(drawn, played).tolist() == [5, 5]
    assert counted(SETTINGS, played._replace(first_hits=played.lengths)).tolist() == [5, 5]
    short = dataclasses.replace(SETTINGS, dream=dataclasses.replace(SETTINGS.dream, max_steps=5))
    assert counted(short, played).tolist() == [3, 5]


def test_evolving_goes_on_from_a_controller(dream, tmp_path):
    start = np.linspace(-1, 1, POLICY.size, dtype="float32")
    careful = dataclasses.replace(SETTINGS.controller, sigma=1e-6, generations=1)
    arena = InDream(dataclasses.replace(SETTINGS, controller=careful), dream, POLICY)
    assert evolve(Run(tmp_path / "a"), arena).mean == pytest.approx(0, abs=1e-4)
    assert evolve(Run(tmp_path / "b"), arena, start=start).mean == pytest.approx(start, abs=1e-4)
    caps = [read_metrics(tmp_path / name / "metrics" / "controller.csv")["cap"].tolist() for name in "ab"]
    assert caps == [[20], [90]]  # what has learnt already is not cut short


def test_the_cap_grows_with_what_was_reached(dream, arena):
    assert [arena.cap(mean) for mean in (None, 5.0, 30.0, 80.0)] == [20, 20, 60, 90]
    uncapped = dataclasses.replace(SETTINGS, controller=Controller(adaptive_cap=False))
    endless = dataclasses.replace(SETTINGS, rnn=Rnn(predict_done=False, predict_reward=True))
    expected = dataclasses.replace(SETTINGS, dream=dataclasses.replace(SETTINGS.dream, done="expected"))
    for settings in (uncapped, endless, expected):
        assert InDream(settings, dream, POLICY).cap(5.0) == 90


@pytest.mark.parametrize("done", ["threshold", "expected"])
def test_a_dream_that_does_not_end_is_told_from_one_that_is_only_gone_on_with(done, tmp_path, capsys):
    few = dataclasses.replace(SETTINGS.controller, generations=2, cap_min=30)
    of = DreamSettings(temperature=1.2, max_steps=30, done=done)
    settings = dataclasses.replace(SETTINGS, controller=few, dream=of)
    for name, done_bias in (("ends", -1.2), ("endless", -30)):
        evolve(Run(tmp_path / name), InDream(settings, small_dream(done_bias, drawn_weight(settings)), POLICY))
        assert ("lasted to its end" in capsys.readouterr().out) == (name == "endless")
        table = table_of(Run(tmp_path / name))
        assert (max(table["mean"]) < 29) == (name == "ends")
        if done == "expected":
            assert table["steps"] == [6 * 3 * 30, 2 * 6 * 3 * 30]


class Slope:
    """An arena where C gets better without end, so that CMA-ES's steps grow until it cannot go on."""

    name, population = "real", 8
    settings = dataclasses.replace(SETTINGS, controller=dataclasses.replace(SETTINGS.controller, weight_decay=0.0))
    policy = Policy(("z",), bias=False, latent_size=3, memory=1)

    def __init__(self, generations=50):
        self.generations = generations

    def cap(self, last_length):
        return 1

    def __call__(self, candidates, generation, last_length):
        return Outcome(candidates[:, :1].astype("float64"), np.ones((len(candidates), 1), int))


def test_where_cma_es_cannot_go_on_it_says_so_and_begins_anew_around_its_mean(tmp_path, capsys):
    straight = Run(tmp_path / "straight")
    evolution = evolve(straight, Slope())
    said = [line for line in capsys.readouterr().out.splitlines() if "could not go on" in line]
    sigma = table_of(straight)["sigma"]
    assert len(said) == sum(after < before / 10 for before, after in itertools.pairwise(sigma)) >= 2
    assert said[0].strip() == "CMA-ES could not go on (tolfacupx): it begins anew around its mean, sigma 0.500"
    assert 0 < evolution.restarted < evolution.generation == 50 and evolution.mean[0] > 1000
    for further in (0, 1, 5):  # killed right before it begins anew, and later
        broken = Run(tmp_path / str(further))
        evolve(broken, Slope(evolution.restarted + further))
        resumed = evolve(broken, Slope())
        np.testing.assert_array_equal(resumed.mean, evolution.mean)
        assert (resumed.sigma, resumed.restarted) == (evolution.sigma, evolution.restarted)


TWICE = Experiment(
    env=Env(games=3),
    vae=Vae(z=4),
    rnn=Rnn(hidden=8, mixtures=2),
    dream=DreamSettings(max_steps=30),
    controller=Controller(
        population=4, episodes=2, generations=3, real_generations=3, real_population=5, real_episodes=3,
        trial_every=2, trial_episodes=2, sigma=0.5, real_sigma=0.3, seed=4,
    ),
    hardware=Hardware(precision="float32"),
)  # fmt: skip
"""First in the dream, then in the real world."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The dream and the agent of those untrained networks, which are the same in every run: compiling takes seconds."""
    run = begun(tmp_path_factory.mktemp("untrained"))
    return load_dream(TWICE, run), load_agent(TWICE, run)


@pytest.fixture
def fake(monkeypatch, compiled):
    """The real world is a fake one, whose episodes pay most for going right."""
    monkeypatch.setitem(WORLDS, "doom", fake_world())
    monkeypatch.setattr("controller.training.load_dream", lambda settings, run: compiled[0])
    monkeypatch.setattr("controller.real.load_agent", lambda settings, run: compiled[1])


def asked(**changes) -> Experiment:
    """Those settings, with more or other things asked of C."""
    return dataclasses.replace(TWICE, controller=dataclasses.replace(TWICE.controller, **changes))


def begun(path) -> Run:
    run = Run(path)
    save_untrained(run, TWICE)
    return run


def kill(monkeypatch, at: int) -> None:
    """A generation in the real world is interrupted."""
    original = InReal.__call__

    def call(arena, candidates, generation, last_length):
        if generation == at:
            raise KeyboardInterrupt
        return original(arena, candidates, generation, last_length)

    monkeypatch.setattr(InReal, "__call__", call)


def table_of(run: Run, name: str = "controller.csv") -> dict[str, list[float]]:
    """The rows of a metrics file, without what is measured in seconds."""
    table = read_metrics(run.metrics / name)
    return {key: table[key].tolist() for key in table if key not in ("seconds", "elapsed", "steps_per_second")}


def test_first_the_dream_then_the_real_world(fake, tmp_path):
    run = begun(tmp_path)
    figures = evolve_all(TWICE, run)
    controller = load_controller(run.controller, policy_from(TWICE))
    assert controller.generation == 6
    rows, trials = read_metrics(run.metrics / "controller.csv"), read_metrics(run.metrics / "controller_real.csv")
    assert rows["step"].tolist() == [1, 2, 3, 4, 5, 6] and rows["real"].tolist() == [0, 0, 0, 1, 1, 1]
    assert trials["step"].tolist() == [2, 3, 4, 6]  # every second, and what each world ends with
    assert read_metrics(run.metrics / "controller_both.csv")["step"].tolist() == [2, 3]  # in the dream
    for table, column in itertools.product((rows, trials), ("elapsed", "steps")):
        assert np.all(np.diff(table[column]) > 0), "counted on from the dream"
    dreamt = Evolution.load(saved(run, "dream"))
    real = Evolution.load(saved(run, "real"))
    assert (dreamt.generation, dreamt.before, real.generation, real.before) == (3, 0, 3, 3)
    np.testing.assert_array_equal(real.mean, controller.mean)
    assert dreamt.strategy.popsize == 4 and real.strategy.popsize == 5
    assert figures["dream_steps"] == dreamt.steps == rows["steps"][2]
    assert figures["dream_steps"] + figures["real_steps"] == real.steps == rows["steps"][-1]
    for name, arena in (("dream", 0), ("real", 1)):
        seconds = rows["seconds"][rows["real"] == arena].sum()
        assert figures[f"{name}_seconds"] == round(seconds, 1)
        assert figures[f"{name}_steps_per_second"] == pytest.approx(figures[f"{name}_steps"] / seconds, abs=1)


def test_the_real_world_begins_with_what_the_dream_left(fake, tmp_path):
    run = begun(tmp_path)
    evolve_all(asked(real_sigma=1e-6), run)
    dreamt = Evolution.load(saved(run, "dream")).mean
    assert np.abs(dreamt).max() > 0.1
    np.testing.assert_allclose(load_controller(run.controller, policy_from(TWICE)).mean, dreamt, atol=1e-4)


def test_weights_of_latents_that_v_leaves_unused_stay_0_in_both_worlds_and_where_it_goes_on(
    fake, tmp_path, monkeypatch
):
    run, used, policy = begun(tmp_path), np.arange(TWICE.vae.z) % 2 > 0, policy_from(TWICE)
    monkeypatch.setattr(Latents, "active", lambda latents: used)
    evolve_all(asked(active_only=True), run)
    unused = policy.seeing(used) == 0
    assert unused.sum() == used.size // 2
    for more in (0, 2):
        evolve_all(asked(active_only=True, real_generations=3 + more), run)
        mean = load_controller(run.controller, policy).mean
        assert not mean[unused].any() and mean[~unused].all()


def test_what_is_searched_for_along_components_goes_on_along_the_same(fake, tmp_path, monkeypatch):
    """From the dream into the real world, where the search is around what the dream left, and after an interruption."""
    of, run = asked(components=2), begun(tmp_path)
    evolve_all(of, run)
    dreamt, real = (Evolution.load(saved(run, name)) for name in ("dream", "real"))
    assert dreamt.space.size == real.space.size == TWICE.vae.z + 2 * 2
    np.testing.assert_array_equal(real.space.origin, dreamt.mean)
    np.testing.assert_array_equal(real.mean, load_controller(run.controller, policy_from(TWICE)).mean)
    monkeypatch.setattr("controller.components.MOMENTS", 1)  # what would be found now is something else
    evolve_all(asked(components=2, real_generations=4), run)
    np.testing.assert_array_equal(Evolution.load(saved(run, "real")).space.basis, real.space.basis)


@pytest.mark.parametrize("at", [4, 5])
def test_killed_in_the_real_world_and_resumed_comes_to_the_same_end(fake, tmp_path, monkeypatch, at):
    straight, broken = begun(tmp_path / "straight"), begun(tmp_path / "broken")
    figures = evolve_all(TWICE, straight)
    with monkeypatch.context() as patch:
        kill(patch, at)
        for _ in range(2):  # the second time it is killed at once, and nothing of what was reached is lost
            with pytest.raises(KeyboardInterrupt):
                evolve_all(TWICE, broken)
            assert table_of(broken)["step"] == list(range(1, at))
            assert load_controller(broken.controller, policy_from(TWICE)).generation == at - 1
    again = evolve_all(TWICE, broken)
    assert [again[key] for key in ("generations", "dream_steps", "real_steps")] == [
        figures[key] for key in ("generations", "dream_steps", "real_steps")
    ]
    for name in ("controller.csv", "controller_real.csv"):
        assert table_of(straight, name) == table_of(broken, name)
    ends = [load_controller(run.controller, policy_from(TWICE)) for run in (straight, broken)]
    np.testing.assert_array_equal(ends[0].mean, ends[1].mean)
    assert straight.controller.read_bytes() == broken.controller.read_bytes()
    before = broken.controller.read_bytes(), table_of(broken)
    evolve_all(TWICE, broken)  # nothing is left to do
    assert (broken.controller.read_bytes(), table_of(broken)) == before


def test_more_generations_can_be_asked_for_in_the_real_world_but_no_more_in_the_dream_before_it(fake, tmp_path):
    straight, longer = begun(tmp_path / "straight"), begun(tmp_path / "longer")
    evolve_all(asked(trial_every=0), longer)
    evolve_all(asked(trial_every=0, real_generations=5), longer)
    evolve_all(asked(trial_every=0, real_generations=5), straight)
    assert table_of(longer) == table_of(straight) and len(table_of(longer)["step"]) == 8
    before = longer.controller.read_bytes()
    with pytest.raises(Problem, match=r"real world after generation 3.*controller\.generations=3.*evolution_real"):
        evolve_all(asked(trial_every=0, generations=4), longer)
    assert longer.controller.read_bytes() == before and len(table_of(longer)["step"]) == 8
    for fewer in ({"generations": 2}, {"real_generations": 4}):
        with pytest.raises(Problem, match=r"5 generations, more than the 4 that|real world after generation 3"):
            evolve_all(asked(trial_every=0, **{"real_generations": 5, **fewer}), longer)
    assert longer.controller.read_bytes() == before
    saved(longer, "real").unlink()
    evolve_all(asked(trial_every=0, generations=4), longer)
    assert table_of(longer)["real"] == [0, 0, 0, 0, 1, 1, 1]


def test_what_went_on_in_the_real_world_is_not_replaced_by_what_dreamt_only(fake, tmp_path):
    """As the last iteration does that is made one of more: only the last goes on in the real world."""
    run = begun(tmp_path)
    evolve_all(TWICE, run)
    before = run.controller.read_bytes(), table_of(run), table_of(run, "controller_real.csv")
    with pytest.raises(Problem, match=r"no more iterations.*evolution_real"):
        evolve_all(asked(real_generations=0), run)
    assert (run.controller.read_bytes(), table_of(run), table_of(run, "controller_real.csv")) == before
    saved(run, "real").unlink()
    evolve_all(asked(real_generations=0), run)
    assert table_of(run)["real"] == [0, 0, 0]


def test_no_more_generations_where_the_next_iteration_has_gone_on(fake, tmp_path):
    run = begun(tmp_path)
    evolve_all(asked(real_generations=0), run)
    before = run.controller.read_bytes()
    write_json(run.at(2).record("extract"), {"complete": False, "settings": {}})
    with pytest.raises(
        Problem, match=r"iterations/2 was recorded with the controller .* after 3 generations in .*, not 4"
    ):
        evolve_all(asked(real_generations=0, generations=4), run)
    with pytest.raises(Problem, match="after 0 generations in the real world, not 3"):  # as one that is made the last
        evolve_all(TWICE, run)
    assert run.controller.read_bytes() == before
    evolve_all(asked(real_generations=0), run)
    assert run.controller.read_bytes() == before


def test_only_in_the_real_world(fake, tmp_path):
    run = begun(tmp_path)
    figures = evolve_all(asked(generations=0), run)
    assert set(figures) == {"generations", "real_steps", "real_seconds", "real_steps_per_second"}
    assert table_of(run)["real"] == [1, 1, 1] and not saved(run, "dream").exists()


def test_a_later_iteration_goes_on_from_the_last_ones_controller(fake, tmp_path):
    run = begun(tmp_path)
    evolve_all(TWICE, run)
    before = load_controller(run.controller, policy_from(TWICE)).mean
    later = begun(run.at(2).path)
    evolve_all(asked(sigma=1e-6, real_sigma=1e-6), later)
    np.testing.assert_allclose(load_controller(later.controller, policy_from(TWICE)).mean, before, atol=1e-4)
    assert np.abs(before).max() > 0.1 and table_of(later)["step"] == [1, 2, 3, 4, 5, 6]


def test_all_candidates_drive_on_the_same_tracks(fake, tmp_path):
    """Whose seeds change with every generation, and are among those that extraction uses."""
    run, policy = begun(tmp_path), policy_from(TWICE)
    candidates = np.random.default_rng(0).normal(size=(4, policy.size)).astype("float32")
    with RealWorld(asked(real_episodes=5), run) as world:
        asked_for = []
        play = world.play

        def listen(parameters, seeds, patience):
            asked_for.append(seeds)
            return play(parameters, seeds, patience=patience)

        world.play = listen
        tried, arena = [], InReal(world)
        for arena.seed, generation in ((0, 1), (0, 1), (0, 2), (1, 1)):
            tried.append(arena(candidates, generation, None))
        tracks = [np.reshape(seeds, (4, 5)) for seeds in asked_for]
        for seeds, (_, lengths) in zip(tracks, tried, strict=True):
            assert (seeds == seeds[0]).all() and len(set(seeds[0].tolist())) == 5 and seeds.max() < SEEDS
            np.testing.assert_array_equal(lengths, length(seeds))
        assert (tracks[0] == tracks[1]).all()
        assert len({tuple(seeds[0].tolist()) for seeds in tracks}) == 3
        alone = [play(candidate, tracks[0][0].tolist()).returns for candidate in candidates]
    np.testing.assert_array_equal(tried[0].returns, alone)
    assert len(np.unique(tried[0].returns - tried[0].returns[:1])) > 1, "candidates that all do the same prove little"


def test_the_random_numbers_of_agents_do_not_depend_on_the_games(fake, tmp_path):
    """A generation in slices of other sizes."""
    run, policy = begun(tmp_path), policy_from(TWICE)
    candidates = np.random.default_rng(0).normal(size=(4, policy.size)).astype("float32")
    tried = []
    for games in (2, 7, 50):
        with RealWorld(dataclasses.replace(TWICE, env=Env(games=games)), run) as world:
            tried.append(InReal(world)(candidates, 1, None).returns)
    np.testing.assert_array_equal(tried[0], tried[1])
    np.testing.assert_array_equal(tried[0], tried[2])


def test_weights_of_another_shape_are_refused(tmp_path):
    evolution = Evolution(everywhere(POLICY.size), 0.1, 4, seed=0)
    save_controller(tmp_path / "controller.h5", POLICY, evolution)
    assert load_controller(tmp_path / "controller.h5", POLICY).mean.shape == (20,)
    with pytest.raises(Problem, match=r"controller\.h5 holds a controller of .*\(20,\)"):
        load_controller(tmp_path / "controller.h5", Policy(("z", "h"), False, 4, 8))
    with pytest.raises(Problem, match=r"controller\.h5 holds a controller of .*hidden.*0, \(20,\)"):
        load_controller(tmp_path / "controller.h5", Policy(("z", "c", "h"), False, 4, 8, hidden=1))
    (tmp_path / "foreign.h5").write_bytes(b"something else")
    with pytest.raises(Problem, match=r"foreign\.h5 is not a controller"):
        load_controller(tmp_path / "foreign.h5", POLICY)
    with pytest.raises(Problem, match=r"none\.h5 is missing: run `python -m controller` first"):
        load_controller(tmp_path / "none.h5", POLICY)
