#!/usr/bin/env bash
# Every check there is: format, lint, types, tests. Stops at the first that fails.
# Usage: bash launch_scripts/test.bash [pytest arguments, such as -k dream, tests/test_dream.py, or -n0: one test at a time]
set -uo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/setup.bash"
echo "test.bash: format, lint, types and tests of $PROJECT; 8 to 16 minutes on two cores"
setup dev
cd "$PROJECT" || exit
PATH=$PROJECT/.venv/bin:$PATH
began=$SECONDS

check() {
    local name=$1 start=$SECONDS code
    shift
    echo
    echo "── $name: $*"
    "$@"
    code=$?
    if [ $code -ne 0 ]; then
        echo "── $name FAILED (exit code $code) after $((SECONDS - start)) s"
        exit $code
    fi
    echo "── $name passed in $((SECONDS - start)) s"
}

check format ruff format --check .
check lint ruff check .
check types mypy
# A test mostly waits, or keeps one core busy. A file's tests stay together: they share what is slow to make.
check tests python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
echo
echo "All checks passed in $((SECONDS - began)) s."
