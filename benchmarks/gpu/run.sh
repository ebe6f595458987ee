#!/usr/bin/env bash
# On a machine with a GPU, in the environment of the README or in Python 3.12 with PyTorch of its own: measure, and print a
# table last. What the second lacks comes from the wheels of benchmarks/gpu/wheels.py.
#   bash benchmarks/gpu/run.sh OUT [options of measure.py]
set -euo pipefail
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD" PYTHONUNBUFFERED=1
python=.venv/bin/python
if [ ! -x "$python" ]; then
    python=python3
    site=$(mktemp -d)
    if compgen -G ".wheels/*.whl" > /dev/null &&
        python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$site" .wheels/*.whl; then
        PYTHONPATH="$PWD:$site"
    else
        echo "no wheels were installed; what needs them is left out"
    fi
fi
exec "$python" benchmarks/gpu/measure.py "$out" "$@"
