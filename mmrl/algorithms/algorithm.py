"""An algorithm is a value: a frozen dataclass of small parts, in two stages.

    credit     shaping → filters → advantage → reweight → divergence_weight, loss_mask, token_weights
    objective  ratio → surrogate → aggregation,  divergence → divergence_aggregation,  regularizers

Credit runs once per step over all rollouts, without gradient. The objective runs per micro-batch and divides by
step-wide totals. The signs: surrogates are maximised, divergences and regularizers are penalties; the loss is

    loss = −agg(token_weight · surrogate) + coef · agg_d(divergence_weight · divergence) + Σ agg(regularizer)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.algorithms.reference import FrozenReference, NoReference, Reference
from mmrl.batch import Credited, Need, PolicyOutputs, RewardTable, Streams, Totals, TrainBatch
from mmrl.credit.part import Advantage, DivergenceWeight, GroupFilter, LossMask, Reweight, Shaping, TokenWeight
from mmrl.errors import ConfigError
from mmrl.objective.part import Aggregation, Divergence, Ratio, Regularizer, Surrogate
from mmrl.tensors import masked_sum, pad_rows
from mmrl.types import Dropped, ScoredGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """The loss of one micro-batch, and sums from which the step's metrics are made (detached)."""

    loss: Float[Tensor, ""]  # this micro-batch's share of the step's loss
    surrogate: float  # its parts, same share
    divergence: float
    sums: dict[str, float] = field(default_factory=dict)  # Σ over loss tokens: clipped, ratio, kl, entropy, engine_gap
    maxima: dict[str, float] = field(default_factory=dict)  # largest over loss tokens: ratio, engine_gap


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """The slots. A published variant is `replace(GRPO, …)`."""

    name: str  # as in the catalogue
    title: str  # as its authors call it
    paper: str  # arXiv number
    summary: str  # one sentence: what differs from GRPO

    shaping: tuple[Shaping, ...] = ()
    filters: tuple[GroupFilter, ...] = ()
    advantage: Advantage
    reweight: tuple[Reweight, ...] = ()
    divergence_weight: tuple[DivergenceWeight, ...] = ()
    loss_mask: tuple[LossMask, ...] = ()
    token_weights: tuple[TokenWeight, ...] = ()

    ratio: Ratio
    surrogate: Surrogate
    aggregation: Aggregation
    divergence: Divergence
    divergence_aggregation: Aggregation
    regularizers: tuple[Regularizer, ...] = ()

    reference: Reference

    def __post_init__(self) -> None:
        if Need.REF_LOGPROBS in self.needs and isinstance(self.reference, NoReference):
            raise ConfigError(
                f"algorithm {self.name!r}: a part needs a reference policy, but `reference` is none. "
                "Set reference: {type: frozen}, or divergence: {type: none}."
            )

    @property
    def parts(self) -> tuple[Any, ...]:
        """Every part in every slot."""
        found: list[Any] = []
        for slot in fields(self):
            if slot.name not in ("name", "title", "paper", "summary", "reference"):
                value = getattr(self, slot.name)
                found.extend(value if isinstance(value, tuple) else (value,))
        return tuple(found)

    @property
    def needs(self) -> frozenset[Need]:
        """The union of what the parts need: the loop computes this and nothing else."""
        return frozenset().union(*(part.needs for part in self.parts))

    @property
    def needs_reference(self) -> bool:
        """Whether a reference policy has to be kept."""
        return Need.REF_LOGPROBS in self.needs and isinstance(self.reference, FrozenReference)

    def keep(self, group: ScoredGroup) -> Dropped | None:
        """None if every filter keeps the group; else the first objection."""
        for part in self.filters:
            reason = part(group)
            if reason is not None:
                return Dropped(sample_id=group.group.prompt.sample.id, stage="filter", reason=reason)
        return None

    @torch.no_grad()
    def credit(
        self,
        scored: Sequence[ScoredGroup],
        *,
        streams: Streams,
        max_tokens: int,
        dropped: Sequence[tuple[ScoredGroup, Dropped]] = (),
    ) -> Credited:
        """Turn the rewards of the kept groups into advantages and weights.

        `streams` are [N, T] over the rollouts of `scored` in order, T the longest of their completions. `dropped` are
        the groups that `keep` refused; they pass through to the traces.
        """
        table = RewardTable.of(scored)
        for shaping in self.shaping:
            table = replace(table, total=table.total + shaping(table, max_tokens))
        advantages = self.advantage(table)
        for reweight in self.reweight:
            advantages = reweight(advantages, table)
        divergence_weight = torch.ones_like(advantages)
        for weight in self.divergence_weight:
            divergence_weight = divergence_weight * weight(advantages, table)

        rollouts = [rollout for group in scored for rollout in group.group.rollouts]
        width = int(table.length.max())
        mask = torch.arange(width)[None, :] < table.length[:, None]  # [N, T]
        for loss_mask in self.loss_mask:
            mask = mask & (loss_mask(table) > 0)[:, None]
        token_weights = torch.ones(mask.shape)
        for token_weight in self.token_weights:
            token_weights = token_weights * token_weight(advantages, table, streams)
        return Credited(
            groups=tuple(scored),
            batch=TrainBatch(
                loss_mask=mask,
                advantages=advantages,
                token_weights=token_weights,
                divergence_weight=divergence_weight,
                engine_logprobs=pad_rows([r.policy_logprobs for r in rollouts], width),
                streams=streams,
                max_tokens=float(max_tokens),
            ),
            dropped=tuple(dropped),
        )

    def loss(self, outputs: PolicyOutputs, batch: TrainBatch, totals: Totals) -> LossTerms:
        """This micro-batch's share of the step's loss. `batch` holds the same rows as `outputs`.

        Without `old_logprobs` in the streams the step makes a single update, so the old policy *is* the policy: the
        ratio is exp(lp − sg[lp]), 1 in value with the gradient of lp.
        """
        mask = batch.loss_mask
        old = batch.streams.old_logprobs if batch.streams.old_logprobs is not None else outputs.logprobs.detach()
        log_ratio = self.ratio(outputs.logprobs, old, mask)
        objective, clipped = self.surrogate(log_ratio, batch.advantages[:, None])
        surrogate = -self.aggregation(objective * batch.token_weights, mask, totals)
        loss = surrogate
        divergence = torch.zeros(())
        kl = torch.zeros_like(outputs.logprobs)
        if batch.streams.ref_logprobs is not None:
            kl = self.divergence(outputs.logprobs, batch.streams.ref_logprobs)
            weighted = kl * batch.divergence_weight[:, None]
            divergence = self.divergence.coef * self.divergence_aggregation(weighted, mask, totals)
            loss = loss + divergence
        for regularizer in self.regularizers:
            loss = loss + self.aggregation(regularizer(outputs, batch), mask, totals)
        with torch.no_grad():
            ratio = log_ratio.exp()
            gap = (outputs.logprobs - batch.engine_logprobs).abs()
            sums = {"clipped": clipped.float(), "ratio": ratio, "kl": kl, "engine_gap": gap}
            if outputs.entropy is not None:
                sums["entropy"] = outputs.entropy
            maxima = {"ratio": ratio, "engine_gap": gap}
            return LossTerms(
                loss=loss,
                surrogate=float(surrogate.detach()),
                divergence=float(divergence.detach()),
                sums={name: float(masked_sum(value, mask).sum()) for name, value in sums.items()},
                maxima={
                    name: float(value.masked_fill(~mask, -torch.inf).max()) if mask.any() else 0.0
                    for name, value in maxima.items()
                },
            )
