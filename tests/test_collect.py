"""Rollouts that networks play: random ones, and the last iteration's agent with noise."""

import dataclasses
from functools import partial

import numpy as np
import pytest

from controller.agent import AgentPlayer, load_agent
from controller.collect import NoisyAgent, RandomNetworks, make_player
from envs.episodes import Moment, moments
from envs.worlds import WORLDS
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Controller, Data, Env, Experiment, Extract, Hardware, Rnn, Vae, Workers
from extract.collect import check, collect, plan
from extract.rollouts import Episode, Rollouts
from tests.fake import FakeGames, fake_world, save_agent, write_shard

SETTINGS = Experiment(
    env=Env(name="carracing", max_steps=1000),
    extract=Extract(policy="networks", episodes=6, shard_episodes=3, min_steps=2),
    data=Data(val_ratio=0.5),
    vae=Vae(z=16),  # multiples of 16: a row is then rounded the same in any batch
    rnn=Rnn(hidden=16, mixtures=2),
    controller=Controller(inputs=["z", "h"], bias=True),
    workers=Workers(processes=1),
    hardware=Hardware(precision="float32"),
)
SEEDS = [6, 13, 4, 20]
WORLD = fake_world("carracing")


def played(player, games: int, seeds: list[int] = SEEDS) -> dict[int, np.ndarray]:
    """The raw actions of every seed, (T, 3)."""
    steps = [*moments(WORLD, FakeGames(games, 3), player, iter(seeds))]
    together = Moment(*(np.concatenate(parts) for parts in zip(*steps, strict=True)))
    return {seed: together.raw[together.episodes == episode] for episode, seed in enumerate(seeds)}


