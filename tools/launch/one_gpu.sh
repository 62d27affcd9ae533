#!/usr/bin/env bash
# One GPU. No launcher, no service: one process.
#   tools/launch/one_gpu.sh my.yaml run.name=first
set -euo pipefail
config=$1
shift
exec python -m mmrl run "$config" backend.device=cuda backend.dtype=bfloat16 "$@"
