"""SPO's tracker by numbers worked by hand, and that it remembers through the algorithm."""

from __future__ import annotations

import math

import pytest
import torch

from mmrl.algorithms.spo import SPO
from mmrl.batch import Streams
from mmrl.credit.value_tracker import TrackedValue, initial_counts
from tests import toy
from tests.credit.worked import credit_input


def test_counts_from_rollouts_made_beforehand() -> None:
    a, b = initial_counts(3, 8)
    assert [a, b, a / (a + b)] == pytest.approx([3.111111, 4.888889, 0.388889], abs=1e-6)


def memory_of(a: float, b: float, sample: str = "s") -> dict[str, object]:
    return {"value_tracker": {sample: {"counts": [a, b]}}}


def test_counts_forget_by_how_far_the_policy_moved() -> None:
    """Drift 0.03 would give 2^−0.5 = 0.707: clipped to 0.875. Then a = 0.875 · 3.111111 + 1."""
    streams = Streams(old_logprobs=torch.tensor([[-1.0, -2.0]]))
    table, context = credit_input(
        toy.scored_lengths("s", [1.0], [2]),
        streams=streams,
        memory=memory_of(*initial_counts(3, 8)),
        drift={"s": 0.03},
    )
    after = TrackedValue().remember(table, context)["s"]
    assert after["counts"] == pytest.approx([3.722222, 4.277778], abs=1e-6)
    assert after["counts"][0] / sum(after["counts"]) == pytest.approx(0.465278, abs=1e-6)
    assert after["logprobs"] == [-1.0, -2.0]


@pytest.mark.parametrize(("drift", "rho"), [(0.0, 0.96), (0.003, 0.96), (0.006, 2**-0.1), (1.0, 0.875)])
def test_forgetting_is_bounded_on_both_sides(drift: float, rho: float) -> None:
    table, context = credit_input(
        toy.scored_lengths("s", [0.0], [1]),
        streams=Streams(old_logprobs=torch.zeros(1, 1)),
        memory=memory_of(4, 4),
        drift={"s": drift},
    )
    assert TrackedValue().remember(table, context)["s"]["counts"] == pytest.approx([4 * rho, 4 * rho + 1])


def test_advantage_is_the_whitened_surprise_over_the_value_before() -> None:
    """v = 0.25, 0.5 (never seen); r = 1, 0: surprises 0.75, −0.5; mean 0.125, std 0.883883."""
    groups = [toy.scored_lengths("s", [1.0], [1]), toy.scored_lengths("new", [0.0], [1])]
    table, context = credit_input(*groups, memory=memory_of(2, 6))
    assert TrackedValue()(table, context).tolist() == pytest.approx([0.707107, -0.707107], abs=1e-6)


def test_the_algorithm_hands_its_memory_on_and_asks_for_the_earlier_rollout() -> None:
    group = toy.scored_lengths("s", [1.0], [2])
    streams = Streams(old_logprobs=torch.tensor([[-1.0, -2.0]]))
    assert SPO.revisits([group.group], {}) == []
    memory = SPO.credit([group], streams=streams, max_tokens=4).memory
    (again,) = SPO.revisits([group.group], memory)
    assert again.prompt is group.group.prompt
    assert again.rollouts[0].token_ids == group.group.rollouts[0].token_ids
    assert again.rollouts[0].policy_logprobs == (-1.0, -2.0)
    later = SPO.credit([group], streams=streams, max_tokens=4, memory=memory, drift={"s": 0.0}).memory
    a, b = later["value_tracker"]["s"]["counts"]
    assert [a, b] == pytest.approx([0.96 * (0.96 * 4 + 1) + 1, 0.96 * 0.96 * 4])
    assert math.isfinite(a / (a + b))
