"""An algorithm is a value: a frozen dataclass of small parts, in a plan and two stages.

    plan       views, demonstrations: what is asked besides the policy's own rollouts of a sample
    credit     filters → shaping → advantage → reweight → divergence_weight, loss_mask
               → token_advantage → token_weights, regularizer_weight
    objective  ratio → surrogate → aggregation,  divergence → divergence_aggregation,  regularizers,  couplings

Credit runs once per step over all rollouts, without gradient. The objective runs per micro-batch and divides by
step-wide totals. The signs: surrogates are maximised, divergences, regularizers and couplings are penalties; the loss

    −agg(token_weight · surrogate) + coef · agg_d(divergence_weight · divergence)
    + Σ agg(regularizer_weight · regularizer) + Σ coupling

Couplings compare rows with each other under the current policy: `couple` runs before each update over all its rows and
leaves their exact value and derivative in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.algorithms.measured import credit_metrics
from mmrl.algorithms.reference import NoReference, Reference
from mmrl.batch import Credited, Need, PolicyOutputs, RewardTable, Streams, Totals, TrainBatch
from mmrl.credit.part import (
    Adaptive,
    Advantage,
    DivergenceWeight,
    GroupFilter,
    LossMask,
    Reweight,
    Shaping,
    StepContext,
    TokenAdvantage,
    TokenWeight,
)
from mmrl.errors import ConfigError
from mmrl.objective.divergence import k3
from mmrl.objective.part import Aggregation, Coupling, Divergence, Ratio, Regularizer, Surrogate
from mmrl.plan.part import Demonstration, View
from mmrl.tensors import masked_sum, pad_rows
from mmrl.types import Dropped, RolloutGroup, Sample, ScoredGroup

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """The loss of one micro-batch, and sums from which the step's metrics are made (detached)."""

    loss: Float[Tensor, ""]  # this micro-batch's share of the step's loss
    surrogate: float  # its parts, same share; couplings count here
    divergence: float
    regularizers: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)  # Σ over loss tokens: clipped, ratio, kl, entropy
    maxima: dict[str, float] = field(default_factory=dict)  # largest over loss tokens: ratio
    tokens: dict[str, Float[Tensor, "B T"]] = field(default_factory=dict)  # ratio, kl, entropy of each token


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """The slots. A published variant is `replace(GRPO, …)`."""

    name: str  # as in the catalogue
    title: str  # as its authors call it
    paper: str  # arXiv number
    summary: str  # one sentence: what differs from GRPO

    views: tuple[View, ...] = ()
    demonstrations: tuple[Demonstration, ...] = ()

    shaping: tuple[Shaping, ...] = ()
    filters: tuple[GroupFilter, ...] = ()
    advantage: Advantage
    reweight: tuple[Reweight, ...] = ()
    divergence_weight: tuple[DivergenceWeight, ...] = ()
    loss_mask: tuple[LossMask, ...] = ()
    token_advantage: TokenAdvantage
    token_weights: tuple[TokenWeight, ...] = ()
    regularizer_weight: tuple[TokenWeight, ...] = ()

    ratio: Ratio
    surrogate: Surrogate
    aggregation: Aggregation
    divergence: Divergence
    divergence_aggregation: Aggregation
    regularizers: tuple[Regularizer, ...] = ()
    couplings: tuple[Coupling, ...] = ()

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
        """Whether some part asks for the reference policy's log-probabilities."""
        return Need.REF_LOGPROBS in self.needs

    @property
    def masked_fraction(self) -> float:
        """How much of the pictures is blackened for the masked policy; 0 where no part asks for it."""
        return max((float(getattr(part, "masked", 0.0)) for part in self.parts), default=0.0)

    @property
    def reference_rule(self) -> Reference:
        """The rule the backend has to follow: none where nobody would notice."""
        return self.reference if self.needs_reference or self.reference.moves_policy else NoReference()

    @property
    def separates_equal_rewards(self) -> bool:
        """Whether some part declares that constant rewards do not silence it (see `credit/part.py`)."""
        return any(getattr(part, "separates_equal_rewards", False) for part in self.parts)

    @property
    def follows_the_step(self) -> tuple[str, ...]:
        """The parts that go from one value to another over the whole run, by name: another `train.steps` moves them."""
        return tuple(type(part).__name__ for part in self.parts if getattr(part, "follows_the_step", False))

    @property
    def learns_entropy(self) -> bool:
        """Whether some part's gradient passes through the entropies; otherwise they are only measured."""
        return any(getattr(part, "learns_entropy", False) for part in self.parts)

    @property
    def stops_gradients(self) -> bool:
        """Whether some part declares that its gradient is, by intent, not the derivative of its value (sg[·])."""
        return any(getattr(part, "stops_gradients", False) for part in self.parts)

    def keep(self, group: ScoredGroup) -> Dropped | None:
        """None if every filter keeps the group; else the first objection."""
        for part in self.filters:
            reason = part(group)
            if reason is not None:
                return Dropped(sample_id=group.group.prompt.sample.id, stage="filter", reason=reason)
        return None

    def idle(self, samples: Sequence[Sample]) -> list[str]:
        """What of the plan finds nothing to work on in these training samples, a sentence each."""
        found = [view.idle(samples) for view in self.views]
        found += [demonstration.idle(samples) for demonstration in self.demonstrations]
        return [sentence for sentence in found if sentence is not None]

    def revisits(self, groups: Sequence[RolloutGroup], memory: Mapping[str, Any]) -> list[RolloutGroup]:
        """Earlier rollouts that adaptive parts want read again with today's policy; usually none."""
        adaptive = [part for part in self.parts if isinstance(part, Adaptive)]
        return [again for part in adaptive for again in part.revisits(groups, memory.get(part.memory_key))]

    @torch.no_grad()
    def credit(
        self,
        scored: Sequence[ScoredGroup],
        *,
        streams: Streams,
        max_tokens: int,
        step: int = 0,
        steps: int = 1,
        memory: Mapping[str, Any] = NOTHING,
        drift: Mapping[str, float] = NOTHING,
        dropped: Sequence[tuple[ScoredGroup, Dropped]] = (),
    ) -> Credited:
        """Turn the rewards of the kept groups into advantages and weights.

        `streams` are [N, T] over the rollouts of `scored` in order, T the longest of their completions. `memory` is
        what `Credited.memory` of the step before was, `drift` what came of `revisits`. `dropped` are the groups that
        `keep` refused; they pass through to the traces.
        """
        table = RewardTable.of(scored)
        rollouts = [rollout for group in scored for rollout in group.group.rollouts]
        width = int(table.length.max())
        mask = torch.arange(width)[None, :] < table.length[:, None]  # [N, T]
        context = StepContext(
            streams=streams,
            mask=mask,
            max_tokens=max_tokens,
            step=step,
            steps=steps,
            memory=memory,
            drift=drift,
        )
        paid = table.total
        for shaping in self.shaping:
            table = replace(table, total=table.total + shaping(table, context).to(table.total.dtype))
        plain = advantages = self.advantage(table, context)
        for reweight in self.reweight:
            advantages = reweight(advantages, table, context)
        divergence_weight = torch.ones_like(advantages)
        for weight in self.divergence_weight:
            divergence_weight = divergence_weight * weight(advantages, table, context)
        for loss_mask in self.loss_mask:
            mask = mask & (loss_mask(advantages, table, context) > 0)[:, None]
        context = replace(context, mask=mask)
        token_advantages = self.token_advantage(advantages, table, context)
        token_weights, regularizer_weight = torch.ones(mask.shape), torch.ones(mask.shape)
        for token_weight in self.token_weights:
            token_weights = token_weights * token_weight(token_advantages, table, context)
        for token_weight in self.regularizer_weight:
            regularizer_weight = regularizer_weight * token_weight(token_advantages, table, context)
        adaptive = [part for part in self.parts if isinstance(part, Adaptive)]
        batch = TrainBatch(
            loss_mask=mask,
            group=table.group,
            accuracy=table.accuracy,
            advantages=advantages,
            token_advantages=token_advantages,
            token_weights=token_weights,
            divergence_weight=divergence_weight,
            regularizer_weight=regularizer_weight,
            coupling_slope=torch.zeros(mask.shape),
            coupling_level=torch.zeros(len(mask)),
            engine_logprobs=pad_rows([r.policy_logprobs for r in rollouts], width),
            streams=streams,
            max_tokens=float(max_tokens),
        )
        return Credited(
            groups=tuple(scored),
            batch=batch,
            dropped=tuple(dropped),
            memory={**memory, **{part.memory_key: part.remember(table, context) for part in adaptive}},
            metrics=credit_metrics(self, batch, bonus=table.total - paid, plain=plain, own=table.own),
        )

    def couple(self, batch: TrainBatch, logprobs: Float[Tensor, "B T"], totals: Totals) -> TrainBatch:
        """Put the couplings' value and derivative at these log-probabilities into the batch of one whole update.

        The loss of a row is then level + Σ slope · log π, which has the couplings' value and gradient at this policy.
        """
        with torch.enable_grad():
            leaf = logprobs.detach().requires_grad_()
            value = torch.stack([coupling(leaf, batch, totals) for coupling in self.couplings]).sum()
            (slope,) = torch.autograd.grad(value, leaf)
        slope = slope.masked_fill(~batch.loss_mask, 0.0)
        level = value.detach() / len(logprobs) - masked_sum(slope * leaf.detach(), batch.loss_mask)
        return replace(batch, coupling_slope=slope, coupling_level=level)

    def loss(self, outputs: PolicyOutputs, batch: TrainBatch, totals: Totals) -> LossTerms:
        """This micro-batch's share of the step's loss. `batch` holds the same rows as `outputs`.

        Without `old_logprobs` in the streams the step makes a single update, so the old policy *is* the policy: the
        ratio is exp(lp − sg[lp]), 1 in value with the gradient of lp.
        """
        mask = batch.loss_mask
        old = batch.streams.old_logprobs if batch.streams.old_logprobs is not None else outputs.logprobs.detach()
        log_ratio = self.ratio(outputs.logprobs, old, mask)
        advantages = batch.token_advantages.to(log_ratio.dtype)
        objective, clipped = self.surrogate(log_ratio, advantages, outputs.logprobs)
        surrogate = -self.aggregation(objective * batch.token_weights, mask, totals)
        if self.couplings:
            coupled = masked_sum(batch.coupling_slope * outputs.logprobs, mask) + batch.coupling_level
            surrogate = surrogate + coupled.sum()
        loss = surrogate
        divergence = torch.zeros(())
        kl = torch.zeros_like(outputs.logprobs)
        if batch.streams.ref_logprobs is not None:
            kl = k3(outputs.logprobs.detach(), batch.streams.ref_logprobs)
            penalty = self.divergence(outputs.logprobs, batch.streams.ref_logprobs)
            weighted = penalty * batch.divergence_weight[:, None]
            divergence = self.divergence.coef * self.divergence_aggregation(weighted, mask, totals)
            loss = loss + divergence
        regularizers = torch.zeros(())
        for regularizer in self.regularizers:
            weighted = regularizer(outputs, batch) * batch.regularizer_weight
            regularizers = regularizers + self.aggregation(weighted, mask, totals)
        if self.regularizers:
            loss = loss + regularizers
        with torch.no_grad():
            ratio = log_ratio.exp()
            tokens = {"ratio": ratio}
            if batch.streams.ref_logprobs is not None:
                tokens["kl"] = kl
            if outputs.entropy is not None:
                tokens["entropy"] = outputs.entropy.detach()
            sums = {"clipped": clipped.float(), "kl": kl, **tokens}
            maxima = {"ratio": ratio}
            return LossTerms(
                loss=loss,
                surrogate=float(surrogate.detach()),
                divergence=float(divergence.detach()),
                regularizers=float(regularizers.detach()),
                sums={name: float(masked_sum(value, mask).sum()) for name, value in sums.items()},
                maxima={
                    name: float(value.masked_fill(~mask, -torch.inf).max()) if mask.any() else 0.0
                    for name, value in maxima.items()
                },
                tokens={name: value.detach() for name, value in tokens.items()},
            )
