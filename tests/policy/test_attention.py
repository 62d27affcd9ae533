"""The attention kernels of packed rows against the dense mask, which is the rule itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmrl.policy.attention import Kernel, PackedAttention
from mmrl.policy.layout import Layout, lay_out

Rows = list[list[tuple[int, list[int]]]]
BY_HAND: Rows = [[(2, [1, 2]), (1, [1])], [(3, [0, 1])]]

parts = st.tuples(st.integers(1, 9), st.lists(st.integers(0, 5), max_size=4))
some_rows = st.lists(st.lists(parts, min_size=1, max_size=3), min_size=1, max_size=3)


class Layer(torch.nn.Module):
    """What transformers' SDPA function asks of the layer that calls it."""

    is_causal = True
    num_key_value_groups = 2


def attended(layout: Layout, kernel: Kernel, *, width: int = 8) -> tuple[Tensor, list[Tensor]]:
    """Output of one random attention in float64 and the gradients of query, key and value; padding left out."""
    torch.manual_seed(0)
    rows, length = layout.rows, layout.length
    q, k, v = (
        torch.randn(rows, heads, length, width, dtype=torch.float64, requires_grad=kernel != "flex")
        for heads in (4, 2, 2)
    )  # FlexAttention has no backward on CPU
    out = PackedAttention(layout, kernel)(Layer(), q, k, v, 0.3)
    real = (layout.part_of >= 0)[..., None, None]
    weights = torch.randn(rows, length, 4, width, dtype=torch.float64) * real
    gradients = torch.autograd.grad((out * weights).sum(), (q, k, v)) if out.requires_grad else ()
    return (out * real).detach(), list(gradients)


def test_the_rule_by_hand() -> None:
    layout = lay_out(BY_HAND)
    # row 0: prompt p p, branch a, branch b b, then another part: prompt q, branch c
    x, o = True, False
    assert layout.dense_mask()[0, 0].tolist() == [
        [x, o, o, o, o, o, o],
        [x, x, o, o, o, o, o],
        [x, x, x, o, o, o, o],  # a: the prompt and itself
        [x, x, o, x, o, o, o],  # b: not a
        [x, x, o, x, x, o, o],
        [o, o, o, o, o, x, o],  # q: nothing of the first part
        [o, o, o, o, o, x, x],
    ]
    # row 1: prompt of three, an empty branch, a branch of one, padding that sees itself only
    assert layout.dense_mask()[1, 0, 3].tolist() == [x, x, x, x, o, o, o]
    assert layout.dense_mask()[1, 0, 5].tolist() == [o, o, o, o, o, x, o]


def test_positions_by_hand() -> None:
    layout = lay_out(BY_HAND)
    assert layout.own[layout.own_mask].tolist() == [2, 3, 4, 6, 10]
    first, second, third = layout.alike  # prompts of two, one and three tokens
    assert first.prompts.tolist() == [[0, 1]]
    assert first.branches.tolist() == [[2, 3, 4]]
    assert second.prompts.tolist() == [[5]]
    assert third.branches.tolist() == [[10]]


@settings(max_examples=60, deadline=None)
@given(some_rows)
def test_split_attention_equals_the_dense_mask(rows: Rows) -> None:
    layout = lay_out(rows)
    ours, gradients = attended(layout, "split")
    theirs, expected = attended(layout, "sdpa")
    assert torch.allclose(ours, theirs, atol=1e-12)
    for gradient, other in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, other, atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(some_rows)
def test_flex_attention_equals_the_dense_mask(rows: Rows) -> None:
    layout = lay_out(rows)
    assert torch.allclose(attended(layout, "flex", width=16)[0], attended(layout, "sdpa", width=16)[0], atol=1e-9)


def test_prompts_alone_need_no_mask() -> None:
    layout = lay_out([[(5, [])], [(3, [])]])
    assert layout.prompts_alone
    assert not lay_out([[(5, []), (2, [])]]).prompts_alone  # two prompts in one row would see each other
    kernels: tuple[Kernel, ...] = ("split", "flex")
    for kernel in kernels:
        out = attended(layout, kernel)[0]
        assert torch.allclose(out, attended(layout, "sdpa")[0], atol=1e-12)


def test_long_rows_in_float32() -> None:
    """The joint logarithm holds up over a thousand keys."""
    layout = lay_out([[(700, [40, 33, 1])]])
    ours, gradients = attended(layout, "split")
    theirs, expected = attended(layout, "sdpa")
    assert torch.allclose(ours, theirs, atol=1e-11)
    assert all(torch.allclose(a, b, atol=1e-11) for a, b in zip(gradients, expected, strict=True))


@pytest.mark.gpu
def test_flex_attention_and_its_gradients_on_a_gpu() -> None:
    layout = lay_out([[(300, [40, 33, 1])], [(70, [100]), (20, [5, 6])]]).to(torch.device("cuda"))
    results = {}
    kernels: tuple[Kernel, ...] = ("flex", "sdpa")
    for kernel in kernels:
        torch.manual_seed(0)
        q, k, v = (torch.randn(2, h, layout.length, 64, device="cuda", requires_grad=True) for h in (4, 2, 2))
        out = PackedAttention(layout, kernel)(Layer(), q, k, v, 0.125)
        real = (layout.part_of >= 0)[..., None, None]
        results[kernel] = [out * real, *torch.autograd.grad((out * real).square().sum(), (q, k, v))]
    for ours, theirs in zip(results["flex"], results["sdpa"], strict=True):
        assert torch.allclose(ours, theirs, atol=2e-3, rtol=2e-3)
