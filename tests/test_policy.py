"""C: parameter counts, and the batched product against a plain loop."""

import numpy as np
import pytest

from controller.policy import LinearPolicy
from experiment.problem import Problem

DOOM = LinearPolicy(("z", "c", "h"), bias=False, latent_size=64, hidden=512)
CARRACING = LinearPolicy(("z", "h"), bias=True, latent_size=32, hidden=256, actions=3)


def test_parameter_counts_are_the_papers():
    assert DOOM.size == 1088
    assert CARRACING.size == 867


@pytest.mark.parametrize("policy", [DOOM, CARRACING, LinearPolicy(("h", "z"), True, 3, 5)])
def test_each_row_is_played_by_its_own_controller(policy):
    rng = np.random.default_rng(0)
    rows = 7
    parameters = rng.normal(size=(rows, policy.size)).astype("float32") * 0.1
    seen = {"z": policy.latent_size, "h": policy.hidden, "c": policy.hidden}
    seen = {name: rng.normal(size=(rows, size)).astype("float32") for name, size in seen.items()}
    expected = []
    for n in range(rows):
        x = np.concatenate([seen[name][n] for name in policy.inputs]).astype("float64")
        weights = parameters[n, : policy.actions * len(x)].reshape(policy.actions, len(x))
        bias = parameters[n, policy.actions * len(x) :] if policy.bias else 0
        expected.append(np.tanh(weights @ x + bias))
    got = policy.act(parameters, seen["z"], seen["h"], seen["c"]).numpy()
    assert got.shape == ((rows,) if policy.actions == 1 else (rows, policy.actions))
    np.testing.assert_allclose(got.reshape(rows, -1), np.array(expected), atol=2e-6)


@pytest.mark.parametrize("inputs", [(), ("z", "x"), ("z", "z")])
def test_inputs_that_do_not_exist_are_refused(inputs):
    with pytest.raises(Problem, match=r"controller\.inputs"):
        LinearPolicy(inputs, False, 4, 4)
