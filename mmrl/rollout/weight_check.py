"""Whether an engine computes with the weights it was sent: the check of the first synchronisation.

Every tensor leaves a fingerprint on its way: a sum over its bits, which no joining or reordering changes,
and, of a matrix, its product with a fixed vector, which both would change. The engine's side is read where it computes:
from its parameter or, where a kernel has taken that away (CPU kernels repack matrices), from what its layer makes of
the vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MIX = -7046029254386353131  # 2^64 / golden ratio, as a signed number: what Fibonacci hashing multiplies with
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
PIECE = 2**24  # numbers that are looked at together: 0.4 GB
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}  # of a product's largest entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What stays of a tensor. Two of them say nothing certain of equality, but a mix-up does not get past both."""

    count: int  # of elements
    bits: int  # sum over the elements' bit patterns, each mixed (so that changes do not cancel), modulo 2^63; 0 adds 0
    product: Tensor | None  # [rows] float32: the matrix times `probe`; None: no matrix


def fingerprint(value: Tensor, dtype: torch.dtype) -> Fingerprint:
    """Of a tensor as an engine of that number format would hold it.

    Made piece by piece: what it takes beside the tensor does not grow with it.
    """
    flat = value.detach().reshape(-1)
    bits = sum(_bits(piece.to(dtype)) for piece in flat.split(PIECE)) % 2**63
    return Fingerprint(count=value.numel(), bits=bits, product=_product(value.detach(), dtype))


def _bits(piece: Tensor) -> int:
    mixed = piece.view(_BITS[piece.element_size()]).to(torch.int64).mul_(MIX)
    mixed ^= mixed >> 29
    return int(mixed.sum())


def _product(value: Tensor, dtype: torch.dtype) -> Tensor | None:
    if value.ndim != 2:
        return None
    vector = probe(value.shape[1]).to(value.device)
    rows = value.split(max(1, PIECE // max(1, value.shape[1])))
    return torch.cat([part.to(dtype).float() @ vector for part in rows]).cpu()


def probe(width: int) -> Float[Tensor, " width"]:
    """The vector that matrices are multiplied with: no two entries alike, their squares sum to about 1."""
    return torch.sin(torch.arange(1, width + 1, dtype=torch.float64)).mul(math.sqrt(2 / width)).float()


def watched(
    weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype, seen: dict[str, Fingerprint]
) -> Iterator[tuple[str, Tensor]]:
    """The same weights; `seen` gathers their fingerprints as they pass."""
    for name, value in weights:
        seen[name] = fingerprint(value, dtype)
        yield name, value


def differences(
    sent: Mapping[str, Fingerprint],
    sources: Mapping[str, Sequence[str]],
    held: Mapping[str, Fingerprint],
    *,
    unmapped: Sequence[str],
    dtype: torch.dtype,
) -> list[str]:
    """What is wrong, in words; empty: everything arrived.

    `sources`: engine parameter → the sent tensors it is made of, in order. `held`: engine parameter → its fingerprint,
    `count` 0 where only the product could be taken. `unmapped`: sent tensors for which the engine has no parameter.
    """
    wrong = [f"{name} was sent, and the engine has no parameter for it" for name in unmapped]
    for name, own in held.items():
        parts = [sent[source] for source in sources.get(name, ())]
        if not parts:
            wrong.append(f"{name} of the engine was sent by nobody")
        elif own.count and sum(p.bits for p in parts) % 2**63 != own.bits:
            wrong.append(f"{name} of the engine does not hold what {', '.join(sources[name])} held")
        elif own.product is not None and not _agree(own.product, parts, TOLERANCE.get(dtype, 1e-4)):
            wrong.append(f"{name} of the engine does not compute what {', '.join(sources[name])} would")
    return wrong


def _agree(product: Tensor, parts: Sequence[Fingerprint], tolerance: float) -> bool:
    """Whether a product is that of the joined parts; rows beyond them are padding."""
    rows = [part.product for part in parts if part.product is not None]
    if len(rows) != len(parts):
        return True  # a matrix here and none there: a convolution that is computed as a product
    expected = torch.cat(rows)
    if len(product) < len(expected):
        return False
    scale = float(expected.abs().max().clamp(min=1e-6))
    return bool((product[: len(expected)] - expected).abs().max() <= tolerance * scale)
