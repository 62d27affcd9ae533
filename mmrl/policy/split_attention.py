"""Attention over packed rows without a dense mask, on CPU: three plain attentions and their exact sum.

    prompt queries → their prompt, causal        branch queries → their prompt, all of it
                                                 branch queries → their own branch, causal

The last two are one softmax over two sets of keys: with l = logsumexp of a query's scores over a set and o its output,

    o = exp(l_p − l)·o_p + exp(l_s − l)·o_s,     l = log(exp l_p + exp l_s)

Backward, each piece takes its share from the joint o and l, as in FlashAttention (arXiv:2205.14135, algorithm 4): the
probabilities of a piece are exp(score − l). Work and memory are those of the allowed pairs, about (P² + GC²)/2 + P·GC,
where a dense mask computes (P + GC)², and keys of the prompt are never copied for the branches.

torch's CPU kernel and its backward are called by their operator names, because the public function returns no l.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.policy.layout import Layout

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def split_attention(
    query: Float[Tensor, "R H L d"],
    key: Float[Tensor, "R h L d"],
    value: Float[Tensor, "R h L d"],
    layout: Layout,
    scale: float,
) -> Float[Tensor, "R L H d"]:
    """Attention by the rule of `Layout`; H is a multiple of h (grouped queries). Padding gets zeros."""
    flat = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    out: Tensor = _SplitAttention.apply(*flat, layout, scale)
    return out.view(layout.rows, layout.length, *out.shape[1:])


class _SplitAttention(torch.autograd.Function):
    """On flat [R·L, H or h, d] tensors. A piece takes its positions as [b, heads, n, d], the order the kernel wants."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
        heads, few = q.shape[1], k.shape[1]
        out = torch.zeros_like(q)
        log_sum = q.new_zeros(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))
        for parts in layout.alike:
            keys, values = _take(k, parts.prompts), _take(v, parts.prompts)
            o, lse = _forward(
                _take(q, parts.prompts), _for_each(keys, heads), _for_each(values, heads), 0.0, True, scale=scale
            )
            out[parts.prompts], log_sum[parts.prompts] = o.transpose(1, 2), lse.transpose(1, 2)
            if parts.branches.numel():
                o, lse = _forward(_fold(_take(q, parts.branches), few), keys, values, 0.0, False, scale=scale)
                places = parts.branches[parts.mask]
                out[places] = _unfold(o, heads).transpose(1, 2)[parts.mask]
                log_sum[places] = _unfold(lse[..., None], heads).squeeze(-1).transpose(1, 2)[parts.mask]
        if layout.own.numel():
            own, mask = layout.own, layout.own_mask
            o, lse = _forward(
                _take(q, own), _for_each(_take(k, own), heads), _for_each(_take(v, own), heads), 0.0, True, scale=scale
            )
            places = own[mask]
            own_out, own_log = o.transpose(1, 2)[mask], lse.transpose(1, 2)[mask]  # [M, H, d], [M, H]
            joint = torch.logaddexp(log_sum[places], own_log)
            share = (own_log - joint).exp()[..., None].to(q.dtype)
            out[places] = torch.lerp(out[places], own_out, share)
            log_sum[places] = joint
        ctx.save_for_backward(q, k, v, out, log_sum)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, out, log_sum = ctx.saved_tensors
        layout: Layout = ctx.layout
        heads, few = q.shape[1], k.shape[1]
        grad = gradients[0].contiguous()
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for parts in layout.alike:
            keys, values = _take(k, parts.prompts), _take(v, parts.prompts)
            gq, gk, gv = _backward(
                _take(grad, parts.prompts),
                _take(q, parts.prompts),
                _for_each(keys, heads),
                _for_each(values, heads),
                _take(out, parts.prompts),
                _take_log(log_sum, parts.prompts),
                0.0,
                True,
                scale=ctx.scale,
            )
            gk, gv = _sum_each(gk, few), _sum_each(gv, few)
            dq[parts.prompts] = gq.transpose(1, 2)
            if parts.branches.numel():
                places = parts.branches
                gq, shared_gk, shared_gv = _backward(
                    _fold(_take(grad, places, parts.mask), few),
                    _fold(_take(q, places), few),
                    keys,
                    values,
                    _fold(_take(out, places), few),
                    _fold(_take_log(log_sum, places, parts.mask)[..., None], few).squeeze(-1),
                    0.0,
                    False,
                    scale=ctx.scale,
                )
                gk, gv = gk + shared_gk, gv + shared_gv
                dq[places[parts.mask]] = _unfold(gq, heads).transpose(1, 2)[parts.mask]
            dk[parts.prompts], dv[parts.prompts] = gk.transpose(1, 2), gv.transpose(1, 2)
        if layout.own.numel():
            own, mask = layout.own, layout.own_mask
            gq, gk, gv = _backward(
                _take(grad, own, mask),
                _take(q, own),
                _for_each(_take(k, own), heads),
                _for_each(_take(v, own), heads),
                _take(out, own),
                _take_log(log_sum, own, mask),
                0.0,
                True,
                scale=ctx.scale,
            )
            places = own[mask]  # each position once
            dq[places] += gq.transpose(1, 2)[mask]
            dk[places] += _sum_each(gk, few).transpose(1, 2)[mask]
            dv[places] += _sum_each(gv, few).transpose(1, 2)[mask]
        return dq, dk, dv, None, None


def _take(x: Tensor, places: Tensor, mask: Tensor | None = None) -> Tensor:
    """[R·L, heads, d] at [b, n] → [b, heads, n, d]; zeros outside the mask."""
    taken = x[places]
    if mask is not None:
        taken = taken.masked_fill(~mask[..., None, None], 0.0)
    return taken.transpose(1, 2)


def _take_log(x: Tensor, places: Tensor, mask: Tensor | None = None) -> Tensor:
    """[R·L, H] at [b, n] → [b, H, n]; outside the mask ∞, which makes every probability there 0."""
    taken = x[places]
    if mask is not None:
        taken = taken.masked_fill(~mask[..., None], torch.inf)
    return taken.transpose(1, 2).contiguous()


def _for_each(x: Tensor, heads: int) -> Tensor:
    """[b, h, n, d] → [b, H, n, d]: each key head for the query heads that share it."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _sum_each(x: Tensor, few: int) -> Tensor:
    """Back: [b, H, n, d] → [b, h, n, d], the sum over the query heads that share a key head."""
    if x.shape[1] == few:
        return x
    summed: Tensor = x.unflatten(1, (few, -1)).sum(2)
    return summed


def _fold(x: Tensor, few: int) -> Tensor:
    """[b, H, n, d] → [b, h, r·n, d]: queries that share a key head as one longer sequence. Not for causal attention."""
    folded: Tensor = x.unflatten(1, (few, -1)).flatten(2, 3)
    return folded


def _unfold(x: Tensor, heads: int) -> Tensor:
    """Back: [b, h, r·n, d] → [b, H, n, d]."""
    unfolded: Tensor = x.unflatten(2, (heads // x.shape[1], -1)).flatten(1, 2)
    return unfolded
