# NeuronPath on the CPU.
#
#   docker build -t neuron-path .
#   docker run --rm -v "$PWD/outputs:/workspace/outputs" neuron-path run hydra.run.dir=outputs/demo
#
# PIP_EXTRA_ARGS goes to every `pip install`: an index with smaller CPU-only wheels of torch, for example.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

LABEL org.opencontainers.image.title="NeuronPath" \
      org.opencontainers.image.description="Find, verify and use the influential neuron paths of vision transformers" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"

ARG PIP_EXTRA_ARGS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_INPUT=1 \
    PIP_ROOT_USER_ACTION=ignore

# A mounted outputs folder should belong to uid 1000, or be given with `docker run --user`.
RUN useradd --create-home --uid 1000 neuron \
    && install -d -o neuron -g neuron /workspace /workspace/outputs

# Dependencies first: this layer is built again only when they change.
WORKDIR /build
COPY pyproject.toml constraints.txt ./
# hadolint ignore=SC2086
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
      > requirements.txt \
    && pip install --no-cache-dir ${PIP_EXTRA_ARGS} -c constraints.txt -r requirements.txt

COPY README.md LICENSE ./
COPY conf conf
COPY neuron_path neuron_path
# hadolint ignore=SC2086
RUN pip install --no-cache-dir ${PIP_EXTRA_ARGS} --no-deps . \
    && rm -rf /build

# Weights & Biases never waits for a server; caches go where any user may write.
ENV WANDB_MODE=offline \
    XDG_CACHE_HOME=/tmp/cache \
    XDG_CONFIG_HOME=/tmp/config

USER 1000:1000
WORKDIR /workspace
ENTRYPOINT ["neuron-path"]
CMD ["--help"]
