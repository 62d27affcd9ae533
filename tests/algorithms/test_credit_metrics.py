"""What the parts of the credit stage did, by numbers worked by hand; and nothing of slots that are empty."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.batch import Streams
from mmrl.credit.filters import MaskTruncated
from mmrl.training.metrics import metric
from mmrl.types import ScoredGroup
from tests import toy


def measured(name: str, groups: list[ScoredGroup], streams: Streams | None = None, **slots: object) -> dict[str, float]:
    algorithm = replace(ALGORITHMS[name], **slots)  # type: ignore[arg-type]
    found = dict(algorithm.credit(groups, streams=streams or Streams(), max_tokens=10).metrics)
    assert all(metric(key) for key in found)
    return found


def test_apo_reports_whom_it_presses_and_whom_it_frees() -> None:
    """ALGORITHMS' case: one wrong rollout of four is too long by 150 tokens; A = .833333, −.5, −1.166667, .833333."""
    group = toy.scored_lengths("a", [1.5, 0.5, 0.0, 1.5], [100, 300, 150, 200])
    found = measured("apo", [group], Streams(ref_logprobs=torch.zeros(4, 300)))
    size = (2 * 0.833333 + 0.500749 + 1.166667) / 4
    assert found == pytest.approx(
        {
            "credit/advantage_size_mean": size,
            "credit/reweighted_fraction": 0.25,
            "credit/reweight_factor": size / (size - 0.000749 / 4),
            "credit/divergence_weight_mean": (2 * 0.743119 + 2) / 4,
        },
        abs=1e-5,
    )


def test_plain_grpo_has_only_the_size_of_its_advantages() -> None:
    """r = 1, 0, 0, 1: |A| = .865875 each."""
    found = measured("grpo", [toy.scored_lengths("a", [1, 0, 0, 1], [2, 2, 2, 2])])
    assert found == {"credit/advantage_size_mean": pytest.approx(0.865875, abs=1e-6)}


def test_a_bonus_is_counted_and_averaged() -> None:
    """Of 10 tokens at most, the last two cost: 9 tokens −0.5, 10 tokens −1."""
    found = measured("dapo", [toy.scored_lengths("a", [1, 0, 0, 1], [9, 10, 3, 8])])
    assert found["credit/bonus_mean"] == pytest.approx(-1.5 / 4)
    assert found["credit/bonus_fraction"] == 0.5


def test_left_out_rollouts_and_tokens_are_counted() -> None:
    cut = toy.scored_lengths("a", [1, 0, 0, 1], [2, 2, 2, 2])
    rollouts = list(cut.group.rollouts)
    rollouts[1] = replace(toy.rollout([31, 31], index=1, truncated=True), seed=rollouts[1].seed)
    cut = replace(cut, group=replace(cut.group, rollouts=tuple(rollouts)))
    entropy = torch.tensor([[0.1, 0.2], [9.0, 9.0], [0.3, 0.4], [0.5, 0.6]])
    found = measured("high_entropy", [cut], Streams(entropy=entropy), loss_mask=(MaskTruncated(),))
    assert found["credit/masked_fraction"] == 0.25
    assert found["credit/token_weight_zero_fraction"] == pytest.approx(4 / 6)  # the .8-quantile of six is .5
    assert found["credit/token_weight_mean"] == pytest.approx(2 / 6)
