# syntax=docker/dockerfile:1
# Preprocessing: the same image launches the Beam job and is its workers' container.
#   docker build -f infra/docker/pipelines.Dockerfile -t REGISTRY/sfumato/pipelines:0.1.0 .
FROM apache/beam_python3.11_sdk:2.77.0

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# MediaPipe loads EGL and GLESv2, OpenCV loads GL and GLib; wheels do not include them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgles2 libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
WORKDIR /opt/sfumato
COPY infra/docker/pipelines.lock ./
# Versions and hashes of the image's lock; torch first, because each of its builds has its own index.
RUN pip install --no-cache-dir uv==0.13.9 \
    && uv pip install --system --no-cache --compile-bytecode --extra-index-url "${TORCH_INDEX_URL}" torch==2.13.0 \
    && uv pip install --system --no-cache --compile-bytecode --require-hashes --no-deps -r pipelines.lock
COPY pyproject.toml README.md LICENSE sfumato.py ./
COPY pipelines ./pipelines
COPY training ./training
COPY serving ./serving
RUN uv pip install --system --no-cache --compile-bytecode --no-deps . && uv pip check --system

# The weights are part of the image, so that a thousand workers do not fetch them at once. The data set records their
# hashes.
ENV SFUMATO_CACHE=/opt/sfumato/cache \
    SFUMATO_LOG_FORMAT=json \
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
RUN sfumato assets fetch face_landmarker yunet \
    && chmod -R a+rX /opt/sfumato

# With Google's launcher the image is that of the Flex Template infra/dataflow/flex-template.json, too.
COPY --from=gcr.io/dataflow-templates-base/python311-template-launcher-base:20230622_RC00 /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/sfumato/pipelines/preprocess/beam/template.py

# Root, unlike the other images: Dataflow mounts the folder that boot writes into (/var/opt/google) for root only. The
# VM runs nothing else. On other runners (Flink, as a launcher) start it with --user 65532:65532.
WORKDIR /tmp
ENTRYPOINT ["/opt/apache/beam/boot"]
