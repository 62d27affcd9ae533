#!/usr/bin/env bash
# One machine, one process per GPU.
#   tools/launch/eight_gpus.sh my.yaml run.name=first
#   MMRL_GPUS=4 tools/launch/eight_gpus.sh my.yaml
# Options after the config win over those here: backend.zero_stage=3, or backend.type=torch for the whole policy on each.
set -euo pipefail
config=$1
shift
exec torchrun --standalone --nproc-per-node "${MMRL_GPUS:-8}" -m mmrl run "$config" \
    backend.device=cuda backend.dtype=bfloat16 backend.type=deepspeed "$@"
