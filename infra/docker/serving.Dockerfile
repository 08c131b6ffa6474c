# syntax=docker/dockerfile:1
# The HTTP service: head and workers of a Ray Serve cluster.
#   docker build -f infra/docker/serving.Dockerfile -t REGISTRY/sfumato/serving:0.1.0 .
# CUDA comes with torch's wheels; the node only needs the driver. For CPUs:
#   --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
FROM python:3.11-slim-bookworm

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# MediaPipe loads EGL and GLESv2, OpenCV loads GL and GLib; KubeRay's own probes call wget.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgles2 libgl1 libglib2.0-0 wget \
    && rm -rf /var/lib/apt/lists/*

ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cu128
WORKDIR /opt/sfumato
COPY infra/docker/serving.lock ./
# Versions and hashes of the image's lock; torch first, because each of its builds has its own index.
RUN pip install --no-cache-dir uv==0.13.9 \
    && uv pip install --system --no-cache --compile-bytecode --extra-index-url "${TORCH_INDEX_URL}" torch==2.13.0 \
    && uv pip install --system --no-cache --compile-bytecode --require-hashes --no-deps -r serving.lock
COPY pyproject.toml README.md LICENSE sfumato.py ./
COPY pipelines ./pipelines
COPY training ./training
COPY serving ./serving
RUN uv pip install --system --no-cache --compile-bytecode --no-deps . && uv pip check --system

ENV SFUMATO_CACHE=/opt/sfumato/cache \
    SFUMATO_LOG_FORMAT=json \
    RAY_AUTH_MODE=token \
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false \
    PYTHONUNBUFFERED=1
# Load the perceptual network once: that converts its weights, which the user below cannot write.
RUN sfumato assets fetch face_landmarker yunet selfie_segmenter dlib_recogniser lpips_vgg16 \
    && python -c "from training.config import TrainConfig; from training.losses.perceptual import load_perceptual; load_perceptual(TrainConfig())" \
    && useradd --uid 1000 --create-home sfumato \
    && chmod -R a+rX /opt/sfumato

USER 1000
WORKDIR /home/sfumato
CMD ["sfumato", "--help"]
