#!/usr/bin/env bash
# Preprocess a large collection of videos on Dataflow:
#   PROJECT=my-project REGION=europe-west4 BUCKET=my-bucket infra/dataflow/launch.sh gs://my-videos/vox2 gs://my-bucket/vox2
# With face-alignment on a GPU in each worker (its weights in a bucket):
#   ... launch.sh SRC OUT --detector face-alignment --detector-weights gs://my-bucket/weights --device cuda \
#       --machine_type n1-standard-4 --accelerator 'type:nvidia-tesla-t4;count:1;install-nvidia-driver' \
#       --experiments no_use_multiple_sdk_containers --number_of_worker_harness_threads 4
# E2 machines, the default, take no GPU; the image then needs torch for CUDA (docker build --build-arg
# TORCH_INDEX_URL=https://download.pytorch.org/whl/cu128).
# Run it from the pipelines image (or an environment with the extra `dataflow`), so that launcher and workers have the
# same code. A second run with the same arguments waits for the job that is at work, or makes only the missing shards.
# --detach submits the job and leaves; `sfumato status OUT` says how far it is; --finish then writes the manifest.
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

# The image is the workers' container and holds the weights; no package is installed at start-up. Dataflow starts one
# process per core; each makes one shard at a time, since decoding and detection keep a core busy, so machines with
# little memory per core are enough. The job is named after OUT: Dataflow runs one job of a name at a time.
# Yours follow, and win: of a flag that is given twice, the last counts.
exec sfumato preprocess "$src" "$out" \
    --detector mediapipe \
    --runner DataflowRunner \
    --project "$PROJECT" \
    --region "$REGION" \
    --temp_location "gs://${BUCKET}/dataflow/temp" \
    --staging_location "gs://${BUCKET}/dataflow/staging" \
    --sdk_container_image "$IMAGE" \
    --sdk_location container \
    --service_account_email "$SERVICE_ACCOUNT" \
    --no_use_public_ips \
    --machine_type e2-standard-4 \
    --number_of_worker_harness_threads 1 \
    --disk_size_gb 50 \
    --max_num_workers "$MAX_WORKERS" \
    --autoscaling_algorithm THROUGHPUT_BASED \
    --experiments use_runner_v2 \
    "$@"
