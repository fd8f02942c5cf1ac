"""The real game as C sees it: what the shipped C does there is what `controller` does."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from controller.policy import load_controller, policy_from
from controller.real import RealWorld
from experiment.problem import Problem, UsageProblem
from experiment.run import find_run

STEPS = 40
NAMES = {"doom": "Doom", "carracing": "CarRacing"}


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_c_acts_as_in_the_controllers_own_games(name):
    """One game, and two side by side of which the second is compared: z, c and h, what C does, and what that brings."""
    run = find_run(name)
    settings = run.settings(("env", "vae", "rnn", "controller"))
    policy, seeds = policy_from(settings), [1_000_004, 1_000_005]
    parameters = load_controller(run.controller, policy).mean
    with RealWorld(settings, run, final=True) as real:
        lived = real.record(parameters, seeds, STEPS)[1]
    one = gymnasium.make(f"rnn:{NAMES[name]}Latent-v0", run=name)
    two = gymnasium.make_vec(f"rnn:{NAMES[name]}Latent-v0", 2, run=name, max_steps=STEPS)
    world, sizes = real.world, np.cumsum([policy.latent_size, policy.memory])
    seen, both = one.reset(seed=seeds[1])[0], two.reset(seed=seeds[0])[0]
    assert seen.shape == (policy.latent_size + 2 * policy.memory,) and both in two.observation_space
    for step in range(STEPS):
        z, c, h = np.split(seen[None], sizes, axis=1)
        for part, known in ((z, lived.z), (c, lived.c), (h, lived.h)):
            np.testing.assert_allclose(part[0], known[step], atol=1e-3)
        np.testing.assert_allclose(both[1], seen, atol=1e-3)
        raw = policy.act(parameters[None], z, h, c).numpy()
        np.testing.assert_allclose(raw[0], lived.raw[step], atol=1e-3)
        action = world.to_env(world.execute(raw))
        seen, reward, _, _, _ = one.step(action[0])
        both, rewards, _, cut, _ = two.step(np.repeat(action, 2, axis=0))
        assert reward == rewards[1] == pytest.approx(lived.rewards[step], abs=1e-6)
        assert cut.all() == (step == STEPS - 1)
    assert np.ptp(lived.raw, axis=0).min() > 0.1, "an agent that always does the same proves little"
    one.close()
    two.close()


@pytest.mark.filterwarnings("ignore:.*A Box observation space (min|max)imum value is:UserWarning:gymnasium")
def test_it_is_an_environment_with_the_dreams_spaces():
    env = gymnasium.make("rnn:DoomLatent-v0", run="doom", render_mode="rgb_array", observation="cz")
    dream = gymnasium.make("rnn:DoomDream-v0", run="doom", observation="cz")
    assert env.observation_space == dream.observation_space and env.action_space == dream.action_space
    check_env(env.unwrapped)
    assert env.unwrapped.render().shape == (120, 160, 3) and env.metadata["render_fps"] == 35
    assert env.reset(seed=2**31 + 7)[1]["seed"] == 2**31 + 7  # Doom's own seeds go further than others'
    with pytest.raises(Problem, match="action 3: expected whole numbers from 0 to 2"):
        env.step(3)
    env.close()
    with pytest.raises(UsageProblem, match="doom is a run of doom, and this environment is for one of carracing"):
        gymnasium.make("rnn:CarRacingLatent-v0", run="doom")


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_games_begin_anew_with_no_memory(mode):
    """Of episodes of three steps, in seven steps."""
    vector = gymnasium.make_vec(
        "rnn:CarRacingLatent-v0", 2, run="carracing", max_steps=3, final=False, autoreset_mode=mode
    )
    z = 32
    vector.reset(seed=[1, 2])
    steps = [vector.step(np.zeros((2, 3), "float32")) for _ in range(7)]
    empty = [step for step, result in enumerate(steps, 1) if not result[0][:, z:].any()]
    unrewarded = [step for step, result in enumerate(steps, 1) if not result[1].any()]
    cut = [step for step, result in enumerate(steps, 1) if result[3].all()]
    assert (empty, unrewarded, cut) == {
        AutoresetMode.NEXT_STEP: ([4], [4], [3, 7]),
        AutoresetMode.SAME_STEP: ([3, 6], [], [3, 6]),
        AutoresetMode.DISABLED: ([], [4, 5, 6, 7], [3, 4, 5, 6, 7]),
    }[mode]
    if mode is AutoresetMode.SAME_STEP:
        assert np.stack(list(steps[2][4]["final_obs"]))[:, z:].any()
    vector.close()
