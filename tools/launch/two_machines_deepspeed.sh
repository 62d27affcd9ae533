#!/usr/bin/env bash
# 2 × 8 GPUs, started from one machine over ssh by DeepSpeed's launcher.
#   tools/launch/two_machines_deepspeed.sh hosts my.yaml run.folder=/shared/runs run.name=first
# `hosts` has a line per machine: "node1 slots=8". It must be reachable by ssh without a password.
set -euo pipefail
hosts=$1
config=$2
shift 2
exec deepspeed --hostfile "$hosts" --no_local_rank --module mmrl run "$config" \
    backend.device=cuda backend.dtype=bfloat16 backend.type=deepspeed "$@"
