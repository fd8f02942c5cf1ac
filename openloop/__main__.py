"""`python -m openloop RUN`: how prediction errors compound in the model of a run."""

import sys
import time
from typing import Any

from experiment.hardware import describe_machine, import_tensorflow, prepare
from experiment.problem import Problem
from experiment.progress import duration
from experiment.run import Run, is_shipped
from experiment.schema import Experiment
from experiment.stage import Parser, Stage, guard, settings_help
from openloop.predictor import CHANGEABLE, load_predictor, open_run, trained_stages
from openloop.record import describe, origin, record_in

TEXT = """
Compare what the model of a run predicts with what was recorded: in windows of held-out episodes, from the same context
and under the same actions, open loop (fed its own predictions) and teacher-forced (fed the recorded frames), beside a
copy of the last frame and the reconstruction floor; MSE, PSNR and SSIM against horizon, with bands. What exactly each
curve and band is stands in openloop/evaluation.py, the metrics in viz/scores.py.

Reads the rollouts and weights of RUN. Writes, there: metrics/openloop.csv (means and bands), metrics/openloop_windows.csv
(every window), plots/mse_vs_horizon.png, psnr_vs_horizon.png, ssim_vs_horizon.png, videos/openloop_best, _median and
_worst (MP4 and GIF), and `openloop` in results.json. What is there already, of the same weights and settings, is only
printed.
"""


STAGE = Stage(
    name="openloop",
    sections=("env", "extract", "data", "begin", "model", "train", "openloop"),
    needs=("nextframe",),
    text=TEXT,
    whole=lambda settings, run: record_in(settings, run) is not None,
)
"""As the last stage of a next-frame model's run (`python -m experiment`)."""


def main() -> None:
    parser = Parser("openloop", TEXT, epilog=settings_help(CHANGEABLE))
    parser.add_argument("run", metavar="RUN", help="a run folder with a trained model, such as runs/doom")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="settings, such as openloop.dreams=16")
    arguments = parser.parse_intermixed_args()
    evaluate_run(arguments.run, arguments.overrides)


def evaluate_run(path: str, overrides: list[str]) -> None:
    """Measure, unless that is done; print, and say where everything is."""
    settings, made = open_run(path, overrides, "openloop")
    trained_stages(made)
    if is_shipped(made):
        if not made.rollouts.exists():
            raise Problem(f"{made.path} is shipped without rollouts, with figures in {made.results}: give your own run")
        raise Problem(
            f"{made.path} is shipped, with figures in {made.results} of more windows than are kept: "
            "to measure these, give a copy of the folder"
        )
    record = record_in(settings, made)
    if record is not None:  # which can be said of a folder too that nobody may write in
        print(f"{describe(made, record)}\nopenloop: complete in {made.path}, nothing to do", flush=True)
        return
    with made.lock():
        import_tensorflow()
        began = time.monotonic()
        run(settings, made)
        print(f"openloop: done in {duration(time.monotonic() - began)}, in {made.path}", flush=True)


def run(settings: Experiment, run: Run) -> dict[str, Any]:
    """Measure the model of a run, record it in results.json, and print the figures."""
    from openloop.evaluation import evaluate, pick_windows, predict
    from openloop.report import record_of, save_comparison, save_plots, save_tables, without_seen
    from openloop.windows import open_recorded, read_windows, seen_in_training

    began, o = time.monotonic(), settings.openloop
    of = origin(settings, run)
    rollouts, actions, windows = open_recorded(settings, run)
    precision = prepare(settings.hardware, run)
    predictor = load_predictor(settings, run)
    evaluation = evaluate(predictor, rollouts, actions, windows, o)
    save_tables(run, evaluation)
    title = f"{predictor.title}, {settings.env.name}"
    save_plots(run, evaluation, title, predictor.draws)
    picked = pick_windows(evaluation)
    shown = read_windows(rollouts, actions, [windows[number] for number in picked.values()], o.context)
    steps = list(predict(predictor, shown, o.context))
    for row, name in enumerate(picked):
        save_comparison(run.videos / f"openloop_{name}", steps, row)
    about = {"of": of, "title": title, "draws": predictor.draws, "precision": precision, "machine": describe_machine(),
             "shown": picked}  # fmt: skip
    record = about | record_of(evaluation)
    training = rollouts.split(settings.data.val_ratio)[0]
    if predictor.sees and len(training):  # of what is shipped only held-out episodes are
        seen = seen_in_training(rollouts, training, windows, o.context - predictor.sees, o.context + 1)
        record["seen_in_training"] = without_seen(evaluation, seen)
    record["seconds"] = round(time.monotonic() - began, 1)
    run.update_results("openloop", record)
    print(describe(run, record), flush=True)
    return {"windows": record["windows"]}


if __name__ == "__main__":
    sys.exit(guard(main))
