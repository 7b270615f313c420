#!/usr/bin/env bash
# Sets up .venv on the first run, then runs `waymark quickstart` with the arguments given (--help lists them).
set -euo pipefail

here="${BASH_SOURCE[0]}"
while [ -L "$here" ]; do
  link="$(readlink "$here")"
  case "$link" in /*) here="$link" ;; *) here="$(dirname "$here")/$link" ;; esac
done
WAYMARK_ROOT="$(cd "$(dirname "$here")/.." && pwd -P)"
. "$WAYMARK_ROOT/scripts/install.sh"

install_waymark
exec "$WAYMARK_ROOT/.venv/bin/waymark" quickstart "$@"
