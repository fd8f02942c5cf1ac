"""The agent in many games at once: against a plain loop, in any batch, and in the real game."""

import numpy as np
import pytest

from controller.agent import Agent, AgentPlayer, recorded
from controller.policy import Policy
from controller.real import for_workers
from envs.actions import move
from envs.doom import DoomEnv
from envs.episodes import moments, play
from envs.worlds import WORLDS
from experiment.backend import keras
from experiment.schema import Env, Experiment, Hardware, Rnn, Workers
from rnn.model import MDNRNN, told_by
from vae.model import VAE

DOOM = WORLDS["doom"]
POLICY = Policy(("z", "c", "h"), bias=False, latent_size=8, memory=16)
SEEDS = [1_000_003, 1_000_001, 1_000_002, 1_000_007]
MAX_STEPS = 160


@pytest.fixture(scope="module")
def agent():
    """V and M with random weights, and M's done head as Doom's."""
    keras.utils.set_random_seed(0)
    rnn = MDNRNN(POLICY.latent_size, 1, POLICY.memory, 2, predict_done=True, told=move)
    rnn.kernel.assign(np.random.default_rng(1).normal(size=rnn.kernel.shape) * 0.5)
    return Agent(VAE(POLICY.latent_size), rnn, POLICY)


@pytest.fixture(scope="module")
def controllers():
    """One controller for each seed, (4, D)."""
    return np.random.default_rng(2).normal(size=(len(SEEDS), POLICY.size)).astype("float32")


@pytest.fixture(scope="module")
def played(agent, controllers):
    """All four episodes, each with its own controller, side by side in two games; and recorded."""
    games = DOOM.open(Env(max_steps=MAX_STEPS), 2)
    ended = []
    result = play(DOOM, games, AgentPlayer(agent, 2, controllers), SEEDS, ended.append)
    assert sum(ended) == len(SEEDS)
    yield games, lived(agent, games, controllers, SEEDS), result
    games.close()


def lived(agent, games, controllers, seeds):
    """The recordings of these episodes."""
    player = AgentPlayer(agent, 2, controllers)
    return recorded(moments(DOOM, games, player, iter(seeds)), player, len(seeds))


