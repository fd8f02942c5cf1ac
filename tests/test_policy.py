"""C: parameter counts, and the batched product against a plain loop."""

import numpy as np
import pytest

from controller.policy import Policy, policy_from
from experiment.backend import tf
from experiment.config import load_config
from experiment.schema import Controller, Env, Experiment, Rnn, Vae

DOOM = Policy(("z", "c", "h"), bias=False, latent_size=64, memory=512)
CARRACING = Policy(("z", "h"), bias=True, latent_size=32, memory=256, actions=3)
HIDDEN = Policy(("z",), bias=True, latent_size=32, memory=256, actions=3, hidden=40)
"""The paper's C for V alone with a hidden layer (table 1)."""


def test_parameter_counts_are_the_papers():
    assert DOOM.size == 1088
    assert CARRACING.size == 867
    assert HIDDEN.size == 32 * 40 + 40 + 40 * 3 + 3 == 1443
    assert Policy(("z",), True, 32, 256, actions=3).size == 99


def test_settings_make_the_policy():
    carracing = Experiment(
        env=Env(name="carracing", max_steps=1000),
        vae=Vae(z=32),
        rnn=Rnn(hidden=256),
        controller=Controller(inputs=["z", "h"], bias=True),
    )
    assert policy_from(carracing) == CARRACING
    assert policy_from(load_config("configs/doom.yaml")) == DOOM


def plain(policy: Policy, row: np.ndarray, x: np.ndarray) -> np.ndarray:
    """One controller by the definition, in float64: layer by layer W in row-major order, then the bias."""
    row = row.astype("float64")
    for outputs in [policy.hidden, policy.actions] if policy.hidden else [policy.actions]:
        weights, row = row[: outputs * len(x)].reshape(outputs, len(x)), row[outputs * len(x) :]
        bias, row = (row[:outputs], row[outputs:]) if policy.bias else (0, row)
        x = np.tanh(weights @ x + bias)
    assert not len(row)
    return x


@pytest.mark.parametrize(
    "policy",
    [
        DOOM,
        CARRACING,
        HIDDEN,
        Policy(("h", "z"), True, 3, 5),
        Policy(("z", "c"), False, 6, 9, actions=3, hidden=4),
        Policy(("z", "h", "c"), True, 4, 6, actions=1, hidden=5),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_each_row_is_played_by_its_own_controller(policy, compiled):
    rng = np.random.default_rng(0)
    rows = 7
    parameters = rng.normal(size=(rows, policy.size)).astype("float32") * 0.1
    seen = {"z": policy.latent_size, "h": policy.memory, "c": policy.memory}
    seen = {name: rng.normal(size=(rows, size)).astype("float32") for name, size in seen.items()}
    x = [np.concatenate([seen[name][n] for name in policy.inputs]).astype("float64") for n in range(rows)]
    assert len(x[0]) == policy.features
    expected = [plain(policy, parameters[n], x[n]) for n in range(rows)]
    act = tf.function(policy.act, jit_compile=True) if compiled else policy.act
    got = act(*(tf.constant(part) for part in (parameters, seen["z"], seen["h"], seen["c"]))).numpy()
    assert got.shape == ((rows,) if policy.actions == 1 else (rows, policy.actions))
    np.testing.assert_allclose(got.reshape(rows, -1), np.array(expected), atol=2e-6)
    assert np.ptp(got) > 0.1


def test_only_a_policy_that_sees_h_or_c_remembers():
    assert [Policy(inputs, False, 4, 4).remembers for inputs in (("z",), ("z", "h"), ("c",))] == [False, True, True]


def test_a_policy_can_be_kept_from_seeing_some_latents():
    hidden, seen = np.zeros(CARRACING.size), np.arange(32) < 5
    hidden[:864].reshape(3, 288)[:, 5:32] = 1
    np.testing.assert_array_equal(CARRACING.seeing(seen), 1 - hidden)
    assert DOOM.seeing(np.ones(64, bool)).all() and HIDDEN.seeing(seen).sum() == HIDDEN.size - 27 * 40
