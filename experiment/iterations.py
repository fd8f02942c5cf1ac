"""The paper's iterative procedure (section 5): the whole experiment again, with data that the last controller gathers.

The first iteration lies in the run folder itself, iteration n in RUN/iterations/n: a run folder like any other, whose
V, M and C begin where those of the one before ended, and whose V and M learn from the rollouts of all up to it.
"""

from dataclasses import replace

from experiment.schema import Experiment


def for_iteration(settings: Experiment, number: int) -> Experiment:
    """The settings of iteration `number` (from 1 on): those of `repeat` where it says something, from the second on.

    C is evolved in the real world in the last iteration only, unless it is never evolved in the dream.
    """
    controller = settings.controller
    if number < settings.iterations and controller.generations:
        controller = replace(controller, real_generations=0)
    if number == 1:
        return replace(settings, controller=controller)
    again, extract, vae, rnn = settings.repeat, settings.extract, settings.vae, settings.rnn
    extract = replace(
        extract, policy="agent", episodes=again.episodes, max_steps=again.max_steps, steps=0, noise=again.noise,
        seed=extract.seed + number - 1,
    )  # fmt: skip
    vae = replace(vae, steps=again.vae_steps, learning_rate=vae.learning_rate * again.rate)
    rnn = replace(rnn, steps=again.rnn_steps, learning_rate=rnn.learning_rate * again.rate)
    generations = again.generations if controller.generations else 0
    controller = replace(controller, generations=generations, seed=controller.seed + number - 1)
    return replace(settings, extract=extract, vae=vae, rnn=rnn, controller=controller)
