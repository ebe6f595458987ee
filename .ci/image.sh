#!/usr/bin/env bash
# The image, built and tried: the smoke run of a study on a mount, as this user and without a network.
#   .ci/image.sh BACKEND    # as .ci/install.sh takes it
set -euo pipefail
cd "$(dirname "$0")/.."
image="reconpatch:$1"
study="$(mktemp -d)"
trap 'rm -rf "$study"' EXIT

docker build --tag "$image" --build-arg "TORCH_BACKEND=$1" .
inside() {
    docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$study:/study" "$image" "$@"
}
inside reconpatch doctor
inside reconpatch init sample
inside sh -euc "cd sample
    snakemake --cores 2 smoke
    reconpatch verify --configfile config.yaml --
    test -s results/report.html"
