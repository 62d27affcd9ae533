"""Decoding with shared prompts: a prompt's keys and values exist once, however many completions continue it.

A query of branch n attends to its prompt's keys and to its own. The two parts are computed apart and joined by their
log-sum-exps, which is the softmax over both:

    o = σ(l_p − l_s) · o_p + σ(l_s − l_p) · o_s,    l = logsumexp of the scores, o = softmax(scores) · V of each part

Plugged into Hugging Face decoders by `attention.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class SharedPrefixCache:
    """Keys and values of P prompts and of the N branches that continue them.

    Life: one prefilling pass over the prompts, `branch()`, then one token per branch and pass, with `keep()` whenever
    finished branches are to be forgotten. Branches are ordered by prompt.
    """

    def __init__(self) -> None:
        self._prefix: list[tuple[Tensor, Tensor]] = []  # per layer [P, heads, L, d]
        self._own: list[tuple[Tensor, Tensor]] = []  # per layer [N, heads, room, d]
        self._written = 0  # tokens each branch has in the layers already passed
        self._prompt_of: Int[Tensor, " N"]
        self._hidden: Bool[Tensor, "P L"]
        self._slot: Int[Tensor, " N"]  # a branch's place in the [P · M] table of queries by prompt
        self._most = 0  # M, most branches of one prompt
        self._full = False
        self._bias: Tensor | None = None  # [P, 1, 1, L], −∞ on padding; None: no prompt is padded

    @property
    def branched(self) -> bool:
        return bool(self._own)

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Called by each attention layer with its new keys and values; returns those its queries attend to.

        While decoding these are the branch's own tokens: the prompt's are in `prefix(layer)`.
        """
        if not self.branched:
            self._prefix.append((keys, values))
            return keys, values
        if layer == 0:
            self._written += 1
        t = self._written
        own_keys, own_values = self._own[layer]
        own_keys[:, :, t - 1 : t] = keys
        own_values[:, :, t - 1 : t] = values
        return own_keys[:, :, :t], own_values[:, :, :t]

    def branch(self, sizes: Int[Tensor, " P"], *, room: int, lengths: Int[Tensor, " P"]) -> None:
        """`sizes` branches of each prompt, each with room for `room` tokens; `lengths` are the prompts' own."""
        prompts, heads, longest, width = self._prefix[0][0].shape
        branches = int(sizes.sum())
        places = torch.arange(longest, device=lengths.device)
        self._hidden = places[None, :] >= lengths[:, None]
        self._prompt_of = torch.arange(prompts, device=lengths.device).repeat_interleave(sizes)
        self._own = [
            (k.new_empty(branches, heads, room, width), v.new_empty(branches, heads, room, width))
            for k, v in self._prefix
        ]
        self._arrange()

    def keep(self, rows: Int[Tensor, " n"]) -> None:
        """Forget all branches but these (ascending), and prompts that no branch is left of."""
        t = self._written
        shapes = self._own[0][0].shape
        kept = []
        for pair in self._own:
            moved = []
            for tensor in pair:
                fresh = tensor.new_empty(len(rows), *shapes[1:])
                fresh[:, :, :t] = tensor[rows, :, :t]
                moved.append(fresh)
            kept.append((moved[0], moved[1]))
        self._own = kept
        prompts, self._prompt_of = torch.unique_consecutive(self._prompt_of[rows], return_inverse=True)
        if len(prompts) < len(self._hidden):
            self._prefix = [(k[prompts], v[prompts]) for k, v in self._prefix]
            self._hidden = self._hidden[prompts]
        self._arrange()

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, *, layer: int, scale: float) -> Tensor:
        """[N, H, 1, d] queries against their prompts and their own [N, heads, t, d] keys → [N, 1, H, d]."""
        branches, all_heads, _, width = query.shape
        heads = keys.shape[1]
        query = query.view(branches, heads, all_heads // heads, width)  # heads of one key head together
        prefix_keys, prefix_values = self._prefix[layer]
        prompts = len(prefix_keys)
        if self._full:
            table = query
        else:
            table = query.new_zeros(prompts * self._most, *query.shape[1:])
            table[self._slot] = query
        by_prompt = table.view(prompts, self._most, heads, -1, width).transpose(1, 2)
        by_prompt = by_prompt.flatten(2, 3)  # [P, heads, M·r, d]
        shared, shared_sum = attention_and_log_sum(by_prompt, prefix_keys, prefix_values, self._bias, scale)
        own, own_sum = attention_and_log_sum(query, keys, values, None, scale)  # [N, heads, r, d]
        shared, shared_sum = self._by_branch(shared), self._by_branch(shared_sum[..., None])
        joined: Tensor = torch.lerp(own, shared, torch.sigmoid(shared_sum - own_sum[..., None]).to(own.dtype))
        return joined.reshape(branches, 1, all_heads, width)

    def _by_branch(self, x: Tensor) -> Tensor:
        """[P, heads, M·r, k] → [N, heads, r, k]."""
        rows: Tensor = x.unflatten(2, (self._most, -1)).transpose(1, 2).flatten(0, 1)
        return rows if self._full else rows[self._slot]

    def _arrange(self) -> None:
        """Where each branch's query goes in the table by prompt."""
        counts = torch.bincount(self._prompt_of)
        self._most = int(counts.max())
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(self._prompt_of), device=counts.device) - first[self._prompt_of]
        self._slot = self._prompt_of * self._most + rank
        self._full = len(self._slot) == len(counts) * self._most  # every prompt has as many: the table is the queries
        hidden = self._hidden[:, None, None, :]
        dtype = self._prefix[0][0].dtype
        self._bias = torch.zeros_like(hidden, dtype=dtype).masked_fill(hidden, -torch.inf) if hidden.any() else None


def attention_and_log_sum(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """softmax(q·k·scale + bias)·v [B, h, n, d] and the logarithm of its denominator [B, h, n]; no gradient.

    torch's CPU kernel computes both; it is called by its operator name, because the public function returns only the
    output.
    """
    if query.device.type == "cpu":
        out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, False, attn_mask=bias, scale=scale
        )
        return out, log_sum
    scores = (query * scale) @ key.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias
    highest = scores.amax(-1, keepdim=True)
    weights = (scores - highest).exp_()
    total = weights.sum(-1, keepdim=True)
    return (weights @ value) / total, (highest + total.log()).squeeze(-1)
