"""What tests of credit parts begin with: a reward table and a context of given groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mmrl.batch import RewardTable, Streams
from mmrl.credit.part import StepContext
from mmrl.types import ScoredGroup


def credit_input(
    *groups: ScoredGroup,
    streams: Streams | None = None,
    max_tokens: int = 64,
    step: int = 0,
    steps: int = 1,
    memory: Mapping[str, Any] | None = None,
    drift: Mapping[str, float] | None = None,
) -> tuple[RewardTable, StepContext]:
    """The arguments of a shaping or advantage part."""
    table = RewardTable.of(groups)
    mask = torch.arange(int(table.length.max()))[None, :] < table.length[:, None]
    context = StepContext(
        streams=streams or Streams(),
        mask=mask,
        max_tokens=max_tokens,
        step=step,
        steps=steps,
        memory=memory or {},
        drift=drift or {},
    )
    return table, context
