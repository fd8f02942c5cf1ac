"""The directions that C is searched for in: principal components of what M remembers."""

import numpy as np
import pytest

from controller.components import memories, principal_components, search_basis
from controller.policy import Policy, policy_from
from experiment.run import Run
from experiment.schema import Controller, Experiment, Rnn, Vae
from rnn.model import load_rnn
from tests.fake import save_untrained
from vae.latents import Latents


def test_components_are_those_that_vary_most_and_vary_by_1():
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    spread = np.array([0.1, 5, 0, 2, 0.5, 20])
    states = generator.normal(size=(50_000, 6)) * spread @ axes.T + 7
    found = principal_components(states.astype("float32"), 3)
    assert found.shape == (6, 3) and found.dtype == np.float32
    np.testing.assert_allclose(np.cov(states @ found, rowvar=False), np.eye(3), atol=1e-3)
    expected = (axes / np.where(spread, spread, 1))[:, [5, 1, 3]]
    np.testing.assert_allclose(found * np.sign((found * expected).sum(axis=0)), expected, atol=0.01)
    assert principal_components(states, 100).shape == (6, 5), "nothing goes on along the sixth"


@pytest.mark.parametrize("hidden", [0, 2])
def test_a_policy_sees_its_inputs_along_the_directions_and_all_else_as_it_is(hidden):
    policy = Policy(("z", "h"), True, latent_size=3, memory=4, actions=2, hidden=hidden)
    generator = np.random.default_rng(0)
    directions, z, h, c = (generator.normal(size=shape).astype("float32") for shape in ((4, 2), (1, 3), (1, 4), (1, 4)))
    basis = policy.basis({"h": directions})
    narrow = Policy(("z", "h"), True, latent_size=3, memory=2, actions=2, hidden=hidden)  # sees the directions alone
    assert basis.shape == (policy.size, narrow.size)
    numbers = generator.normal(size=(1, narrow.size)).astype("float32")
    expected = narrow.act(numbers, z, h @ directions, c)
    np.testing.assert_allclose(policy.act(numbers @ basis.T, z, h, c), expected, rtol=1e-4)


@pytest.mark.parametrize("inputs", [["z", "c", "h"], ["h"]])
@pytest.mark.parametrize("active_only", [False, True])
def test_c_is_searched_for_along_the_components_of_each_input(tmp_path, monkeypatch, inputs, active_only):
    wanted = Controller(inputs=inputs, components=2, active_only=active_only)
    settings = Experiment(vae=Vae(z=4), rnn=Rnn(hidden=8, mixtures=2), controller=wanted)
    run, policy = Run(tmp_path), policy_from(settings)
    save_untrained(run, settings, spread=(1, 1, 1, 1))
    monkeypatch.setattr(Latents, "active", lambda latents: np.arange(4) > 0)
    basis = search_basis(settings, run, policy)
    sizes = {"z": 4, "c": 8, "h": 8}
    latents = 4 - active_only
    kept = {"z": latents, "c": 2, "h": 2}
    assert basis.shape == (sum(sizes[name] for name in inputs), sum(kept[name] for name in inputs))
    states = memories(settings, Latents.load(run.latents), load_rnn(run, settings))
    row = column = 0
    for name in inputs:
        block = basis[row : row + sizes[name], column : column + kept[name]]
        if name == "z":
            np.testing.assert_array_equal(block, np.eye(4)[:, active_only:])
        else:
            np.testing.assert_allclose(np.cov(states[name] @ block, rowvar=False, bias=True), np.eye(2), atol=1e-3)
        row, column = row + sizes[name], column + kept[name]
    assert np.count_nonzero(basis) <= latents + 2 * 8 * 2


def test_without_them_every_weight_is_searched_for_by_itself(tmp_path):
    assert search_basis(Experiment(), Run(tmp_path), policy_from(Experiment())) is None
