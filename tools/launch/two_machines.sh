#!/usr/bin/env bash
# 2 × 8 GPUs: the same command on both machines, with the name of the first one and a folder both of them see.
#   MMRL_FIRST=node1 tools/launch/two_machines.sh my.yaml run.folder=/shared/runs run.name=first
# Which machine is which is agreed at MMRL_FIRST:29500. Data, model and run folder must have the same path on both.
set -euo pipefail
config=$1
shift
: "${MMRL_FIRST:?set MMRL_FIRST to the name or address of the first machine}"
exec torchrun --nnodes "${MMRL_MACHINES:-2}" --nproc-per-node "${MMRL_GPUS:-8}" \
    --rdzv-backend c10d --rdzv-endpoint "${MMRL_FIRST}:${MMRL_PORT:-29500}" --rdzv-id "${MMRL_ID:-mmrl}" \
    -m mmrl run "$config" backend.device=cuda backend.dtype=bfloat16 backend.type=deepspeed "$@"
