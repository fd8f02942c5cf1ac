"""Training the next-frame model: model.fit on shuffled windows of recorded play, and what it leaves behind.

Start reading at `train`. The steps are divided where validations are due and where training on the model's own
predictions begins. Batches and learning rate depend on the step alone, so training that was cut short goes on as if it
had not been: the checkpoint holds weights, optimiser state and step.
"""

import contextlib
import math
from pathlib import Path
from typing import Any

from experiment.beginning import beginning
from experiment.fitting import Checkpoints, Log, fit
from experiment.hardware import prepare
from experiment.metrics import Metrics, read_metrics_rows
from experiment.progress import Progress
from experiment.run import Run
from experiment.schema import Experiment, Train
from extract.recorded import open_rollouts
from nextframe.model import NextFrame, load, load_nextframe, save
from nextframe.schedule import optimizer
from nextframe.tracking import tracking
from nextframe.validation import HeldOutWindows
from nextframe.windows import Windows


def train(settings: Experiment, run: Run) -> dict[str, Any]:
    """Train the next-frame model of a run, going on from its checkpoint if there is one; the best by validation is kept.

    Returns throughput: windows trained on, and windows a second in this process. Raises Problem if the loss is no longer
    a number, the disk is full, or the rollouts cannot be used or are not of these settings.
    """
    precision = prepare(settings.hardware, run)
    options, rollouts = settings.train, open_rollouts(settings, run)
    model = compiled(NextFrame(settings))
    train_ids, held_out_ids = rollouts.split(settings.data.val_ratio)
    windows = {n: Windows(rollouts, train_ids, model.context + n) for n in {1, options.unroll}}
    held_out = HeldOutWindows(rollouts, held_out_ids, settings)
    checkpoint, validated = run.checkpoints / "nextframe.weights.h5", run.metrics / "val_metrics.csv"
    if can_resume(checkpoint, validated, run):
        load(model, checkpoint)
        if run.nextframe_weights.exists():  # the best so far: if they are damaged, that is to be known now
            load(without_optimizer(model), run.nextframe_weights)
    elif (source := beginning(settings, run, "nextframe")) is not None:
        model.set_weights(load_nextframe(source, settings).get_weights())
    first = step = int(model.optimizer.iterations)

    seconds, traced = 0.0, 0
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        track = enter(tracking(settings, run))
        log = enter(Metrics(run.metrics / "metrics.csv", run.tensorboard / "nextframe", resume_from=first))
        validation = enter(Metrics(validated, run.tensorboard / "nextframe_heldout", resume_from=first))
        best = min((float(row["loss"]) for row in read_metrics_rows(validated)), default=math.inf)
        bar = enter(Progress("next-frame model", options.max_steps, "batches", done=first))

        def write(step: int, **numbers: float) -> None:
            log.write(step, **numbers)
            track(step, **numbers)

        for end in stops(options):
            if step >= end:
                continue
            steps_ahead, before = phase(options, step)
            batches = windows[steps_ahead].batches(options.batch, options.seed + before, start_batch=step - before)
            if steps_ahead != traced:
                model.train_function = None  # another graph: predicting further ahead is another computation
                traced = steps_ahead
            seconds += fit(
                model,
                batches,
                end - step,
                lambda batch: ((batch.frames, batch.actions),),
                [
                    Checkpoints(save, checkpoint, options.checkpoint_every, end, "the next-frame model", "train"),
                    Log(write, options.log_every, bar, lambda logs: f"loss {logs['loss']:.3g}, MSE {logs['mse']:.3g}"),
                ],
            )
            step = end
            if step % options.val_every_steps == 0 or step == options.max_steps:
                numbers = held_out.evaluate(model)
                validation.write(step, **numbers)
                picture = run.plots / f"nextframe_step_{step:06d}.png"
                held_out.save_strip(model, picture)
                held_out.save_video(model, run.videos / f"nextframe_step_{step:06d}")
                track(step, picture, **{f"val_{name}": value for name, value in numbers.items()})
                if better := numbers["loss"] < best or not run.nextframe_weights.exists():
                    best = numbers["loss"]
                    save(without_optimizer(model), run.nextframe_weights)
                bar.say(
                    f"step {step:,}: held-out loss {numbers['loss']:.3g}, MSE {numbers['mse']:.3g} (copying the last frame "
                    f"{numbers['copy_mse']:.3g}), PSNR {numbers['psnr']:.2f} dB, SSIM {numbers['ssim']:.4f}"
                    + (", the best so far" if better else "")
                )
            save(model, checkpoint)  # last, so that what was cut short in a validation is validated again
    count = (options.max_steps - first) * options.batch
    kept = min(read_metrics_rows(validated), key=lambda row: float(row["loss"]))
    run.update_results("evaluations", "nextframe", {name: float(value) for name, value in kept.items()})
    return {"windows": count, "windows_per_second": round(count / max(seconds, 1e-9)), "precision": precision}


def compiled(model: NextFrame) -> NextFrame:
    """With its optimiser, ready for fit or for loading a checkpoint."""
    model.compile(optimizer=optimizer(model.settings.train), jit_compile=False)  # XLA's convolutions are slow on CPUs
    model.optimizer.build(model.trainable_variables)
    return model


def can_resume(checkpoint: Path, validated: Path, run: Run) -> bool:
    """Whether there is a checkpoint, and the best weights too if there were validations before it."""
    return checkpoint.exists() and (run.nextframe_weights.exists() or not read_metrics_rows(validated))


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
