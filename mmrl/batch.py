"""The tensors of one training step.

Axis letters, here and everywhere:
    N rollouts of the step (all groups, one after the other)      G rollouts of one group
    B rows of a micro-batch (a selection of the N rollouts)       T completion tokens (padded on the right)
    V vocabulary        P prompt tokens        R packed rows      L tokens of a packed row

`RewardTable` is what credit reads, `TrainBatch` what it produces, `PolicyOutputs` what a forward pass returns, `Totals`
the denominators. Losses divide by `Totals` of the whole optimiser step, never by what a micro-batch happens to hold:
that is why splitting, sharding, packing and padding cannot change a loss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmrl.types import Dropped, ScoredGroup


class Need(StrEnum):
    """A per-token stream a part wants the loop to compute for the step; nothing is computed that no part names."""

    OLD_LOGPROBS = "old_logprobs"  # only needed when a step makes several updates; otherwise old = current
    REF_LOGPROBS = "ref_logprobs"  # loads the algorithm's reference policy
    ENTROPY = "entropy"  # of the policy at the start of the step
    ANSWER_SPAN = "answer_span"  # which tokens hold the answer
    MASKED_LOGPROBS = "masked_logprobs"  # of the policy at the start of the step, its pictures partly blackened
    DISAGREEMENT = "disagreement"  # of the group's next-token distributions; costs another head pass


NO_NEEDS: frozenset[Need] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOutputs:
    """What a pass over completions returns. Values outside the mask are 0."""

    logprobs: Float[Tensor, "B T"]  # natural log, untempered
    entropy: Float[Tensor, "B T"] | None = None  # nats of the next-token distribution; None unless asked for
    disagreement: Float[Tensor, "B T"] | None = None  # of the group at this position; None unless asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Per-token quantities of the step that some part asked for (`Need`); None: nobody did."""

    old_logprobs: Float[Tensor, "N T"] | None = None  # trainer's policy at the start of the step
    ref_logprobs: Float[Tensor, "N T"] | None = None  # reference policy
    entropy: Float[Tensor, "N T"] | None = None  # of the policy at the start of the step, nats
    masked_logprobs: Float[Tensor, "N T"] | None = None  # the same policy's, had it seen pictures partly blackened
    answer_span: Int[Tensor, "N T"] | None = None  # of each token, as `credit/answer_span.py` says
    disagreement: Float[Tensor, "N T"] | None = None  # of the group at each position, by the policy at the step's start


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTable:
    """The step's rewards, one entry per rollout. Group g holds the rollouts with `group == g`."""

    total: Float[Tensor, " N"]  # Σ weight · value, shaping added
    parts: Mapping[str, Float[Tensor, " N"]]  # per reward, unweighted; 0 where a task does not use it
    accuracy: Float[Tensor, " N"]  # correctness channel in [0, 1]
    group: Int[Tensor, " N"]  # 0 … number of groups − 1
    length: Int[Tensor, " N"]  # completion tokens, end token included
    truncated: Bool[Tensor, " N"]  # cut at max_tokens
    answer: Int[Tensor, " N"]  # rollouts of one group that gave the same final answer share a number
    seed: Int[Tensor, " N"]  # the rollout's own: what is drawn at random about its tokens derives from this
    token_ids: Int[Tensor, "N T"]  # the completions; −1 beyond their ends
    sample: tuple[str, ...]  # per group: its sample's id
    own: Bool[Tensor, " N"]  # written by the policy; False: a demonstration
    twins: Mapping[str, Float[Tensor, " K"]]  # view → mean accuracy of each group's twin; NaN where it has none

    @property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.group.max()) + 1 if len(self.group) else 0

    @classmethod
    def of(cls, scored: Sequence[ScoredGroup]) -> RewardTable:
        """Collect the rewards of scored groups, in their order."""
        flat = [(g, s, i) for g, s in enumerate(scored) for i in range(len(s.totals))]
        rollouts = [s.group.rollouts[i] for _, s, i in flat]
        names = sorted({name for _, s, i in flat for name in s.results[i]})

        def part(name: str) -> Tensor:
            found = [s.results[i].get(name) for _, s, i in flat]
            return torch.tensor([r.value if r is not None else 0.0 for r in found], dtype=torch.float32)

        return cls(
            total=torch.tensor([s.totals[i] for _, s, i in flat], dtype=torch.float32),
            parts={name: part(name) for name in names},
            accuracy=torch.tensor([s.accuracy[i] for _, s, i in flat], dtype=torch.float32),
            group=torch.tensor([g for g, _, _ in flat], dtype=torch.long),
            length=torch.tensor([len(r.token_ids) for r in rollouts], dtype=torch.long),
            truncated=torch.tensor([r.truncated for r in rollouts], dtype=torch.bool),
            answer=_answer_numbers([(g, r.completion.text) for (g, _, _), r in zip(flat, rollouts, strict=True)]),
            seed=torch.tensor([r.seed % 2**63 for r in rollouts], dtype=torch.long),
            token_ids=_pad_ids([r.token_ids for r in rollouts]),
            sample=tuple(s.group.prompt.sample.id for s in scored),
            own=torch.tensor([r.own for r in rollouts], dtype=torch.bool),
            twins={
                view: torch.tensor([_mean_accuracy(s.twins.get(view)) for s in scored])
                for view in sorted({view for s in scored for view in s.twins})
            },
        )


