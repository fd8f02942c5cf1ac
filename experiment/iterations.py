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
    again = settings.repeat
    return replace(
        settings,
        extract=replace(
            settings.extract,
            policy="agent",
            episodes=again.episodes,
            max_steps=again.max_steps,
            steps=0,
            noise=again.noise,
            seed=settings.extract.seed + number - 1,
        ),
        vae=replace(settings.vae, steps=again.vae_steps, learning_rate=settings.vae.learning_rate * again.rate),
        rnn=replace(settings.rnn, steps=again.rnn_steps, learning_rate=settings.rnn.learning_rate * again.rate),
        controller=replace(
            controller,
            generations=again.generations if controller.generations else 0,
            seed=settings.controller.seed + number - 1,
        ),
    )
