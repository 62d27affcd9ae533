"""How groups become forward passes: which completions go through the policy together.

Where parameters or gradients are spread over ranks, every pass is a meeting. So all ranks make equally many, and one
that has nothing left makes an *idle* pass, of one token, which counts for nobody (`PackedBatch.rows` is empty).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from mmrl.batch import PolicyOutputs
from mmrl.policy.cost import DecoderShape, pass_cost
from mmrl.policy.packed import PackedBatch, Part, micro_batches, pack, split_groups
from mmrl.policy.policy import Policy
from mmrl.ranks import ALONE, Ranks
from mmrl.types import Answer, Prompt, RolloutGroup, Sample

MicroBatches = list[list[Part]]


class Call(Protocol):
    """A policy's forward."""

    def __call__(self, packed: PackedBatch, *, entropy: bool, compare: Int[Tensor, " B"] | None) -> PolicyOutputs: ...


class Passes:
    """Splits and packs for one policy."""

    def __init__(
        self,
        policy: Policy,
        *,
        tokens: int,
        pad_id: int,
        device: torch.device,
        ranks: Ranks = ALONE,
        tower_once: bool = False,
    ) -> None:
        """`tokens`: packed ones of a micro-batch. `tower_once`: a pass uses the tower at most once and owes it nothing,
        so that a picture which several micro-batches show is encoded in each.
        """
        self._policy = policy
        self._tokens = tokens
        self._pad_id = pad_id
        self._device = device
        self._ranks = ranks
        self._tower_once = tower_once

    def split(self, groups: Sequence[RolloutGroup], *, whole_groups: bool = False) -> MicroBatches:
        """Packed, or every completion with its own copy of the prompt: whichever the cost model prefers.

        `whole_groups`: for what compares a group's completions, every group is in one micro-batch, however long its
        rows become.
        """
        passes = self._whole(groups) if whole_groups else self._cheapest(groups)
        most = int(self._ranks.most([len(passes)])[0])
        return passes + [[self._idle_part()] for _ in range(most - len(passes))]

    def pack(self, parts: Sequence[Part]) -> PackedBatch:
        """Lay out one micro-batch on the policy's device."""
        policy = self._policy
        return pack(parts, policy.family, policy.config, pad_id=self._pad_id).to(self._device)

    def outputs(
        self, call: Call, policy: Policy, groups: Sequence[RolloutGroup], *, entropy: bool, disagreement: bool
    ) -> PolicyOutputs:
        """Log-probabilities [N, T] of all rollouts in order, by `call`, the forward of `policy`."""
        width = max((len(r.token_ids) for g in groups for r in g.rollouts), default=0)
        count = sum(len(g.rollouts) for g in groups)
        logprobs = torch.zeros(count, width, device=self._device)
        entropies = torch.zeros(count, width, device=self._device) if entropy else None
        differ = torch.zeros(count, width, device=self._device) if disagreement else None
        sizes = torch.tensor([len(g.rollouts) for g in groups], device=self._device, dtype=torch.long)
        group = torch.arange(len(groups), device=self._device).repeat_interleave(sizes)
        passes = self.split(groups, whole_groups=disagreement)
        self.begin(policy, passes)
        for parts in passes:
            packed = self.pack(parts)
            idle = is_idle(packed)
            compare = None if not disagreement else group.new_zeros(1) if idle else group[packed.rows]
            out = call(packed, entropy=entropy, compare=compare)
            if idle:
                continue
            logprobs[packed.rows, : out.logprobs.shape[1]] = out.logprobs
            if entropies is not None and out.entropy is not None:
                entropies[packed.rows, : out.logprobs.shape[1]] = out.entropy
            if differ is not None and out.disagreement is not None:
                differ[packed.rows, : out.logprobs.shape[1]] = out.disagreement
        policy.features.end_pass()
        return PolicyOutputs(logprobs=logprobs, entropy=entropies, disagreement=differ)

    def begin(self, policy: Policy, passes: MicroBatches) -> None:
        """Tell the policy's features which pictures the coming passes show."""
        policy.features.begin_pass([] if self._tower_once else map(_digests, passes))

    def _cheapest(self, groups: Sequence[RolloutGroup]) -> MicroBatches:
        budget = self._tokens
        alone = micro_batches(split_groups(groups, budget, most_branches=1), budget)
        if not self._policy.family.packs:
            return alone
        together = micro_batches(split_groups(groups, budget), budget)
        kernel, shape = self._policy.kernel, DecoderShape.of(self._policy.config)
        return min(together, alone, key=lambda passes: pass_cost(passes, kernel, shape))

    def _whole(self, groups: Sequence[RolloutGroup]) -> MicroBatches:
        if self._policy.family.packs:
            return micro_batches(split_groups(groups, sys.maxsize), self._tokens)
        parts = iter(split_groups(groups, sys.maxsize, most_branches=1))
        return [list(islice(parts, len(group.rollouts))) for group in groups]

    def _idle_part(self) -> Part:
        nothing = Sample(id="", task="", question="", answer=Answer(type="text", value=""))
        prompt = Prompt(sample=nothing, text="", token_ids=(self._pad_id,))
        return Part(prompt=prompt, branches=((self._pad_id,),), rows=())


def without_idle(outputs: PolicyOutputs, packed: PackedBatch) -> PolicyOutputs:
    """The outputs of a micro-batch's rollouts: of an idle one none. They still lead back to every parameter."""
    if not is_idle(packed):
        return outputs
    entropy = None if outputs.entropy is None else outputs.entropy[:0]
    return PolicyOutputs(logprobs=outputs.logprobs[:0], entropy=entropy)


def is_idle(packed: PackedBatch) -> bool:
    """Whether a micro-batch is there only because other ranks have one more."""
    return len(packed.rows) == 0


def _digests(parts: Sequence[Part]) -> list[str]:
    return [item.digest for part in parts if part.prompt.vision is not None for item in part.prompt.vision.items()]
