#!/usr/bin/env bash
# Every check there is; --help says more.
set -uo pipefail

usage() {
    cat <<'HELP'
usage: bash launch_scripts/test.bash [PYTEST ARGUMENT ...]

Every check there is: format, lint, imports, types, tests; 8 to 18 minutes on two cores. Installs what is missing into
.venv, and stops at the first that fails. What needs something that is not installed and not necessary, such as a browser,
is skipped: a line at the end says what to install.

  tests/test_dream.py    these tests alone
  -k dream               those with this word in their names
  -n0                    one test at a time

environment:
  PYTHON=...   the Python to make .venv with (3.11 to 3.13; default: python3)
HELP
}

source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.bash"
for argument in "$@"; do
    case $argument in -h | --help) usage && exit ;; esac
done
echo "test.bash: format, lint, imports, types and tests of $PROJECT; 8 to 18 minutes on two cores"
setup dev
cd "$PROJECT" || exit
# The user's settings for these tools, for languages, windows and proxies change nothing here; no test needs a network.
clean_environment
unset ${!LC_@} ${!MYPY@} ${!PYTEST@} ${!RUFF_@} COLUMNS FORCE_COLOR LANGUAGE LINES PWDEBUG
unset {http,https,all,ws,wss,socks}_proxy {HTTP,HTTPS,ALL,WS,WSS,SOCKS}_PROXY
export LANG=C.UTF-8 PATH=$PROJECT/.venv/bin:$PATH
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

check format .venv/bin/ruff format --check .
check lint .venv/bin/ruff check .
check imports .venv/bin/lint-imports --no-cache --no-logo
check types .venv/bin/python -m mypy
# A test mostly waits, or keeps one core busy. A file's tests stay together: they share what is slow to make.
check tests .venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
echo
echo "All checks passed in $((SECONDS - began)) s."
