#!/usr/bin/env bash
# Makes .venv with everything the project needs, at pinned versions. Needs Python 3.11 to 3.13 with venv, and nothing else:
# no root, no system package.
#
#   source launch_scripts/setup.bash && setup dev,notebooks     from another script; then $PROJECT is the project's folder
#   bash launch_scripts/setup.bash dev,notebooks                alone; --help says more
#
# Extras (see pyproject.toml) are optional, and may be added one after the other. Asked again for what is there already, it
# returns at once, also without a network. Where pip fails, what was there before stays in use; after an installation that
# was killed, it starts afresh. Nothing is called complete before .venv has imported it.

NO_DEPS="" # pip's options where .venv has all packages already
PROJECT=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

# A launch script begins again, deaf to what the user's shell hands down (-p): BASH_ENV, functions, options, CDPATH.
if [[ $- != *p* && $(dirname "$(readlink -f "$0")") = "$PROJECT/launch_scripts" ]]; then
    exec env -u BASH_ENV -u ENV -u SHELLOPTS -u BASHOPTS -u BASH_COMPAT -u POSIXLY_CORRECT -u CDPATH bash -p "$0" "$@"
fi

# The user's variables for Python, such as PYTHONPATH and PYTHONHOME, and packages in the home folder are not for .venv:
# but for PYTHON, which is ours, and those that change no result.
clean_environment() {
    local name
    for name in ${!PYTHON@}; do
        case $name in
            PYTHON | PYTHONDONTWRITEBYTECODE | PYTHONFAULTHANDLER | PYTHONIOENCODING | PYTHONPYCACHEPREFIX | PYTHONUNBUFFERED | PYTHONUTF8) ;;
            *) unset "$name" ;;
        esac
    done
    export PYTHONNOUSERSITE=1
}

mistake() {
    echo "error: $1; --help says more" >&2
    exit 2
}

setup() {
    local extras
    extras=$(_setup_extras "$*") || exit
    _setup_complete "$extras" && return
    # Two at once: the second waits, and then finds everything done. The lock is on the folder itself; it is given
    # back when the subshell ends. Where flock is missing (macOS), or the disk has no locks, nobody waits.
    (
        clean_environment
        if command -v flock >/dev/null; then
            flock -n 9 2>/dev/null || [ $? -ne 1 ] || { echo "setup: waiting for another setup of $PROJECT to end"; flock 9; }
        fi
        _setup_complete "$extras" || _setup_install "$extras"
    ) 9<"$PROJECT" || exit
}

# The extras that are asked for, "dev notebooks" or "dev,notebooks", as "dev,notebooks"; each is one of pyproject.toml's.
_setup_extras() {
    local known extra extras
    known=$(sed -n '/^\[project.optional-dependencies\]/,/^\[/s/^\([a-z]*\) *=.*/\1/p' "$PROJECT/pyproject.toml")
    read -ra extras <<<"${1//[,$'\n']/ }"
    for extra in ${extras[@]+"${extras[@]}"}; do
        [[ " ${known//$'\n'/ } " = *" $extra "* ]] || mistake "there is no extra '$extra': choose from ${known//$'\n'/, }"
    done
    local IFS=,
    echo "${extras[*]-}"
}

# .venv/.complete/ holds a stamp for the base and one for each extra that is installed. What a stamp must say: the
# dependencies, and the folder, whose path is written into .venv's scripts.
_setup_wanted() {
    (cd "$PROJECT" && { cat pyproject.toml constraints.txt && pwd -P; } | cksum)
}

