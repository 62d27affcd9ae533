"""GRPO-CARE's consistency bonus: among accurate rollouts, those whose answer follows from their reasoning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmrl.batch import Need, RewardTable
from mmrl.credit.answer_span import ANSWER, TAG_END
from mmrl.credit.part import StepContext
from mmrl.errors import ConfigError, unknown_name
from mmrl.tensors import group_deviation, group_sum, masked_mean

LIKELIHOODS = ("geometric", "arithmetic")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyBonus:
    """coef · accuracy for accurate rollouts whose answer the reference finds at least as likely as its peers do.

    p_i   likelihood of the answer's tokens under the slow reference, given prompt *and* reasoning, at most `cap`
    H     accurate rollouts of the group: accuracy > `least_accuracy` and ≥ the group's mean
    μ     mean of p over H
    bonus = coef · accuracy_i  where i is in H and p_i ≥ μ − `margin`, else 0

    GRPO-CARE, arXiv:2506.16141; coef 0.5, cap 0.95, least_accuracy 0.1 are the paper's and the code's; margin is 0 in
    the code for SEED-Bench-R1, 0.01 for general video. `likelihood` "geometric" (exp of the mean log-probability) is
    the code's, "arithmetic" (mean probability) the paper's. `span_includes_gt`: the code's span begins with the token
    that ends "<answer>", of probability near 1, which takes a one-letter answer from p to √p.

    A rollout in which no answer span is found is never in H. (In the code it gets p = 1, which only accuracy 0 makes
    harmless.) Groups are compared within themselves, whatever else is in the step.
    """

    coef: float = 0.5
    cap: float = 0.95
    margin: float = 0.0
    least_accuracy: float = 0.1
    likelihood: str = "geometric"
    span_includes_gt: bool = True
    needs: ClassVar[frozenset[Need]] = frozenset({Need.REF_LOGPROBS, Need.ANSWER_SPAN})
    separates_equal_rewards: ClassVar[bool] = True  # all-correct groups still learn: the bonus tells them apart

    def __post_init__(self) -> None:
        if self.likelihood not in LIKELIHOODS:
            raise ConfigError(f"shaping.likelihood: {unknown_name('likelihood', self.likelihood, LIKELIHOODS)}")

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        logprobs, span = context.streams.ref_logprobs, context.streams.answer_span
        assert logprobs is not None
        assert span is not None
        found = (span == ANSWER).any(dim=1)
        p = answer_likelihood(
            logprobs, span, arithmetic=self.likelihood == "arithmetic", with_tag_end=self.span_includes_gt
        ).clamp(max=self.cap)
        deviation = group_deviation(table.accuracy, table.group, table.groups)
        accurate: Bool[Tensor, " N"] = found & (table.accuracy > self.least_accuracy) & (deviation >= 0)
        counted = accurate.to(p.dtype)
        sums = group_sum(p * counted, table.group, table.groups)
        mean = sums / group_sum(counted, table.group, table.groups).clamp(min=1)
        # A hair of tolerance: the mean of equal likelihoods must not exceed them by rounding.
        consistent = accurate & (p >= mean[table.group] - self.margin - 1e-6)
        return torch.where(consistent, self.coef * table.accuracy, 0.0)


def answer_likelihood(
    logprobs: Float[Tensor, "N T"], span: Int[Tensor, "N T"], *, arithmetic: bool, with_tag_end: bool
) -> Float[Tensor, " N"]:
    """Per-token likelihood of each rollout's answer: exp of the mean log-probability, or the mean probability."""
    inside = (span == ANSWER) | ((span == TAG_END) & with_tag_end)
    return masked_mean(logprobs.exp(), inside) if arithmetic else masked_mean(logprobs, inside).exp()
