#!/usr/bin/env bash
# What the experiments' scripts share: the command line, the installation and the start. For them to source:
#
#   usage() { ... }               theirs: prints the help text
#   read_arguments "" "$@"        reads [quick|laptop|paper] [--run DIR] [key=value ...] into preset, run and overrides
#   read_arguments "a b" "$@"     the same, and one of the words a and b into word, which is empty if none is given
#   launch doom                   installs what is missing and becomes `python -m experiment configs/doom.yaml ...`;
#                                 without --run, the run folder is runs/doom, or runs/doom-PRESET

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    echo "error: experiment.bash is a part of wm_doom.bash, carracing.bash and nextframe.bash; run one of them" >&2
    exit 2
fi
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.bash"

read_arguments() {
    local words=$1
    shift
    preset="" run="" word="" overrides=()
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage && exit ;;
            --run) [ -n "${2:-}" ] || mistake "--run needs a folder" && run=$2 && shift ;;
            --run=?*) run=${1#--run=} ;;
            -*) mistake "unknown option '$1'" ;;
            begin=*) overrides+=("begin=$(from_here "${1#begin=}")") ;;
            *=*) overrides+=("$1") ;;
            quick | laptop | paper) [ -z "$preset" ] || mistake "two presets, '$preset' and '$1'" && preset=$1 ;;
            *) read_word "$1" "$words" ;;
        esac
        shift
    done
    preset=${preset:-laptop}
}

# A run folder to begin with, unless it is a shipped model, is meant from where the user is.
from_here() {
    case $1 in
        /* | "~"*) echo "$1" ;;
        */*) echo "$PWD/$1" ;;
        *) [ -d "$PROJECT/pretrained/$1" ] || [ ! -d "$1" ] && echo "$1" || echo "$PWD/$1" ;;
    esac
}

read_word() {
    local choice
    for choice in $2; do
        if [ "$1" = "$choice" ]; then
            [ -z "$word" ] || mistake "two of ${2// /, }: '$word' and '$1'"
            word=$1
            return
        fi
    done
    mistake "unknown preset '$1': choose quick, laptop or paper${2:+, and ${2// / or }}"
}

launch() {
    local name=$1 extras=""
    # A folder given by the user is meant from where the user is; the default lies in the project.
    case $run in
        "") [ "$preset" = laptop ] && run=runs/$name || run=runs/$name-$preset ;;
        /* | "~"*) ;;
        *) run=$PWD/$run ;;
    esac
    [ ! -e /dev/nvidiactl ] || extras=gpu
    setup "${EXTRAS-$extras}"
    clean_environment
    cd "$PROJECT" || exit
    exec .venv/bin/python -m experiment "configs/$name.yaml" --preset "$preset" --run "$run" ${overrides[@]+"${overrides[@]}"}
}
