"""SPO's baseline: what each sample's pass rate was believed to be before this rollout. arXiv:2509.13232."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.batch import Need, RewardTable
from mmrl.credit.part import StepContext
from mmrl.types import RolloutGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedValue:
    """A_i = whitened (r_i − v), v = a/(a + b) from the sample's counts *before* this step.

    After the step the counts forget at a pace set by how far the policy moved on the sample's previous rollout:

        D = mean_t |log π then − log π now|,  ρ = clip(2^{−D/half}, least, most),  a ← ρa + r,  b ← ρb + (1 − r)

    half 0.06, least 0.875, most 0.96 and the whitening's 1e-8 are the authors' code's. Rewards must be in [0, 1]. They
    seed the counts with 8 rollouts per sample made beforehand (`initial_counts`); a sample without any starts at
    `first_value` with weight 1/(1 − least) = 8, our choice. A group of several rollouts updates by their mean.
    """

    half: float = 0.06
    least: float = 0.875
    most: float = 0.96
    first_value: float = 0.5
    eps: float = 1e-8
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OLD_LOGPROBS})
    memory_key: ClassVar[str] = "value_tracker"
    separates_equal_rewards: ClassVar[bool] = True

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        values = torch.tensor([self.value(context, sample) for sample in table.sample])
        surprise = table.total - values[table.group]
        centred = surprise - surprise[0]
        centred = centred - centred.mean()
        spread = (centred**2).sum().div(max(len(centred) - 1, 1)).sqrt()
        return centred / (spread + self.eps)

    def value(self, context: StepContext, sample: str) -> float:
        """The believed pass rate of a sample."""
        a, b = self._counts(context, sample)
        return a / (a + b)

    def remember(self, table: RewardTable, context: StepContext) -> Any:
        """Per sample: counts, and one rollout with its log-probabilities to measure the next drift by."""
        assert context.streams.old_logprobs is not None
        memory: dict[str, Any] = dict(context.memory.get(self.memory_key, {}))
        for group, sample in enumerate(table.sample):
            rows = (table.group == group).nonzero().squeeze(1)
            reward = float(table.total[rows].mean())
            rho = min(self.most, max(self.least, 2.0 ** (-context.drift.get(sample, 0.0) / self.half)))
            a, b = self._counts(context, sample)
            last, length = int(rows[0]), int(table.length[rows[0]])
            memory[sample] = {
                "counts": [rho * a + reward, rho * b + 1 - reward],
                "tokens": table.token_ids[last, :length].tolist(),
                "logprobs": context.streams.old_logprobs[last, :length].tolist(),
            }
        return memory

    def revisits(self, groups: Sequence[RolloutGroup], memory: Any) -> list[RolloutGroup]:
        again = []
        for group in groups:
            known = (memory or {}).get(group.prompt.sample.id, {})
            if "tokens" in known:
                logprobs = tuple(known["logprobs"])
                before = replace(
                    group.rollouts[0],
                    token_ids=tuple(known["tokens"]),
                    policy_logprobs=logprobs,
                    behavior_logprobs=logprobs,
                    index=0,
                )
                again.append(RolloutGroup(prompt=group.prompt, rollouts=(before,)))
        return again

    def _counts(self, context: StepContext, sample: str) -> tuple[float, float]:
        known = context.memory.get(self.memory_key, {}).get(sample)
        if known is not None:
            a, b = known["counts"]
            return float(a), float(b)
        weight = 1 / (1 - self.least)
        return weight * self.first_value, weight * (1 - self.first_value)


def initial_counts(correct: int, rollouts: int, *, least: float = 0.875) -> tuple[float, float]:
    """(a, b) of a sample that was right `correct` times of `rollouts` before training."""
    weight = 1 / (1 - least)
    return weight * (correct + 0.5) / (rollouts + 1), weight * (rollouts - correct + 0.5) / (rollouts + 1)
