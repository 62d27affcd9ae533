"""Tensors that DeepSpeed spreads over ranks, put together and taken apart again: by name, a few at a time.

Every function here is a meeting: all ranks call it in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmrl.backend.optimizer import Moments, Named, check_moments, load_moments, moments

BUCKET_BYTES = 256 * 2**20  # of whole parameters that exist at one time on every rank

T = TypeVar("T")


def gathered(
    things: Sequence[T], sources: Callable[[T], Sequence[nn.Parameter]], *, sharded: bool
) -> Iterator[Sequence[T]]:
    """The things in order, as many at a time as a bucket holds; while one is handed out its parameters are whole."""
    for bucket in _buckets(things, sources):
        if not sharded:
            yield bucket
            continue
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters(list({id(p): p for thing in bucket for p in sources(thing)}.values())):
            yield bucket


def whole_tensors(named: Named, *, keep: bool, sharded: bool) -> dict[str, Tensor]:
    """Copies of these parameters on the processor; without `keep` nothing, on a rank that only takes part."""
    found: dict[str, Tensor] = {}
    for bucket in gathered(named, lambda pair: (pair[1],), sharded=sharded):
        if keep:
            found |= {name: value.detach().to("cpu", copy=True) for name, value in bucket}
    return found


class Shards:
    """The optimiser's side of a DeepSpeed engine: masters and moments, which lie flat and cut in its partitions."""

    def __init__(self, engine: Any, *, stage: int, optimizer: torch.optim.Optimizer, trainable: Named) -> None:
        self._engine = engine
        self._stage = stage
        self._optimizer = optimizer
        self._trainable = trainable

    def memory(self, *, keep: bool, masters: bool) -> tuple[Moments, dict[str, Tensor]]:
        """What AdamW remembers of every parameter, and with `masters` their float32 values."""
        if self._stage == 0:
            return (moments(self._optimizer, self._trainable, [p for _, p in self._trainable]), {})
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        steps = [float(memory["step"]) for memory in self._optimizer.state.values() if "step" in memory]
        remembered: Moments = {}
        values: dict[str, Tensor] = {}
        for name, parameter in self._trainable:
            whole = {}
            if steps:
                for key in ("exp_avg", "exp_avg_sq"):
                    whole[key] = safe_get_full_optimizer_state(parameter, key)
            master = safe_get_full_fp32_param(parameter) if masters else None
            if keep and steps:
                remembered[name] = {"step": torch.tensor(max(steps))}
                remembered[name] |= {key: value.cpu() for key, value in whole.items()}
            if keep and master is not None:
                values[name] = master.cpu()
        return remembered, values

    @torch.no_grad()
    def load(self, saved: Mapping[str, Mapping[str, Any]], values: Mapping[str, Tensor]) -> None:
        """Take the moments and these parameters' values (float32; any that are missing stay as they are)."""
        parameters = [p for _, p in self._trainable]
        if self._stage == 0:
            load_moments(self._optimizer, self._trainable, parameters, saved)
            for name, parameter in self._trainable:
                if name in values:
                    parameter.copy_(values[name])
            return
        check_moments(saved, [name for name, _ in self._trainable], eight_bit=False)
        self._load_values(values)
        if saved:
            self._load_moments(saved)

    @torch.no_grad()
    def adopt(self, parameters: Sequence[Any]) -> None:
        """Make what these parameters are now the value their masters have."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

        for parameter in parameters if self._stage else ():
            if self._stage == 3:
                safe_set_local_fp32_param(parameter, parameter.ds_tensor.float())
            else:
                safe_set_full_fp32_param(parameter, parameter.float())

    def all_pieces(self, piece: Tensor) -> Tensor:
        """All ranks' pieces of equal size, one after the other."""
        found = [torch.empty_like(piece) for _ in range(dist.get_world_size())]
        dist.all_gather(found, piece.contiguous())
        return torch.cat([one.flatten() for one in found])

    def _load_values(self, values: Mapping[str, Tensor]) -> None:
        from deepspeed.runtime.zero import GatheredParameters
        from deepspeed.utils import safe_set_full_fp32_param

        for name, parameter in self._trainable:
            if name not in values:
                continue
            value = values[name].to(torch.float32)
            safe_set_full_fp32_param(parameter, value.to(parameter.device))
            with GatheredParameters([parameter], modifier_rank=0) if self._stage == 3 else nullcontext():
                parameter.copy_(value)

    def _load_moments(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        zero = self._engine.optimizer
        flat = zero.fp32_partitioned_groups_flat if self._stage == 3 else zero.single_partition_of_fp32_groups
        step = max(float(memory["step"]) for memory in saved.values())
        plain = isinstance(self._optimizer, torch.optim.AdamW)  # DeepSpeed's own counts in an int
        for partition in flat:
            self._optimizer.state[partition] = {
                "step": torch.tensor(step) if plain else int(step),
                "exp_avg": torch.zeros_like(partition),
                "exp_avg_sq": torch.zeros_like(partition),
            }
        if self._stage < 3:
            zero._hp_optimizer_states_linked = False
            zero._lazy_init_hp_params_optimizer_state()
        for name, parameter in self._trainable:
            if name in saved:
                for key in ("exp_avg", "exp_avg_sq"):
                    value = saved[name][key]
                    safe_set_full_optimizer_state(parameter, value.to(parameter.device), key)


def _buckets(things: Sequence[T], sources: Callable[[T], Sequence[Any]]) -> Iterator[Sequence[T]]:
    bucket: list[T] = []
    size = 0
    for thing in things:
        bytes_ = sum(int(getattr(p, "ds_numel", p.numel())) * p.element_size() for p in sources(thing))
        if bucket and size + bytes_ > BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(thing)
        size += bytes_
    if bucket:
        yield bucket
