# NeuronPath in a container, for the CPU (the default target) or for NVIDIA GPUs.
#
#   make image                  or docker build --tag neuron-path:cpu .
#   make image TARGET=cuda      or docker build --target cuda --tag neuron-path:cuda .
#   docker run --rm --volume "$PWD/outputs:/workspace/outputs" --user "$(id -u)" neuron-path:cpu run
#
# Build arguments: BASE_IMAGE, any image with Python 3.11 or newer, best named by its digest; and pip's own settings
# PIP_INDEX_URL and PIP_EXTRA_INDEX_URL, where packages come from elsewhere: from a mirror, or, for a CPU image a quarter
# of the size, from an index with CPU-only wheels of torch. What they say stays in the stages that are not shipped.
ARG BASE_IMAGE=python:3.11-slim


# The environment: packages first, so that this layer is built again only when they change. The constraints hold for what
# builds the project too; pip has one name for them or the other, by its version.
FROM ${BASE_IMAGE} AS packages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_INPUT=1 \
    PIP_CONSTRAINT=/build/constraints.txt \
    PIP_BUILD_CONSTRAINT=/build/constraints.txt \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/venv
COPY constraints.txt pyproject.toml ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
      > requirements.txt \
    && python -m pip --python /opt/venv/bin/python install --no-cache-dir -r requirements.txt


FROM packages AS project
COPY LICENSE README.md ./
COPY conf conf
COPY neuron_path neuron_path
RUN python -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps .


# What both targets have around the environment. Any user may run it: caches and settings go where everyone may write.
FROM ${BASE_IMAGE} AS runtime
LABEL org.opencontainers.image.title="NeuronPath" \
      org.opencontainers.image.description="Find, verify and use the influential neuron paths of vision transformers" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --create-home --uid 1000 neuron \
    && install -d -o neuron -g neuron -m 1777 /workspace/outputs
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    USER=neuron \
    XDG_CACHE_HOME=/tmp/cache \
    XDG_CONFIG_HOME=/tmp/config \
    XDG_DATA_HOME=/tmp/data
WORKDIR /workspace
USER 1000:1000
ENTRYPOINT ["neuron-path"]
CMD ["--help"]


# docker run --gpus all … neuron-path:cuda run trainer=gpu
FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=project /opt/venv /opt/venv


FROM runtime AS cpu
COPY --from=project /opt/venv /opt/venv
