# reconpatch and the environment of requirements.lock, without its development packages: docs/containers.md.
#   docker build --tag reconpatch .
#   docker build --tag reconpatch:cpu --build-arg TORCH_BACKEND=cpu .
# The lock pins Python packages. Debian keeps only the newest version of its own, so that these are not pinned.
# hadolint global ignore=DL3008
FROM debian:trixie-slim AS base
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv
WORKDIR /checkout
COPY . .
ARG TORCH_BACKEND=lock
RUN --mount=type=cache,target=/uv UV_CACHE_DIR=/uv .ci/install.sh /opt/reconpatch "$TORCH_BACKEND"

FROM base
LABEL org.opencontainers.image.title="reconpatch" \
    org.opencontainers.image.description="An open replication of ReConPatch (WACV 2024)" \
    org.opencontainers.image.licenses="Apache-2.0"
# Any user may write in both folders: --user "$(id -u):$(id -g)" lets results on a mount belong to you. Caches of numba,
# Matplotlib, Snakemake and downloaded weights lie below HOME.
RUN useradd --create-home --uid 1000 reconpatch && mkdir /study && chmod 1777 /home/reconpatch /study
COPY --from=build /opt/reconpatch /opt/reconpatch
# LOGNAME: Snakemake asks for the name of a user, whom the image need not know
ENV HOME=/home/reconpatch LOGNAME=reconpatch PATH=/opt/reconpatch/bin:$PATH
USER 1000
WORKDIR /study
CMD ["reconpatch", "--help"]
