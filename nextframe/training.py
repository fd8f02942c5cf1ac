"""Training the next-frame model on shuffled windows of recorded play, and what it leaves behind.

Start reading at `train`. The steps are divided where validations are due and where training on the model's own
predictions begins. Batches and learning rate depend on the step alone, so training that was cut short goes on as if it
had not been: the checkpoint holds weights, optimiser state and step.
"""

import contextlib
import math
from typing import Any

from experiment.beginning import REMEDY, beginning
from experiment.hardware import prepare
from experiment.metrics import Metrics, read_metrics_rows
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment, Train
from experiment.training import Training, learning_rate, optimize
from extract.recorded import open_rollouts
from nextframe.model import NextFrame, load, load_nextframe, save
from nextframe.validation import HeldOutWindows
from nextframe.windows import Windows

EPSILON = 1e-10  # of Adam: gradients of a mean over pixels are small


def train(settings: Experiment, run: Run) -> dict[str, Any]:
    """Train the next-frame model of a run, going on from its checkpoint if there is one; the best by validation is kept.

    Returns throughput: windows trained on, and windows a second in this process. Raises Problem if the loss is no longer
    a number, the disk is full, or the rollouts cannot be used or are not of these settings.
    """
    precision = prepare(settings.hardware, run)
    options, rollouts = settings.train, open_rollouts(settings, run)
    model = optimized(NextFrame(settings))
    train_ids, held_out_ids = rollouts.split(settings.data.val_ratio)
    windows = {n: Windows(rollouts, train_ids, model.context + n) for n in {1, options.unroll}}
    held_out = HeldOutWindows(rollouts, held_out_ids, settings)
    checkpoint, validated = run.checkpoints / "nextframe.weights.h5", run.metrics / "val_metrics.csv"
    best_is_kept = run.nextframe_weights.exists()
    if checkpoint.exists() and (best_is_kept or not read_metrics_rows(validated)):
        load(model, checkpoint)
        if best_is_kept:  # if it is damaged, that is to be known now
            load(without_optimizer(model), run.nextframe_weights)
    elif (source := beginning(settings, run, "nextframe")) is not None:
        model.set_weights(load_nextframe(source, settings, REMEDY).get_weights())
    first = int(model.optimizer.iterations)

    with (
        Metrics(run.metrics / "metrics.csv", run.tensorboard / "nextframe", first) as log,
        Metrics(validated, run.tensorboard / "nextframe_heldout", first) as validation,
        Progress("next-frame model", options.max_steps, "batches", first) as bar,
    ):
        best = min((float(row["loss"]) for row in read_metrics_rows(validated)), default=math.inf)

        def write(step: int, **losses: float) -> None:
            log.write(step, **losses, learning_rate=float(model.optimizer.learning_rate))

        def progress(losses: dict[str, float]) -> None:
            bar.update(1, f"loss {losses['loss']:.3g}, MSE {losses['mse']:.3g}")

        training = Training(
            model, "the next-frame model", "train.learning_rate or train.clip", checkpoint, save, options.checkpoint_every,
            write, options.log_every, progress,
        )  # fmt: skip
        for step in stops(options):
            if (begun := training.step) >= step:
                continue
            steps_ahead, before = phase(options, begun)
            clips = windows[steps_ahead].batches(options.batch, options.seed + before, begun - before)
            with contextlib.closing(clips):
                training.until(step, clips)
            if step % options.val_every_steps == 0 or step == options.max_steps:
                numbers = held_out.evaluate(model)
                if better := numbers["loss"] < best or not run.nextframe_weights.exists():
                    best = numbers["loss"]
                    save(without_optimizer(model), run.nextframe_weights)  # before there is a row of it
                validation.write(step, **numbers)
                picture = run.plots / f"nextframe_step_{step:06d}.png"
                held_out.save_strip(model, picture)
                held_out.save_video(model, run.videos / f"nextframe_step_{step:06d}")
                validation.show(step, {"strip": picture})
                bar.say(
                    f"step {step:,}: held-out loss {numbers['loss']:.3g}, MSE {numbers['mse']:.3g} (copying the last frame "
                    f"{numbers['copy_mse']:.3g}), PSNR {numbers['psnr']:.2f} dB, SSIM {numbers['ssim']:.4f}"
                    + (", the best so far" if better else "")
                )
            save(model, checkpoint)  # last, so that what was cut short in a validation is validated again
    count = (options.max_steps - first) * options.batch
    kept = min(read_metrics_rows(validated), key=lambda row: float(row["loss"]))
    run.update_results("evaluations", "nextframe", {name: float(value) for name, value in kept.items()})
    rate = count / max(sum(training.seconds), 1e-9)
    return {"windows": count, "windows_per_second": round(rate), "precision": precision}


def optimized(model: NextFrame) -> NextFrame:
    """With its optimiser, ready for training or for loading a checkpoint."""
    options = model.settings.train
    optimize(model, learning_rate(options, options.max_steps), epsilon=EPSILON, global_clipnorm=options.clip)
    return model


def without_optimizer(model: NextFrame) -> NextFrame:
    """The same model as it is kept."""
    plain = NextFrame(model.settings)
    plain.set_weights(model.get_weights())
    return plain


def switch(options: Train) -> int:
    """The step from which on it is trained on its own predictions."""
    return round(options.unroll_from * options.max_steps) if options.unroll > 1 else options.max_steps


def phase(options: Train, step: int) -> tuple[int, int]:
    """How many steps ahead are predicted in a training step, and the step at which that began."""
    return (options.unroll, switch(options)) if step >= switch(options) else (1, 0)


def stops(options: Train) -> list[int]:
    """The steps at which something else is due: validations, the beginning of unrolling, the end."""
    validations = range(options.val_every_steps, options.max_steps, options.val_every_steps)
    return sorted({*validations, switch(options), options.max_steps} - {0})
