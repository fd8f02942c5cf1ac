"""What a run announces: estimates follow the amounts, the fixed costs and the machine; lines fit a terminal."""

import pytest

from envs.worlds import world_of
from experiment import estimate as module
from experiment.__main__ import WIDTH, plan_line
from experiment.config import load_config
from experiment.estimate import FIXED, REFERENCE_FLOPS, REFERENCE_LOOP, estimate
from tests.test_config import DOOM

CONFIGS = DOOM.parent
WORLDS = ("doom", "carracing", "breakout", "coinrun")


@pytest.fixture
def machine(monkeypatch):
    """machine(name, product, loop): a machine of so many times the reference's product and loop."""

    def pretend(name: str = "(AVX-512)", product: float = 1.0, loop: float = 1.0, kind: int = module.FLOAT32) -> None:
        monkeypatch.setattr(module, "processor_name", lambda: name)
        monkeypatch.setattr(module, "matmul_flops", lambda: product * REFERENCE_FLOPS[kind])
        monkeypatch.setattr(module, "loop_seconds", lambda: loop * REFERENCE_LOOP)
        monkeypatch.setattr(module, "core_count", lambda: 2)

    pretend()
    return pretend


def seconds(world: str, *overrides: str, preset: str = "quick") -> dict[str, float]:
    settings = load_config(CONFIGS / f"{world}.yaml", preset, overrides)
    return {stage: lasts for stage, (_, lasts) in estimate(settings).items()}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("preset", ["quick", "laptop", "paper"])
def test_every_stage_takes_at_least_its_fixed_costs(world, preset, machine):
    for stage, lasts in seconds(world, preset=preset).items():
        assert lasts > FIXED[stage]


def test_a_faster_product_speeds_networks_and_a_faster_core_the_rest(machine):
    before = seconds("doom", preset="laptop")
    machine(product=2)
    networks = seconds("doom", preset="laptop")
    assert networks["vae"] < 0.6 * before["vae"] and networks["extract"] == before["extract"]
    machine(loop=2)
    slower = seconds("doom", preset="laptop")
    assert slower["extract"] == pytest.approx(2 * before["extract"])
    assert slower["vae.encode"] - before["vae.encode"] == pytest.approx(FIXED["vae.encode"])


def test_recording_takes_longer_where_networks_play(machine):
    """Doom's random episodes are recorded in a game that is not even looked at; in one with V and M no faster than C is tried."""
    settings = load_config(CONFIGS / "doom.yaml", "laptop", ["iterations=2", "repeat.episodes=1000"])
    rates = world_of(settings).rates
    again = estimate(settings, 2)["extract"][1] - FIXED["extract"]
    assert again == pytest.approx(1000 * rates.agent_episode / rates.agent)
    networks, held = (seconds("doom", f"extract.policy={policy}")["extract"] for policy in ("networks", "held"))
    assert networks - FIXED["extract"] == pytest.approx((held - FIXED["extract"]) * rates.extract / rates.agent)


def test_what_is_not_done_again_takes_no_time(machine):
    settings = load_config(
        CONFIGS / "doom.yaml", "laptop", ["iterations=2", "repeat.episodes=1000", "repeat.vae_steps=0"]
    )
    of, rates = estimate(settings, 2), world_of(settings).rates
    assert of["vae"] == ("V stays as it is", 0)
    text, lasts = of["vae.encode"]
    assert text == f"encode some {1000 * rates.agent_episode:,} frames"
    assert lasts - FIXED["vae.encode"] == pytest.approx(1000 * rates.agent_episode / rates.encode[module.FLOAT32])


def test_dreams_that_do_not_end_take_their_whole_length(machine):
    begun, whole = (seconds("doom", "controller.trial_every=0", f"dream.done={done}") for done in ("drawn", "expected"))
    c, rates = load_config(DOOM, "quick").controller, world_of(load_config(DOOM)).rates
    steps = c.generations * c.population * c.episodes * 2100
    lasts = whole["controller"] - FIXED["controller"]
    assert begun["controller"] < whole["controller"] and lasts == pytest.approx(steps / rates.dream[module.FLOAT32])


def test_a_processor_is_judged_by_its_extensions_and_the_precision_asked_for(machine):
    plain = seconds("doom")["rnn"]
    machine("(AVX-512, AVX512_BF16)", kind=module.BF16)
    some = seconds("doom")["rnn"]
    machine("(AVX-512, AVX512_BF16, AMX)", kind=module.AMX)
    assert plain > some > seconds("doom")["rnn"]
    machine("(AVX-512, AVX512_BF16, AMX)")
    assert seconds("doom", "hardware.precision=float32")["rnn"] == plain


@pytest.mark.parametrize("world", WORLDS)
def test_the_plan_fits_a_terminal_and_says_generations(world, machine):
    for preset in ("quick", "laptop", "paper"):
        for stage, (text, _) in estimate(load_config(CONFIGS / f"{world}.yaml", preset)).items():
            lines = plan_line(stage, "12 days 23 h", text).splitlines()
            assert max(map(len, lines)) <= WIDTH
            if stage == "controller":
                assert "generations of " in text
    assert plan_line("in all", "5 min", "") == "  in all                      5 min"


def test_real_generations_are_named(machine):
    settings = load_config(CONFIGS / "carracing.yaml", "paper")
    assert estimate(settings)["controller"][0] == "evolve C: 1800 generations of 64 x 16 real episodes"