def _mean_accuracy(group: ScoredGroup | None) -> float:
    return math.nan if group is None else sum(group.accuracy) / len(group.accuracy)


def _pad_ids(rows: Sequence[Sequence[int]]) -> Int[Tensor, "N T"]:
    """Ragged token ids, −1 on the right of each row's end."""
    out = torch.full((len(rows), max((len(row) for row in rows), default=0)), -1, dtype=torch.long)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return out


_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)


def _answer_numbers(texts: Sequence[tuple[int, str]]) -> Int[Tensor, " N"]:
    """Number the distinct (group, final answer) pairs.

    The final answer is what the last <answer> block holds, or the whole text where there is none; case and spaces do
    not tell two answers apart.
    """
    numbers: dict[tuple[int, str], int] = {}
    found = []
    for group, text in texts:
        blocks = _ANSWER.findall(text)
        answer = " ".join((blocks[-1] if blocks else text).lower().split())
        found.append(numbers.setdefault((group, answer), len(numbers)))
    return torch.tensor(found, dtype=torch.long)


AddUp = Callable[[Tensor], Tensor]  # own share → sum over all ranks, in value; its derivative is that of the own share


def alone(share: Tensor) -> Tensor:
    """`AddUp` of a single process: there is nobody else."""
    return share


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Denominators of one optimiser step, over all its micro-batches and ranks. A group is never split over ranks."""

    tokens: float  # completion tokens that carry loss
    rollouts: float  # rollouts, those without a single loss token included
    groups: float  # groups
    max_tokens: float  # the configured longest completion
    add_up: AddUp = alone  # for sums that enter a loss other than linearly

    @classmethod
    def of(cls, batch: TrainBatch, add_up: AddUp = alone) -> Totals:
        """Totals of everything in `batch` and, by `add_up`, in the batches that other ranks hold of the same step."""
        own = [float(batch.loss_mask.sum()), float(len(batch.loss_mask)), float(len(batch.group.unique()))]
        tokens, rollouts, groups = add_up(torch.tensor(own, dtype=torch.float64)).tolist()
        return cls(tokens=tokens, rollouts=rollouts, groups=groups, max_tokens=batch.max_tokens, add_up=add_up)

    def share(self, value: Float[Tensor, ""], rows: int) -> Float[Tensor, ""]:
        """What a rank with `rows` rollouts adds of a value that all ranks computed alike by `add_up`.

        The shares of all ranks sum to the value; each has the value's whole derivative by the rank's own rows.
        """
        return value - value.detach() + value.detach() * (rows / max(self.rollouts, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainBatch:
    """Rollouts with the credit they were given: everything an objective needs besides the policy itself."""

    loss_mask: Bool[Tensor, "B T"]  # tokens the policy wrote and is trained on
    group: Int[Tensor, " B"]  # which group of the step: rows of one group may be in different micro-batches
    accuracy: Float[Tensor, " B"]  # correctness channel in [0, 1]
    advantages: Float[Tensor, " B"]  # relative to the baseline, after reweighting: what traces show
    token_advantages: Float[Tensor, "B T"]  # what the surrogate reads; the rollout's own unless a part says otherwise
    token_weights: Float[Tensor, "B T"]  # multiplies the surrogate; 1 unless a part says otherwise
    divergence_weight: Float[Tensor, " B"]  # multiplies the divergence; 1 unless a part says otherwise
    regularizer_weight: Float[Tensor, "B T"]  # multiplies the regularizers; 1 unless a part says otherwise
    coupling_slope: Float[Tensor, "B T"]  # of the couplings, by log-probability; 0 until `Algorithm.couple` ran
    coupling_level: Float[Tensor, " B"]  # the row's share of the couplings' value, less slope · log-probabilities
    engine_logprobs: Float[Tensor, "B T"]  # the engine's untempered log-probabilities; NaN: none (a demonstration)
    streams: Streams
    max_tokens: float  # the configured longest completion

    def select(self, rows: Int[Tensor, " b"], *, width: int | None = None) -> TrainBatch:
        """The batch of these rollouts only, in this order; cut to `width` tokens where all of them are shorter."""
        return self._map(lambda t: t[rows][:, :width] if t.dim() == 2 else t[rows])

    def to(self, device: torch.device) -> TrainBatch:
        """The same batch on another device."""
        return self._map(lambda t: t.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> TrainBatch:
        streams = {f.name: getattr(self.streams, f.name) for f in fields(Streams)}
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {name: change(t) for name, t in tensors.items() if isinstance(t, Tensor)}
        changed["streams"] = Streams(**{name: None if t is None else change(t) for name, t in streams.items()})
        return replace(self, **changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited:
    """What the credit stage hands to the update and to the traces."""

    groups: tuple[ScoredGroup, ...]  # kept groups, in order; their rollouts are the rows of `batch`
    batch: TrainBatch
    dropped: tuple[tuple[ScoredGroup, Dropped], ...]  # groups a filter removed, with its reason
    memory: Mapping[str, Any] = field(default_factory=dict)  # what adaptive parts know after this step
    metrics: Mapping[str, float] = field(default_factory=dict)  # what the parts did: `credit/…` of the step's metrics
