#!/usr/bin/env bash
# On a bare machine with a GPU: install the wheels of benchmarks/gpu/wheels.py, measure, print a table last.
# bash benchmarks/gpu/run.sh OUT [options of measure.py]
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1
shift
if compgen -G ".wheels/*.whl" > /dev/null; then
    python3 -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "${TMPDIR:-/tmp}/site" .wheels/*.whl ||
        echo "the wheels could not be installed; what needs them is left out"
fi
export PYTHONPATH="$PWD:${TMPDIR:-/tmp}/site" PYTHONUNBUFFERED=1
exec python3 benchmarks/gpu/measure.py "$out" "$@"
