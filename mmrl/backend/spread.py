"""Weights from their files into shards (ZeRO-3): one bucket at a time is whole, on its way from the first rank.

Reading is the first rank's; DeepSpeed sends a bucket's weights to all, and each keeps its own part. So a rank never
holds more than its shard and a bucket, of the reference policy as of the policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmrl.backend.sharded import buckets
from mmrl.policy.adapters import begin_magnitude
from mmrl.policy.policy import Policy
from mmrl.policy.unread import Unread
from mmrl.ranks import Ranks


@torch.no_grad()
def spread(
    policy: Policy,
    reference: Policy | None,
    unread: Unread,
    *,
    config: Mapping[str, Any],
    bucket_bytes: int,
    ranks: Ranks,
) -> None:
    """Read and shard every parameter that is still unread, of both policies. All ranks call it together.

    `config`: DeepSpeed's, which says where shards lie. What is in no file (adapters, what transformers made up) stays
    as it is, for DeepSpeed to shard; it is as small as it is new.
    """
    import deepspeed

    models = [policy.model, *([] if reference is None else [reference.model])]
    twins = {} if reference is None else dict(reference.model.named_parameters())
    waiting = [(name, p) for name, p in policy.model.named_parameters() if unread.key(name)]
    for bucket in buckets(waiting, lambda pair: (pair[1],), most=bucket_bytes):
        holder = nn.Module()  # what DeepSpeed shards are the parameters of a module, whichever it is
        for number, (name, parameter) in enumerate(bucket):
            value = _value(unread, name, parameter, ranks)
            for model in models:
                begin_magnitude(model, name, value)
            for which, one in enumerate((parameter, twins.get(name))):
                if one is not None:
                    one.data = value
                    holder.register_parameter(f"{number}_{which}", one)
        deepspeed.zero.Init(module=holder, config_dict_or_path=dict(config), dtype=unread.dtype)
    # Where some weights are shards already DeepSpeed leaves the format of the others alone.
    for model in models:
        for name, parameter in model.named_parameters():
            if not unread.key(name) and parameter.is_floating_point():
                parameter.data = parameter.data.to(unread.dtype)


def _value(unread: Unread, name: str, parameter: nn.Parameter, ranks: Ranks) -> Tensor:
    if ranks.first:
        return unread.read(name).to(parameter.device)
    return torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
