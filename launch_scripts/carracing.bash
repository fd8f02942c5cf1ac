#!/usr/bin/env bash
# The whole CarRacing experiment in one command; --help says more.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: bash launch_scripts/carracing.bash [quick|laptop|paper] [--run DIR] [key=value ...]

World Models on CarRacing: installs what is missing into .venv, records drives on random tracks, trains V and M,
evolves the controller C (in M's dream, on the real track, or both in turn, as the config says),
and lets it drive 100 tracks that no training used, in Gymnasium's own environment. Needs no display. Prints first
what it is going to do and about how long each stage takes on this machine, and last where everything is.

presets (on two cores):
  quick    at most 5 minutes: the shipped V and M learn a little more, and a new C learns to drive from nothing;
           'quick begin=' begins with random weights, to see that everything works
  laptop   2 to 3.5 hours: an agent that drives; the default
  paper    the published scale; for larger machines

  --run DIR    the run folder; otherwise runs/carracing, or runs/carracing-quick, runs/carracing-paper, in the project
  key=value    settings that differ, such as controller.generations=40 or hardware.threads=4
  begin=RUN    V and M begin with those of a run folder or a shipped model; C at zero all the same

Run the same command again to resume after an interruption; what is complete is skipped.

  see it train          .venv/bin/tensorboard --logdir runs/carracing/tensorboard
  look into it          bash launch_scripts/setup.bash notebooks; RUNS=runs/carracing .venv/bin/jupyter lab notebooks
  play it               bash launch_scripts/setup.bash play; .venv/bin/python -m play runs/carracing
  every setting         .venv/bin/python -m STAGE configs/carracing.yaml --help
  one stage alone       STAGE is extract, vae, vae.encode, rnn, controller or controller.evaluate
  a later iteration     the same with --run runs/carracing/iterations/2

environment:
  EXTRAS=gpu,ray   optional packages to install as well (default: gpu where there is an NVIDIA driver)
  PYTHON=...       the Python to make .venv with (3.11 to 3.13; default: python3)
HELP
}

source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/experiment.bash"
read_arguments "" "$@"
launch carracing