def plain_episode(agent, parameters, seed):
    """One episode by the definitions, one frame at a time, with numpy in float64: its return, raw actions, h and c."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    kernel, bias = (np.asarray(w, "float64") for w in (agent.rnn.kernel, agent.rnn.bias))
    noise = np.random.default_rng(seed)
    h = c = np.zeros(POLICY.memory)
    env = DoomEnv(MAX_STEPS)
    frame, _ = env.reset(seed=seed)
    raws, states, total, over, restart = [], [], 0.0, False, 1.0
    while not over:
        mu, logvar = (np.asarray(part, "float64")[0] for part in agent.vae.encode(frame[None]))
        z = mu + np.exp(logvar / 2) * noise.standard_normal(POLICY.latent_size, "float32")
        states.append((h, c))
        raw = np.tanh(parameters @ np.concatenate([z, c, h]))
        executed = -1 if raw < -1 / 3 else 1 if raw > 1 / 3 else 0
        i, j, f, o = np.split(np.concatenate([z, [executed, restart], h]) @ kernel + bias, 4)
        c = c * sigmoid(f + 1) + sigmoid(i) * np.tanh(j)
        h = np.tanh(c) * sigmoid(o)
        frame, reward, terminated, truncated, _ = env.step({0: 0, -1: 1, 1: 2}[executed])
        raws.append(raw)
        total, over, restart = total + reward, terminated or truncated, 0.0
    env.close()
    return total, np.array(raws), *np.array(states).swapaxes(0, 1)


def test_the_batch_plays_as_a_plain_loop_does(agent, controllers, played):
    _, (recording, *_), result = played
    total, raws, h, c = plain_episode(agent, controllers[0].astype("float64"), SEEDS[0])
    assert result.returns[0] == result.lengths[0] == total == len(recording.raw) == recording.rewards.sum()
    np.testing.assert_allclose(recording.raw, raws, atol=1e-4)
    np.testing.assert_allclose(recording.h, h, atol=1e-3)
    np.testing.assert_allclose(recording.c, c, atol=1e-3)
    assert len(np.unique(np.round(raws))) > 1, "an agent that always does the same proves little"
    assert recording.frames.shape == (int(total), 64, 64, 3)
    assert recording.z.shape == (int(total), POLICY.latent_size)


def test_returns_do_not_depend_on_what_is_played_beside(agent, controllers, played):
    """Other games, in another order, and alone: the same, but for rounding on processors without AVX-512."""
    games, (first, *_), result = played
    order = [3, 0]
    again = lived(agent, games, controllers[order], [SEEDS[i] for i in order])
    np.testing.assert_array_equal([each.rewards.sum() for each in again], result.returns[order])
    np.testing.assert_allclose(again[1].z, first.z, atol=1e-5)
    (alone,) = lived(agent, games, controllers[0], SEEDS[:1])
    np.testing.assert_allclose(alone.raw, first.raw, atol=1e-5)


def some(rows: int, policy: Policy, seed: int = 0) -> dict[str, np.ndarray]:
    """Arguments of Agent.step, by name, in their order."""
    rng = np.random.default_rng(seed)
    return {
        "frames": rng.integers(0, 255, (rows, 64, 64, 3)).astype("uint8"),
        "noise": rng.standard_normal((rows, policy.latent_size), "float32"),
        "parameters": rng.normal(size=(rows, policy.size)).astype("float32") * 0.2,
        "nudge": np.zeros((rows, policy.actions), "float32"),
        "restart": np.zeros(rows, "float32"),
        "h": rng.normal(size=(rows, policy.memory)).astype("float32"),
        "c": rng.normal(size=(rows, policy.memory)).astype("float32"),
    }


def test_what_m_is_told_follows_the_setting(agent):
    """M fed the raw tanh is another agent than M fed the executed action."""
    rnn = MDNRNN(POLICY.latent_size, 1, POLICY.memory, 2, predict_done=True)
    rnn.set_weights(agent.rnn.get_weights())
    raw = Agent(agent.vae, rnn, POLICY)
    arguments = some(3, POLICY).values()
    same, other = agent.step(*arguments), raw.step(*arguments)
    np.testing.assert_array_equal(same[0], other[0])
    assert not np.allclose(same[2], other[2])


CARRACING = Policy(("z", "h"), True, 8, 16, actions=3)


@pytest.mark.parametrize("action", ["executed", "raw"])
@pytest.mark.parametrize("predict_done", [True, False])
def test_a_step_with_three_actions_is_that_of_the_formulas(agent, predict_done, action):
    """With a nudge, and with games that have just begun beside others."""
    told = told_by(Experiment(env=Env(name="carracing"), rnn=Rnn(action=action)))
    rnn = MDNRNN(8, 3, 16, 2, predict_done, told=told)
    several = Agent(agent.vae, rnn, CARRACING)
    given = some(4, CARRACING)
    given["restart"][[0, 2]] = 1
    given["h"][[0, 2]] = given["c"][[0, 2]] = 0
    given["nudge"][:] = np.random.default_rng(1).normal(size=(4, 3))
    raw, z, h, c = several.step(*given.values())
    mu, logvar = (np.asarray(part) for part in agent.vae.encode(given["frames"]))
    np.testing.assert_allclose(z, mu + np.exp(logvar / 2) * given["noise"], atol=1e-5)
    acted = CARRACING.act(given["parameters"], z, given["h"], given["c"]).numpy()
    expected = np.clip(acted + given["nudge"], -1, 1)
    np.testing.assert_allclose(raw, expected, atol=1e-5)
    assert np.abs(expected - acted).max() > 0.1 and (np.abs(expected) == 1).any()
    told = WORLDS["carracing"].execute(expected) if action == "executed" else expected
    inputs = np.concatenate([z, told, given["restart"][:, None]] if predict_done else [z, told], axis=1)
    for got, state in zip((h, c), rnn.step(inputs, given["h"], given["c"]), strict=True):
        np.testing.assert_allclose(got, state, atol=1e-5)


def test_an_agent_that_sees_only_z_does_without_m(agent):
    """M is not run: its state stays as it was, and what it is made of does not matter."""
    blind = Policy(("z",), True, 8, 16, hidden=5)
    alone = Agent(agent.vae, agent.rnn, blind)
    given = some(3, blind)
    raw, z, h, c = alone.step(*given.values())
    np.testing.assert_allclose(raw, blind.act(given["parameters"], z, None, None), atol=1e-6)
    for name, state in (("h", h), ("c", c)):
        np.testing.assert_array_equal(state, given[name])


def test_a_lone_game_is_played_as_beside_others(agent):
    given = some(2, POLICY)
    together = agent.step(*given.values())
    alone = agent.step(*(part[:1] for part in given.values()))
    for one, two in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, two[:1])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, 1), ({"processes": 2}, 4), ({"processes": 3}, 2), ({"processes": 20}, 1), ({"backend": "ray"}, 1)],
)
def test_workers_share_the_threads(monkeypatch, settings, expected):
    """Of eight; each taking all of them, the processes of a large machine would wait for one another."""
    monkeypatch.setattr("controller.real.thread_count", lambda: 8)
    assert for_workers(Experiment(workers=Workers(**settings))).hardware.threads == expected
    asked = Experiment(workers=Workers(**settings), hardware=Hardware(threads=5))
    assert for_workers(asked).hardware.threads == 5