_setup_complete() {
    local extra wanted
    wanted=$(_setup_wanted)
    [ -x "$PROJECT/.venv/bin/python" ] && [ ! -e "$PROJECT/.venv/.unfinished" ] || return
    for extra in base ${1//,/ }; do
        [ "$(cat "$PROJECT/.venv/.complete/$extra" 2>/dev/null)" = "$wanted" ] || return
    done
}

_setup_install() {
    local extras=$1 extra stamp wanted python said interrupted=""
    python=$(_setup_python) || exit
    cd "$PROJECT" || exit
    echo "setup: installing World Models${extras:+ with extras $extras} into $PROJECT/.venv"
    echo "setup: $("$python" --version), versions as in constraints.txt; the first installation downloads about 1.2 GB and takes 4 GB of disk"
    case ",$extras," in *,gpu,*) echo "setup: the gpu extra adds CUDA's libraries: some 2.5 GB more to download, 5 GB on disk" ;; esac

    # .unfinished stands while pip works: a pip that was killed may leave packages that only look whole.
    if [ -e .venv/.unfinished ]; then
        echo "setup: an earlier installation was cut short: starting afresh"
    fi
    if [ -e .venv/.unfinished ] || ! _setup_fits .venv/bin/python || ! .venv/bin/python -c "import pip" 2>/dev/null; then
        "$python" -m venv --clear .venv || _setup_fail "could not make $PROJECT/.venv (see above)"
    fi
    # A stamp of the same dependencies stays true whatever pip does now: it adds packages, at the same versions. One of
    # others does not.
    wanted=$(_setup_wanted)
    for stamp in .venv/.complete/*; do
        [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] || rm -f "$stamp"
    done
    touch .venv/.unfinished || _setup_fail "cannot write to $PROJECT/.venv"
    trap 'interrupted=yes' INT TERM
    if ! .venv/bin/python -I launch_scripts/packages.py pip install --no-input --disable-pip-version-check $NO_DEPS -c constraints.txt -e ".${extras:+[$extras]}"; then
        [ -z "$interrupted" ] || { echo "setup: interrupted; the same command starts it again" >&2; exit 130; }
        rm -f .venv/.unfinished # pip ended by itself, and left no package half installed
        _setup_fail "pip could not install the packages (see above): check the network and the disk, and run the same command again"
    fi
    rm -f .venv/.unfinished
    echo "setup: checking that everything can be imported"
    if ! said=$(.venv/bin/python -I launch_scripts/packages.py check ${extras//,/ } 2>/dev/null); then
        [ -z "$interrupted" ] || { echo "setup: interrupted; the same command starts it again" >&2; exit 130; }
        _setup_fail "pip has installed the packages, but .venv cannot import ${said##*$'\n'}: mend that, or remove $(printf %q "$PROJECT/.venv"), and run the same command again"
    fi
    trap - INT TERM
    mkdir -p .venv/.complete
    for extra in base ${extras//,/ }; do
        echo "$wanted" >".venv/.complete/$extra"
    done
    echo "setup: complete"
}

_setup_fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

# Print the first Python that will do; a path is the user's, who may be in another folder.
_setup_python() {
    local candidate candidates=(python3 python3.13 python3.12 python3.11)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        [[ $candidate != [!/]*/* ]] || candidate=$PWD/$candidate
        if _setup_fits "$candidate"; then
            "$candidate" -c 'import ensurepip, venv' 2>/dev/null ||
                _setup_fail "$candidate has no venv: install it (on Debian and Ubuntu: apt install python3-venv)"
            echo "$candidate"
            return
        fi
    done
    candidate=${PYTHON:-python3}
    command -v "$candidate" >/dev/null || _setup_fail "$candidate is missing: install Python 3.11, 3.12 or 3.13 with venv, or name one: PYTHON=/path/to/python3"
    _setup_fail "$("$candidate" --version 2>&1) will not do: Python 3.11, 3.12 or 3.13 is needed; name one with PYTHON=/path/to/python3"
}

_setup_fail() {
    echo "error: $1" >&2
    exit 1
}

_setup_usage() {
    cat <<'HELP'
usage: bash launch_scripts/setup.bash [--no-deps] [EXTRA ...]

Installs World Models into .venv, at the versions of constraints.txt, and any extras; needs no root and no system package.
What is there already stays, so extras can be added one after the other.

extras:
  play         the player in the browser (python -m play)
  notebooks    JupyterLab
  ray          work spread over many machines
  wandb        Weights & Biases
  rl           Stable-Baselines3, for examples/
  safetensors  weights for other tools (python -m gallery.export)
  gpu          CUDA's libraries, for NVIDIA
  dev          format, lint, imports, types and tests, with what is tested; test.bash installs it itself

  --no-deps    .venv has all packages already, as in docker/Dockerfile: add the project alone, without a network, and
               check that all can be imported

environment:
  PYTHON=...   the Python to make .venv with (3.11 to 3.13; default: python3)
HELP
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    extras=()
    for argument in "$@"; do
        case $argument in
            -h | --help) _setup_usage && exit ;;
            --no-deps) NO_DEPS="--no-deps --no-build-isolation" ;;
            -*) mistake "unknown option '$argument'" ;;
            *) extras+=("$argument") ;;
        esac
    done
    setup ${extras[@]+"${extras[@]}"}
    echo "setup: $PROJECT/.venv is complete; to put it on the PATH: source $(printf %q "$PROJECT/.venv/bin/activate")"
fi
