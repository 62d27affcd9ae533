"""Tensors that DeepSpeed spreads over ranks, put together and taken apart again: by name, a few at a time.

Every function here is a meeting: all ranks call it in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmrl.backend.eight_bit import STATES, rounded
from mmrl.backend.masters import Masters
from mmrl.backend.optimizer import (
    MOMENTS,
    Moments,
    Named,
    check_moments,
    is_eight_bit,
    load_moments,
    moments,
    plain_moment,
)
from mmrl.ranks import Ranks

BUCKET_BYTES = 256 * 2**20  # of whole parameters that exist at one time on every rank

T = TypeVar("T")


def gathered(
    things: Sequence[T], sources: Callable[[T], Sequence[nn.Parameter]], *, sharded: bool
) -> Iterator[Sequence[T]]:
    """The things in order, as many at a time as a bucket holds; while one is handed out its parameters are whole."""
    for bucket in buckets(things, sources):
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
    """The optimiser's side of a DeepSpeed engine: masters and moments, which lie flat and cut in its partitions.

    At stage 0 nothing is cut: they lie in `masters` and in the optimiser, by parameters.
    """

    def __init__(
        self,
        engine: Any,
        *,
        stage: int,
        optimizer: torch.optim.Optimizer,
        trainable: Named,
        masters: Masters | None,
        ranks: Ranks,
    ) -> None:
        self._engine = engine
        self._stage = stage
        self._optimizer = optimizer
        self._trainable = trainable
        self._masters = masters
        self._ranks = ranks
        self._eight_bit = is_eight_bit(optimizer)

    def memory(self, *, keep: bool, masters: bool) -> tuple[Moments, dict[str, Tensor]]:
        """What AdamW remembers of every parameter, and with `masters` their float32 values.

        Of an optimiser in 8 bits written out in float32; exactly: `pieces`.
        """
        if self._masters is not None:
            own = self._masters
            named = own.named([name for name, _ in self._trainable])
            return moments(self._optimizer, self._trainable, own.values), named
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        steps = [float(memory["step"]) for memory in self._optimizer.state.values() if "step" in memory]
        remembered: Moments = {}
        values: dict[str, Tensor] = {}
        if keep and steps:
            step = torch.tensor(max(steps))
            remembered = {name: {"step": int(step) if self._eight_bit else step.clone()} for name, _ in self._trainable}
        for key, state in zip(MOMENTS, STATES, strict=True) if steps else ():
            with self._readable(key):
                for name, parameter in self._trainable:
                    whole = safe_get_full_optimizer_state(parameter, key)
                    if keep:
                        remembered[name][state if self._eight_bit else key] = whole.cpu()
        for name, parameter in self._trainable if masters else ():
            master = safe_get_full_fp32_param(parameter)
            if keep:
                values[name] = master.cpu()
        return remembered, values

    def pieces(self) -> dict[str, Any]:
        """The shards of an optimiser in 8 bits as they are: on the first rank all ranks' in order. Else empty."""
        if self._masters is not None or not self._eight_bit:
            return {}
        held: list[list[dict[str, Any]]] = []
        for rank in range(self._ranks.count):
            held.append([self._piece_of(rank, self._optimizer.state[flat]) for flat in self._flat()])
        return {"stage": self._stage, "ranks": self._ranks.count, "held": held if self._ranks.first else []}

    @torch.no_grad()
    def load(
        self, saved: Mapping[str, Mapping[str, Any]], values: Mapping[str, Tensor], pieces: Mapping[str, Any]
    ) -> None:
        """Take the moments and these parameters' values (float32; any that are missing stay as they are)."""
        if self._masters is not None:
            self._masters.load([values.get(name) for name, _ in self._trainable])
            load_moments(self._optimizer, self._trainable, self._masters.values, saved)
            return
        check_moments(saved, [name for name, _ in self._trainable], eight_bit=self._eight_bit)
        self._load_values(values)
        if not saved:
            return
        if self._eight_bit and (pieces.get("stage"), pieces.get("ranks")) == (self._stage, self._ranks.count):
            for flat, kept in zip(self._flat(), pieces["held"][self._ranks.rank], strict=True):
                placed = {key: v.to(flat.device, copy=True) if isinstance(v, Tensor) else v for key, v in kept.items()}
                self._optimizer.state[flat] = placed
            self._link()
            return
        self._load_moments(saved)

    def precise(self, parameter: Any) -> Tensor:
        """What this rank holds of a parameter (all of it below stage 3), in float32 where there is a master."""
        local: Tensor = getattr(parameter, "ds_tensor", parameter)
        if local.dtype == torch.float32 or not parameter.requires_grad:
            return local
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_local_fp32_param

        if self._masters is not None:
            return self._masters.of(parameter)
        master: Tensor = (
            safe_get_local_fp32_param(parameter) if self._stage == 3 else safe_get_full_fp32_param(parameter)
        )
        return master.view(local.shape)

    @torch.no_grad()
    def adopt(self, parameter: Any, value: Tensor) -> None:
        """Make `value`, which came from `precise`, the parameter's and its master's."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

        local: Tensor = getattr(parameter, "ds_tensor", parameter)
        if local is not value:
            local.copy_(value)
        if not parameter.requires_grad or self._masters is not None:
            return
        if self._stage == 3:
            safe_set_local_fp32_param(parameter, value)
        else:
            safe_set_full_fp32_param(parameter, value)

    def all_pieces(self, piece: Tensor) -> Tensor:
        """All ranks' pieces of equal size, one after the other."""
        found = [torch.empty_like(piece) for _ in range(dist.get_world_size())]
        dist.all_gather(found, piece.contiguous())
        return torch.cat([one.flatten() for one in found])

    def _flat(self) -> list[Tensor]:
        """The partitions that the optimiser was given on this rank, float32."""
        zero = self._engine.optimizer
        if self._stage == 3:
            return list(zero.fp32_partitioned_groups_flat)
        # Two implementations: with masters of bfloat16 weights stage 1 has one of its own.
        own = getattr(zero, "single_partition_of_fp32_groups", None)
        return list(zero.fp32_groups_flat_partition if own is None else own)

    def _link(self) -> None:
        """Tell DeepSpeed that the optimiser's memory is another."""
        if self._stage < 3:
            self._engine.optimizer._hp_optimizer_states_linked = False
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    @contextmanager
    def _readable(self, key: str) -> Iterator[None]:
        """While entered, one of `MOMENTS` can be read by parameters: of an optimiser in 8 bits in float32 too."""
        if not self._eight_bit:
            self._link()  # DeepSpeed does it once, after the update of the first parameter group
            yield
            return
        for flat in self._flat():
            self._optimizer.state[flat][key] = plain_moment(self._optimizer.state[flat], key)
        self._link()
        yield
        for flat in self._flat():
            del self._optimizer.state[flat][key]
        self._link()

    def _piece_of(self, rank: int, own: Mapping[str, Any]) -> dict[str, Any]:
        """Rank `rank`'s memory of a partition, on the first rank; `own`: this one's, alike but for its numbers."""
        found: dict[str, Any] = {}
        for key, value in own.items():
            if not isinstance(value, Tensor) or rank == 0:
                found[key] = value.cpu() if isinstance(value, Tensor) else value
                continue
            travels = value.cpu()
            found[key] = self._ranks.send(travels, origin=rank, target=0, shape=travels.shape, dtype=travels.dtype)
        return found

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

        step = max(float(memory["step"]) for memory in saved.values())
        plain = isinstance(self._optimizer, torch.optim.AdamW)  # all others count in an int
        for flat in self._flat():
            self._optimizer.state[flat] = {
                "step": torch.tensor(step) if plain else int(step),
                **{key: torch.zeros_like(flat) for key in MOMENTS},
            }
        self._link()
        for name, parameter in self._trainable:
            if name in saved:
                for key in MOMENTS:
                    safe_set_full_optimizer_state(parameter, plain_moment(saved[name], key).to(parameter.device), key)
        if self._eight_bit:
            for flat in self._flat():
                memory = self._optimizer.state[flat]
                states = {state: memory[key] for key, state in zip(MOMENTS, STATES, strict=True)}
                self._optimizer.state[flat] = rounded(states, step=int(step))
            self._link()


def buckets(
    things: Sequence[T], sources: Callable[[T], Sequence[Any]], *, most: int = BUCKET_BYTES
) -> Iterator[Sequence[T]]:
    """The things in order, as many at a time as have `most` bytes together; at least one."""
    bucket: list[T] = []
    size = 0
    for thing in things:
        bytes_ = sum(int(getattr(p, "ds_numel", p.numel())) * p.element_size() for p in sources(thing))
        if bucket and size + bytes_ > most:
            yield bucket
            bucket, size = [], 0
        bucket.append(thing)
        size += bytes_
    if bucket:
        yield bucket
