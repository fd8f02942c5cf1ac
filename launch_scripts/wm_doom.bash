#!/usr/bin/env bash
# The whole DoomTakeCover experiment in one command; --help says more.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: bash launch_scripts/wm_doom.bash [quick|laptop|paper] [--run DIR] [key=value ...]

World Models on ViZDoom's Take Cover: installs what is missing into .venv, records random play, trains V and M,
evolves the controller C inside M's dream, and lets it play 100 episodes of the real game. Prints first what it is
going to do and about how long each stage takes on this machine, and last where everything is.

presets (on two cores):
  quick    at most 5 minutes: the shipped V and M learn a little more, and a new C learns to survive from nothing;
           'quick begin=' begins with random weights, to see that everything works
  laptop   under an hour with AMX: an agent that survives; the default
  paper    the published scale: a day with AMX, longer without

  --run DIR    the run folder; otherwise runs/doom (laptop), runs/doom-quick or runs/doom-paper in the project
  key=value    settings that differ, such as controller.generations=40 or hardware.threads=4
  begin=RUN    V and M begin with those of a run folder or a shipped model; C at zero all the same

Run the same command again to resume after an interruption; what is complete is skipped.

  see it train          .venv/bin/tensorboard --logdir runs/doom/tensorboard
  look into it          bash launch_scripts/setup.bash notebooks; RUNS=runs/doom .venv/bin/jupyter lab notebooks
  play it               bash launch_scripts/setup.bash play; .venv/bin/python -m play runs/doom
  every setting         .venv/bin/python -m STAGE configs/doom.yaml --help
  one stage alone       STAGE is extract, vae, vae.encode, rnn, controller or controller.evaluate

environment:
  EXTRAS=gpu,ray   optional packages to install as well (default: gpu where there is an NVIDIA driver)
  PYTHON=...       the Python to make .venv with (3.11 to 3.13; default: python3)
HELP
}

source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/experiment.bash"
read_arguments "" "$@"
launch doom
