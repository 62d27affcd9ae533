"""What AdamW in 8 bits remembers (bitsandbytes, arXiv:2110.02861), written out in float32 and rounded again.

It keeps `state1` and `state2` (AdamW's `exp_avg` and `exp_avg_sq`) as places in a table of 256 numbers, blocks of 256
values which share a scale. Below 4,096 values it keeps float32. Blocks belong to the tensor the optimiser was given,
which under ZeRO is a shard that begins and ends inside of parameters: only written out can parameters be told apart.
Rounding again is no way back: a block's largest value may come out smaller. So shards are saved as they are as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

BLOCK = 256  # values that share a scale
SMALLEST = 4096  # values; fewer stay float32
STATES = ("state1", "state2")
TABLES = (("qmap1", "absmax1"), ("qmap2", "absmax2"))


def written_out(memory: Mapping[str, Any], state: str) -> Tensor:
    """One of `STATES` in float32, in the shape of what is trained."""
    kept: Tensor = memory[state]
    if kept.dtype == torch.float32:
        return kept
    from bitsandbytes.functional import dequantize_blockwise

    table, scale = TABLES[STATES.index(state)]
    plain: Tensor = dequantize_blockwise(kept, absmax=memory[scale], code=memory[table], blocksize=BLOCK)
    return plain


def rounded(states: Mapping[str, Tensor], *, step: int) -> dict[str, Any]:
    """The optimiser's memory after `step` updates, from both `STATES` in float32."""
    memory: dict[str, Any] = {"step": step}
    for name, (table, scale) in zip(STATES, TABLES, strict=True):
        value = states[name].float().contiguous()
        if value.numel() < SMALLEST:
            memory[name] = value.clone()
            continue
        from bitsandbytes.functional import create_dynamic_map, quantize_blockwise

        code = create_dynamic_map(signed=name == "state1").to(value.device)
        places, found = quantize_blockwise(value, code=code, blocksize=BLOCK)
        memory |= {name: places, table: code, scale: found.absmax}
    return memory
