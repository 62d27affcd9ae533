"""Fingerprints by hand: joined, permuted, swapped, missing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmrl.rollout import weight_check
from mmrl.rollout.vllm_weights import mistakes
from mmrl.rollout.weight_check import MIX, Fingerprint, differences, fingerprint, probe, watched

F32 = torch.float32


def prints(**weights: Tensor) -> dict[str, Fingerprint]:
    return {name: fingerprint(value, F32) for name, value in weights.items()}


Q, K, V = (torch.randn(4, 3, generator=torch.Generator().manual_seed(n)) for n in range(3))
SENT = prints(q=Q, k=K, v=V)
SOURCES = {"qkv": ["q", "k", "v"]}


def test_joined_tensors_are_found_again() -> None:
    held = prints(qkv=torch.cat([Q, K, V]))
    assert differences(SENT, SOURCES, held, unmapped=[], dtype=F32) == []


def test_rows_of_padding_do_not_count() -> None:
    held = prints(qkv=torch.cat([Q, K, V, torch.zeros(4, 3)]))
    assert differences(SENT, SOURCES, held, unmapped=[], dtype=F32) == []


def test_tensors_in_the_wrong_order_are_noticed() -> None:
    held = prints(qkv=torch.cat([Q, V, K]))
    [wrong] = differences(SENT, SOURCES, held, unmapped=[], dtype=F32)
    assert wrong == "qkv of the engine does not compute what q, k, v would"


def test_an_old_tensor_is_noticed_by_its_bits() -> None:
    held = prints(qkv=torch.cat([Q, K, torch.nextafter(V, V + 1)]))
    [wrong] = differences(SENT, SOURCES, held, unmapped=[], dtype=F32)
    assert wrong == "qkv of the engine does not hold what q, k, v held"


def test_what_nobody_sent_and_what_has_no_place_are_named() -> None:
    held = prints(qkv=torch.cat([Q, K, V]), norm=torch.ones(3))
    wrong = differences(SENT, SOURCES, held, unmapped=["extra"], dtype=F32)
    assert wrong == ["extra was sent, and the engine has no parameter for it", "norm of the engine was sent by nobody"]


def test_weights_are_compared_as_the_engine_would_hold_them() -> None:
    seen: dict[str, Fingerprint] = {}
    assert [name for name, _ in watched([("w", Q)], torch.bfloat16, seen)] == ["w"]
    assert seen["w"].bits == fingerprint(Q.to(torch.bfloat16), torch.bfloat16).bits


@pytest.mark.parametrize("changed", [False, True])
def test_a_bias_that_a_kernel_widened_is_compared_by_its_values(changed: bool) -> None:
    """As vLLM's CPU kernels do to bfloat16 layers."""
    layer = nn.Linear(3, 4, dtype=torch.bfloat16)
    model = nn.ModuleDict({"proj": layer})
    sent = {name: fingerprint(value, torch.bfloat16) for name, value in model.named_parameters()}
    layer.bias.data = layer.bias.to(torch.float32) + (0.5 if changed else 0.0)
    worker = SimpleNamespace(model_runner=SimpleNamespace(get_model=lambda: model))
    wrong = ["proj.bias of the engine does not hold what proj.bias held"] if changed else []
    assert mistakes(worker, sent, torch.bfloat16) == wrong


class _Largest(TorchDispatchMode):
    """The most bytes that one operation made anew."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        if isinstance(out, Tensor) and out.untyped_storage().data_ptr() not in given:
            self.bytes = max(self.bytes, out.nbytes)
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("turned", [False, True])
def test_a_large_matrix_is_looked_at_in_pieces_that_add_up(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, turned: bool
) -> None:
    value = torch.randn(300, 101, generator=torch.Generator().manual_seed(0))
    value = value.T if turned else value
    mixed = value.to(dtype).contiguous().view({4: torch.int32, 2: torch.int16}[dtype.itemsize]).to(torch.int64) * MIX
    bits = int((mixed ^ (mixed >> 29)).sum()) % 2**63
    product = value.to(dtype).float() @ probe(value.shape[1])
    monkeypatch.setattr(weight_check, "PIECE", 1000)
    with _Largest() as largest:
        found = fingerprint(value, dtype)
    assert (found.count, found.bits) == (value.numel(), bits)
    assert found.product is not None
    assert torch.allclose(found.product, product, rtol=0, atol=1e-5)
    assert largest.bytes <= (value.nbytes if turned else 8000)  # int64 of a piece; one copy where it lies otherwise


def test_a_small_tensor_s_fingerprint_by_hand() -> None:
    found = fingerprint(torch.tensor([1.0, 0.0, -2.0]), F32)
    mixed = [(pattern * MIX + 2**63) % 2**64 - 2**63 for pattern in (0x3F800000, 0, -0x40000000)]  # as int64 wraps
    assert found.bits == sum(m ^ (m >> 29) for m in mixed) % 2**63
    assert (found.count, found.product) == (3, None)
    assert fingerprint(torch.ones(0, 4), F32).count == 0
