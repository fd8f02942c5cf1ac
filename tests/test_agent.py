"""The agent in many games at once: against a plain loop, in any batch, and in the real game."""

import keras
import numpy as np
import pytest

from controller.agent import Agent, AgentPlayer, RandomPlayer, play
from controller.policy import LinearPolicy
from controller.real import to_action
from envs.doom import DoomEnv, DoomVector
from rnn.model import MDNRNN
from vae.model import VAE

POLICY = LinearPolicy(("z", "c", "h"), bias=False, latent_size=8, hidden=16)
SEEDS = [1_000_003, 1_000_001, 1_000_002, 1_000_007]
MAX_STEPS = 160


@pytest.fixture(scope="module")
def agent():
    """V and M with random weights, and M's done head as Doom's."""
    keras.utils.set_random_seed(0)
    rnn = MDNRNN(POLICY.latent_size, 1, POLICY.hidden, 2, predict_done=True)
    rnn.kernel.assign(np.random.default_rng(1).normal(size=rnn.kernel.shape) * 0.5)
    return Agent(VAE(POLICY.latent_size), rnn, POLICY)


@pytest.fixture(scope="module")
def controllers():
    """One controller for each seed, (4, D)."""
    return np.random.default_rng(2).normal(size=(len(SEEDS), POLICY.size)).astype("float32")


@pytest.fixture(scope="module")
def played(agent, controllers):
    """All four episodes, each with its own controller, side by side in two games; the first is recorded."""
    world = DoomVector(2, MAX_STEPS)
    player = AgentPlayer(agent, 2, controllers, SEEDS, record=[0])
    ended = []
    result = play(world, player, SEEDS, to_action, ended.append)
    assert sum(ended) == len(SEEDS)
    yield world, player, result
    world.close()


def plain_episode(agent, parameters, seed):
    """One episode by the definitions, one frame at a time, with numpy in float64: its return and raw actions."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    kernel, bias = (np.asarray(w, "float64") for w in (agent.rnn.kernel, agent.rnn.bias))
    noise = np.random.default_rng(seed)
    h = c = np.zeros(POLICY.hidden)
    env = DoomEnv(MAX_STEPS)
    frame, _ = env.reset(seed=seed)
    raws, total, over, restart = [], 0.0, False, 1.0
    while not over:
        mu, logvar = (np.asarray(part, "float64")[0] for part in agent.vae.encode(frame[None]))
        z = mu + np.exp(logvar / 2) * noise.standard_normal(POLICY.latent_size, "float32")
        raw = np.tanh(parameters @ np.concatenate([z, c, h]))
        executed = -1 if raw < -1 / 3 else 1 if raw > 1 / 3 else 0
        i, j, f, o = np.split(np.concatenate([z, [executed, restart], h]) @ kernel + bias, 4)
        c = c * sigmoid(f + 1) + sigmoid(i) * np.tanh(j)
        h = np.tanh(c) * sigmoid(o)
        frame, reward, terminated, truncated, _ = env.step({0: 0, -1: 1, 1: 2}[executed])
        raws.append(raw)
        total, over, restart = total + reward, terminated or truncated, 0.0
    env.close()
    return total, np.array(raws)


def test_the_batch_plays_as_a_plain_loop_does(agent, controllers, played):
    _, player, result = played
    recording = player.recording(0)
    total, raws = plain_episode(agent, controllers[0].astype("float64"), SEEDS[0])
    assert result.returns[0] == total == len(recording.raw)
    np.testing.assert_allclose(recording.raw, raws, atol=1e-4)
    assert len(np.unique(np.round(raws))) > 1, "an agent that always does the same proves little"
    assert recording.frames.shape == (int(total), 64, 64, 3)
    assert recording.z.shape == (int(total), POLICY.latent_size)


def test_returns_do_not_depend_on_what_is_played_beside(agent, controllers, played):
    """Other games, in another order, and alone: the same to the last bit."""
    world, player, result = played
    order = [3, 0]
    again = AgentPlayer(agent, 2, controllers[order], [SEEDS[i] for i in order], record=[1])
    returns = play(world, again, [SEEDS[i] for i in order], to_action).returns
    np.testing.assert_array_equal(returns, result.returns[order])
    np.testing.assert_array_equal(again.recording(1).z, player.recording(0).z)
    alone = AgentPlayer(agent, 2, controllers[0], SEEDS[:1], record=[0])
    play(world, alone, SEEDS[:1], to_action)
    np.testing.assert_array_equal(alone.recording(0).raw, player.recording(0).raw)


def test_lengths_are_the_games(played):
    _, _, result = played
    np.testing.assert_array_equal(result.lengths, result.returns)  # one reward a tic
    assert result.lengths.max() <= MAX_STEPS


def test_the_random_policy_draws_each_action_as_often(played):
    world, _, _ = played
    player = RandomPlayer(2, SEEDS)
    first = play(world, player, SEEDS, to_action).returns
    np.testing.assert_array_equal(first, play(world, RandomPlayer(2, SEEDS), SEEDS, to_action).returns)
    player.begin(np.array([0, 1]), np.array([0, 1]))
    drawn = np.concatenate([player.act(np.zeros((2, 1)), np.array([0, 1])) for _ in range(1500)])
    np.testing.assert_allclose([np.mean(drawn == action) for action in (-1, 0, 1)], 1 / 3, atol=0.04)  # 4.6 sigma


def test_what_m_is_told_follows_the_setting(agent, controllers):
    """M fed the raw tanh is another agent than M fed the executed action."""
    raw = Agent(agent.vae, agent.rnn, POLICY, action="raw")
    rng = np.random.default_rng(0)
    arguments = [rng.integers(0, 255, (3, 64, 64, 3)).astype("uint8"), np.zeros((3, 8), "float32"), controllers[:3]]
    arguments += [np.zeros(3, "float32"), *np.full((2, 3, 16), 0.1, "float32")]
    same, other = agent.step(*arguments), raw.step(*arguments)
    np.testing.assert_array_equal(same[0], other[0])
    assert not np.allclose(same[2], other[2])


def test_three_actions_without_a_done_head(agent):
    """CarRacing's shapes: raw actions (N, 3), no restart flag."""
    policy = LinearPolicy(("z", "h"), True, 8, 16, actions=3)
    several = Agent(agent.vae, MDNRNN(8, 3, 16, 2, predict_done=False), policy, action="raw")
    frames = np.zeros((2, 64, 64, 3), "uint8")
    state = np.zeros((2, 16), "float32")
    raw, z, h, _ = several.step(
        frames, state[:, :8], np.ones((2, policy.size), "float32"), np.ones(2, "float32"), state, state
    )
    assert (raw.shape, z.shape, h.shape) == ((2, 3), (2, 8), (2, 16))
