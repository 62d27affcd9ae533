#!/usr/bin/env bash
# One machine, one process per GPU, by DeepSpeed's launcher.
#   tools/launch/eight_gpus_deepspeed.sh my.yaml run.name=first
# --no_local_rank: mmrl reads LOCAL_RANK from the environment; the option would be an unknown one.
set -euo pipefail
config=$1
shift
exec deepspeed --num_gpus "${MMRL_GPUS:-8}" --no_local_rank --module mmrl run "$config" \
    backend.device=cuda backend.dtype=bfloat16 backend.type=deepspeed "$@"
