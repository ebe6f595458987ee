#!/usr/bin/env bash
# Wheel and sdist in dist/, the same bytes when built again. Then, in a fresh environment and away from this clone: the
# detector alone on the sample, with the extra [workflow] the smoke run of a study that `reconpatch init` writes, and with
# [export] a file for another runtime.
# VERSIONS says with which versions of the dependencies: those of the lock, or the oldest or newest of pyproject.toml's
# ranges; WITH with which Python.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="$PWD/.venv/bin/uv" dist="$PWD/dist"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

case "${VERSIONS:=locked}" in
    locked | oldest | newest) ;;
    *) echo "VERSIONS=$VERSIONS: give locked, oldest or newest" >&2 && exit 1 ;;
esac

rm -rf "$dist"
"$uv" build --quiet --out-dir "$dist" .
"$uv" build --quiet --out-dir "$scratch/again" .
for file in "$dist"/*.whl "$dist"/*.tar.gz; do
    cmp "$file" "$scratch/again/$(basename "$file")"
done

versions="$scratch/versions.txt" project="$PWD/pyproject.toml"
with="${WITH:-$PWD/.venv/bin/python}"
pin_oldest() { # what the detector and these extras require
    "$uv" pip compile --quiet --resolution lowest-direct --python "$with" --no-emit-package reconpatch \
        "$@" "$project" --output-file "$versions"
}
case "$VERSIONS" in
    locked) sed '/^ *--hash/d; s/ \\$//' requirements.lock >"$versions" ;; # hashes would be asked of the wheel, too
    oldest) pin_oldest --extra workflow ;;
    newest) : >"$versions" ;;
esac
wheel="$(echo "$dist"/*.whl)"
unset PYTHONPATH VIRTUAL_ENV
"$uv" venv --quiet --python "$with" "$scratch/env"
install() {
    "$uv" pip install --quiet --python "$scratch/env/bin/python" --constraint "$versions" "$1"
}
cd "$scratch"
PATH="$scratch/env/bin:$PATH"

install "$wheel"
reconpatch sample demo
reconpatch fit demo/brick/train/good --out model --fast --size 160 --aspect stretch
reconpatch predict model demo/brick/test --out found
reconpatch evaluate model demo/brick/test --masks demo/brick/ground_truth --report page.html
reconpatch doctor
if reconpatch plan 2>message; then
    echo "the workflow's packages are there without their extra" && exit 1
fi
grep --quiet "reconpatch\[workflow\]" message

install "${wheel}[workflow]"
reconpatch init study
cd study
reconpatch plan smoke --configfile config.yaml
snakemake --cores 2 smoke
reconpatch verify --configfile config.yaml --
test -s results/report.html

[ "$VERSIONS" != oldest ] || pin_oldest --extra export # which needs a newer PyTorch
install "${wheel}[export]"
reconpatch export ../model --out ../model.onnx --check ../demo/brick/test/good
