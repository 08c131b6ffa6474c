#!/usr/bin/env bash
# Preprocess a large collection of videos on Dataflow:
#   PROJECT=my-project REGION=europe-west4 BUCKET=my-bucket infra/dataflow/launch.sh gs://my-videos/vox2 gs://my-bucket/vox2
# With face-alignment on a GPU in each worker (its weights in a bucket):
#   ... launch.sh SRC OUT --detector face-alignment --detector-weights gs://my-bucket/weights --device cuda \
#       --machine_type n1-standard-4 --accelerator 'type:nvidia-tesla-t4;count:1;install-nvidia-driver' --experiments no_use_multiple_sdk_containers
# E2 machines, the default, take no GPU; the image then needs torch for CUDA (docker build --build-arg
# TORCH_INDEX_URL=https://download.pytorch.org/whl/cu128).
# Run it from the pipelines image (or an environment with the extra `dataflow`), so that launcher and workers have the
# same code. A second run with the same arguments resumes: it processes only the missing shards.
set -euo pipefail

: "${PROJECT:?set PROJECT to the Google Cloud project}"
: "${REGION:?set REGION, for example europe-west4}"
: "${BUCKET:?set BUCKET to a bucket for temporary files}"
IMAGE=${IMAGE:-${REGION}-docker.pkg.dev/${PROJECT}/sfumato/pipelines:0.1.0}
SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-sfumato-pipelines@${PROJECT}.iam.gserviceaccount.com}
MAX_WORKERS=${MAX_WORKERS:-200}

if [[ $# -lt 2 ]]; then
    echo "usage: $0 SRC OUT [sfumato preprocess flags]" >&2
    exit 2
fi
src=$1 out=$2
shift 2

# The image is the workers' container and holds the weights; no package is installed at start-up. Decoding and landmark
# detection use one thread each, so one process per core and machines with little memory per core are enough.
# Yours follow, and win: of a flag that is given twice, the last counts.
exec sfumato preprocess "$src" "$out" \
    --detector mediapipe \
    --runner DataflowRunner \
    --project "$PROJECT" \
    --region "$REGION" \
    --job_name "sfumato-preprocess-$(date -u +%Y%m%d-%H%M%S)" \
    --temp_location "gs://${BUCKET}/dataflow/temp" \
    --staging_location "gs://${BUCKET}/dataflow/staging" \
    --sdk_container_image "$IMAGE" \
    --sdk_location container \
    --service_account_email "$SERVICE_ACCOUNT" \
    --no_use_public_ips \
    --machine_type e2-standard-4 \
    --disk_size_gb 50 \
    --max_num_workers "$MAX_WORKERS" \
    --autoscaling_algorithm THROUGHPUT_BASED \
    --experiments use_runner_v2 \
    "$@"
