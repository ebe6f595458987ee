#!/bin/sh
# For images: a folder with the package and the lock's versions of what it needs, all extras, no development packages.
# Called by Dockerfile and apptainer.def, in a checkout on Debian with python3-venv.
#   .ci/install.sh FOLDER BACKEND
# BACKEND `lock`: PyTorch as in the lock. One of uv's (cpu, cu126, ...): the same version from PyTorch's own index, whose
# builds have other hashes than the lock; those of PyTorch are then not compared.
set -eu
target="$1" backend="$2"
tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT

# uv as the Makefile gets it, and what builds the package
python3 -m venv "$tools"
sed -n '/^uv==/,/# via/p' requirements.lock >"$tools/uv.txt"
"$tools/bin/pip" install --quiet --no-cache-dir --require-hashes --requirement "$tools/uv.txt"
uv="$tools/bin/uv"
"$uv" pip install --quiet --python "$tools/bin/python" --constraint requirements.lock hatchling

cp requirements.lock "$tools/pins.txt"
if [ "$backend" != lock ]; then
    export UV_TORCH_BACKEND="$backend"
    sed -i -E '/^torch(vision)?==/,/^    # via/ { /--hash/d; s/ \\$// }' "$tools/pins.txt"
fi
"$uv" venv --quiet --python /usr/bin/python3 "$target"
# Compiled here: who runs the image may not write where the packages lie.
install() { "$uv" pip install --quiet --python "$target/bin/python" --link-mode copy --compile-bytecode "$@"; }
install --constraint "$tools/pins.txt" --requirement pyproject.toml --all-extras
"$uv" build --quiet --wheel --python "$tools/bin/python" --no-build-isolation --out-dir "$tools/dist" .
install --no-deps "$tools"/dist/*.whl
