"""Training V (paper, section 2.1 and appendix A.1) on shuffled frames, and what it leaves behind.

The steps are divided into epochs; each ends with validation on held-out episodes, a checkpoint and pictures.
Batches, noise and learning rate depend on the step alone, so training that was cut short goes on as if it had
not been: the checkpoint holds weights, optimiser state and step.
"""

import contextlib
import shutil
from typing import Any

import numpy as np

from envs.worlds import world_of
from experiment.backend import save_weights
from experiment.beginning import REMEDY, beginning
from experiment.files import atomic
from experiment.hardware import prepare
from experiment.metrics import Metrics
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment, Vae
from experiment.training import Training, learning_rate, optimize
from extract.rollouts import Rollouts
from vae.heldout import HeldOut
from vae.model import VAE, load_vae, load_weights

LOG_STEPS = 50  # a row of metrics is the mean over this many steps
CHECKPOINT_STEPS = 250  # some 20 s on two cores
FLAT = 0.5  # the share of the steps, warm-up included, before the cosine begins


def train(settings: Experiment, run: Run) -> dict[str, Any]:
    """Train V for a run, going on from its checkpoint if there is one, and write its weights.

    Returns throughput: frames trained on and frames a second, of this process.
    Raises Problem if the loss is no longer a number, the disk is full, or the rollouts cannot be used.
    """
    precision = prepare(settings.hardware, run)
    options = settings.vae
    if run.previous is not None and not options.steps:
        with atomic(run.vae_weights) as temporary:
            shutil.copyfile(run.previous.vae_weights, temporary)
        print("V stays as it is (repeat.vae_steps=0)", flush=True)
        return {"frames": 0, "precision": precision}
    rollouts = Rollouts(*run.all_rollouts)
    train_ids, held_out_ids = rollouts.split(settings.data.val_ratio)
    held_out = HeldOut(rollouts, held_out_ids, world_of(settings))
    model = optimized_vae(options)
    checkpoint = run.checkpoints / "vae.weights.h5"
    if checkpoint.exists():
        load_weights(model, checkpoint)
    elif (source := beginning(settings, run, "vae")) is not None:
        model.set_weights(load_vae(source, settings, REMEDY).get_weights())
    else:
        order = rollouts.pass_order(train_ids, options.frame_stride, options.seed, 0)
        model.begin_with_colour_of(rollouts.read(order[: options.batch]))
    first = int(model.optimizer.iterations)

    with (
        Metrics(run.metrics / "vae.csv", run.tensorboard / "vae", first) as log,
        Metrics(run.metrics / "vae_heldout.csv", run.tensorboard / "vae_heldout", first) as validation,
        Progress("training V", options.steps, "batches", first) as bar,
    ):

        def write(step: int, **losses: float) -> None:
            log.write(step, **losses, learning_rate=float(model.optimizer.learning_rate))

        def progress(losses: dict[str, float]) -> None:
            bar.update(1, f"squared error {losses['squared_error']:.1f}, KL {losses['kl']:.1f}")

        training = Training(
            model, "V", "vae.learning_rate", checkpoint, save_weights, CHECKPOINT_STEPS, write, LOG_STEPS, progress
        )
        ends = np.linspace(0, options.steps, options.epochs + 1).round().astype(int)[1:]
        for epoch, end in enumerate(ends.tolist(), start=1):
            if (step := training.step) >= end:
                continue
            # The noise of step n is number n of its generator, whatever was drawn in between.
            model.noise.state.assign([options.seed, step])
            batches = rollouts.batches(train_ids, options.batch, options.frame_stride, options.seed, start_batch=step)
            with contextlib.closing(batches):
                training.until(end, batches)
            numbers = held_out.evaluate(model)
            validation.write(end, **numbers)
            validation.show(end, held_out.save_strips(model, run.plots, f"epoch_{epoch:02d}"))
            save_weights(model, checkpoint)  # last, so that an epoch cut short in its validation is validated again
            found = f", {numbers['detail_found']:.0%} of the {held_out.world.detail} found"
            bar.say(
                f"V, epoch {epoch} of {options.epochs}: on held-out frames squared error "
                f"{numbers['squared_error']:.2f}, KL {numbers['kl']:.1f} nats, {numbers['active']} of {options.z} "
                f"dimensions active{found if len(held_out.details) else ''}"
            )
    final = VAE(options.z, options.kl_floor, options.seed)  # without optimiser state
    final.set_weights(model.get_weights())
    save_weights(final, run.vae_weights)
    frames = (options.steps - first) * options.batch
    rate = frames / max(sum(training.seconds), 1e-9)
    return {"frames": frames, "frames_per_second": round(rate), "precision": precision}


def optimized_vae(options: Vae) -> VAE:
    """A new V with its optimiser, ready for training or for loading a checkpoint."""
    model = VAE(options.z, options.kl_floor, options.seed)
    optimize(model, learning_rate(options, options.steps, FLAT), epsilon=1e-8)
    return model
