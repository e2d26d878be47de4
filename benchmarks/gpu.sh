#!/usr/bin/env bash
# Proves and measures everything that needs a GPU, in under eight minutes: see benchmarks/README.md.
#   make gpu-bundle              before, where there is a network; then copy the checkout with its .gpu/
#   bash benchmarks/gpu.sh       on a machine with a GPU, Python 3.12 and torch, which needs no network
# OUT=reports/gpu, PARTS=machine,correctness (or 1,2), BUDGET=300 (seconds of the chosen parts), PYTHON=python3, DEVICE=cpu: a rehearsal.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "error: PYTHON: there is no program $python" >&2; exit 2; }
export PYTHONUNBUFFERED=1

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if ! "$python" -m benchmarks.gpu.missing >/dev/null && compgen -G '.gpu/wheels/*.whl' >/dev/null; then
  "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --target "$site" \
    .gpu/wheels/*.whl >"$site/pip.log" 2>&1 \
    || { echo "error: the wheels in .gpu/wheels do not fit $("$python" -V): $(tail -n 1 "$site/pip.log")" >&2; exit 2; }
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
if ! missing=$("$python" -m benchmarks.gpu.missing); then
  echo "error: not installed and not in .gpu/wheels: $missing; run \`make gpu-bundle\` where there is a network" >&2
  exit 2
fi
"$python" -m benchmarks.gpu