def same(one: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> bool:
    """But for rounding: without AVX-512, a processor's products of more rows are rounded otherwise."""
    return all(np.allclose(one[seed], other[seed], atol=1e-3) for seed in one)


@pytest.fixture(scope="module")
def random_networks() -> dict[int, np.ndarray]:
    return played(RandomNetworks(SETTINGS, 2, seed=0), 2)


def test_random_networks_play_the_same_in_whatever_games(random_networks):
    again = RandomNetworks(SETTINGS, 4, seed=0)
    assert same(random_networks, played(again, 4))
    assert same(random_networks, played(again, 4, SEEDS[::-1])), "whoever has played before"


def test_random_networks_differ_from_shard_to_shard_and_from_episode_to_episode(random_networks):
    """V and M with the shard, C with the episode."""
    elsewhere = dataclasses.replace(SETTINGS, extract=dataclasses.replace(SETTINGS.extract, seed=1))
    players = [RandomNetworks(SETTINGS, 4, seed=0), RandomNetworks(SETTINGS, 4, 1), RandomNetworks(elsewhere, 4, 0)]
    kernels = [player.agent.rnn.kernel.numpy() for player in players]
    assert len({kernel.tobytes() for kernel in kernels}) == 3
    for player in players:
        player.begin(np.arange(4), np.arange(4), np.array(SEEDS))
        np.testing.assert_array_equal(player.parameters, players[0].parameters)
    assert len(np.unique(players[0].parameters.round(6), axis=0)) == len(SEEDS)
    spreads = np.abs(players[0].parameters).mean(axis=1)
    assert spreads.max() > 1.5 * spreads.min()  # a scale of its own
    assert not same(random_networks, played(players[1], 4))


def test_shards_of_other_networks_are_not_gone_on_with(tmp_path):
    """Recorded with another C: the rest is not recorded with this one."""
    (task, _) = plan(SETTINGS, tmp_path)
    steps = np.arange(3)
    nothing = np.zeros(3, np.float32)
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    write_shard(
        task.path, [Episode(frames, np.zeros((3, 3), np.float32), nothing, steps < 0, steps == 2, 7)], task.origin
    )
    check(task)
    other = dataclasses.replace(SETTINGS, controller=Controller(inputs=["z"], bias=True))
    with pytest.raises(Problem, match=r"recorded with controller\.inputs=.*, not \['z'\]"):
        check(plan(other, tmp_path)[0])


def test_random_networks_do_something():
    """Numbers in [-1, 1]; some controllers do nearly nothing, others a lot."""
    actions = played(RandomNetworks(SETTINGS, 8, seed=0), 8, list(range(6, 216, 7)))
    raw = np.concatenate(list(actions.values()))
    assert raw.shape[1] == 3 and np.abs(raw).max() <= 1
    assert np.abs(raw).mean() > 0.02 and raw.std(axis=0).min() > 0.02


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A first iteration, with a controller."""
    return save_agent(Run(tmp_path_factory.mktemp("run")), SETTINGS)


@pytest.fixture(scope="module")
def agent(run):
    return load_agent(SETTINGS, run)


def test_an_agent_without_noise_is_the_agent_itself(agent):
    parameters = np.random.default_rng(0).normal(size=agent.policy.size)
    plain = played(AgentPlayer(agent, 2, parameters), 2)
    assert same(plain, played(NoisyAgent(agent, 2, parameters, noise=0.0), 2))
    assert np.abs(np.concatenate(list(plain.values()))).mean() > 0.1


def test_an_agents_noise_follows_from_the_seed(agent):
    parameters = np.random.default_rng(0).normal(size=agent.policy.size)
    noisy = played(NoisyAgent(agent, 2, parameters, noise=0.3), 2)
    again = NoisyAgent(agent, 3, parameters, noise=0.3)
    assert same(noisy, played(again, 3)) and same(noisy, played(again, 3, SEEDS[::-1]))
    louder = played(NoisyAgent(agent, 2, parameters, noise=0.6), 2)
    assert not any(np.array_equal(noisy[seed], louder[seed]) for seed in SEEDS)


def test_an_agents_noise_is_of_the_size_that_is_asked_for(agent):
    """Of an agent that does nothing by itself."""
    seeds = list(range(6, 1406, 7))  # 200 episodes of 7 steps
    raw = played(NoisyAgent(agent, 20, np.zeros(agent.policy.size), noise=0.2), 20, seeds)
    first = np.stack([raw[seed][0] for seed in seeds])  # (200, 3)
    assert first.std() == pytest.approx(0.2, rel=0.15) and first.mean() == pytest.approx(0, abs=0.04)
    np.testing.assert_allclose(np.corrcoef(first.T) - np.eye(3), 0, atol=0.3)
    later = np.stack([raw[seed][-1] for seed in seeds])
    correlation = np.mean(first * later) / first.std() / later.std()
    assert correlation == pytest.approx(np.exp(-6 / 10), abs=0.12)  # six steps on, of ten that are remembered


def test_networks_record_what_they_played(monkeypatch, tmp_path):
    monkeypatch.setitem(WORLDS, "carracing", WORLD)
    other = Run(tmp_path)
    collect(SETTINGS, other, partial(make_player, other))
    rollouts = Rollouts(other.rollouts)
    episode = rollouts.episode(1)
    expected = played(RandomNetworks(SETTINGS, 2, seed=0), 2, [episode.seed, 13])
    np.testing.assert_allclose(episode.actions, expected[episode.seed], atol=1e-3)
    assert rollouts.episodes == 6


def test_a_later_iteration_records_what_the_last_ones_agent_does(run, agent, monkeypatch):
    monkeypatch.setitem(WORLDS, "carracing", WORLD)
    settings = dataclasses.replace(SETTINGS, extract=dataclasses.replace(SETTINGS.extract, policy="agent", noise=0.4))
    later = run.at(2)
    collect(settings, later, partial(make_player, later))
    episode = Rollouts(later.rollouts).episode(4)
    parameters = np.random.default_rng(0).normal(size=agent.policy.size)
    expected = played(NoisyAgent(agent, 2, parameters, noise=0.4), 2, [episode.seed, 13])
    np.testing.assert_allclose(episode.actions, expected[episode.seed], atol=1e-3)
