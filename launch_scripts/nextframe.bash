#!/usr/bin/env bash
# The offline next-frame model in one command; --help says more.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: bash launch_scripts/nextframe.bash [quick|laptop|paper] [breakout|coinrun] [--run DIR] [key=value ...]

An action-conditioned next-frame model, trained offline: installs what is missing into .venv, records random play of
Breakout (the default) or CoinRun, trains the model to predict the next frame from the last four and the actions, and
measures how its error compounds when it is fed its own predictions, beside a copy of the last frame. Prints first what
it is going to do and about how long each stage takes on this machine, and last where everything is.
CoinRun needs the system's Qt 5; where it is missing, one line says which package to install.

presets (on two cores):
  quick    at most 5 minutes: the shipped model learns a little more; 'quick begin=' begins with random weights
  laptop   at most 60 minutes (1 to 2 hours without bfloat16): a model clearly better than copying the last frame;
           the default
  paper    300,000 steps; for larger machines

  --run DIR    the run folder; otherwise runs/breakout, or runs/breakout-quick, runs/coinrun-paper..., in the project
  key=value    settings that differ, such as train.unroll=8 or hardware.threads=4
  begin=RUN    the model begins with that of a run folder or a shipped one

Run the same command again to resume after an interruption; what is complete is skipped.

  see it train          .venv/bin/tensorboard --logdir runs/breakout/tensorboard
  look into it          bash launch_scripts/setup.bash notebooks; RUNS=runs/breakout .venv/bin/jupyter lab notebooks/compounding_error.ipynb
  play it               bash launch_scripts/setup.bash play; .venv/bin/python -m play runs/breakout
  what is recorded      .venv/bin/python -m extract --show runs/breakout
  every setting         .venv/bin/python -m STAGE configs/breakout.yaml --help
  one stage alone       STAGE is extract or nextframe; .venv/bin/python -m openloop runs/breakout

environment:
  EXTRAS=gpu,wandb   optional packages to install as well (default: gpu where there is an NVIDIA driver)
  PYTHON=...         the Python to make .venv with (3.11 to 3.13; default: python3)
HELP
}

source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/experiment.bash"
read_arguments "breakout coinrun" "$@"
launch "${word:-breakout}"
