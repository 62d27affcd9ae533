"""How references move, by numbers worked by hand."""

from __future__ import annotations

import pytest
import torch

from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.algorithms.reference import (
    AVERAGE,
    PRECISE,
    REFERENCE,
    ElasticReset,
    EmaReference,
    NoReference,
    PeriodicReference,
)


def values(*numbers: float) -> list[torch.Tensor]:
    return [torch.tensor([n], dtype=torch.float64) for n in numbers]


def test_ema_moves_every_tenth_update() -> None:
    """φ 2, θ 1: 0.995 · 2 + 0.005 · 1 = 1.995."""
    slow, policy = values(2.0), values(1.0)
    rule = EmaReference(decay=0.995, every=10)
    for update in range(1, 10):
        rule.after_update(update, policy, {REFERENCE: slow, PRECISE: slow})
    assert float(slow[0]) == 2.0
    rule.after_update(10, policy, {REFERENCE: slow, PRECISE: slow})
    assert float(slow[0]) == pytest.approx(1.995)
    assert float(policy[0]) == 1.0


def test_a_thousand_updates_leave_six_tenths_of_the_start() -> None:
    slow, policy = values(1.0), values(0.0)
    for update in range(1, 1001):
        EmaReference(decay=0.995, every=10).after_update(update, policy, {REFERENCE: slow, PRECISE: slow})
    assert float(slow[0]) == pytest.approx(0.6058, abs=1e-4)


def test_ema_moves_a_bfloat16_reference_although_each_step_is_below_its_resolution() -> None:
    """From 1 towards the next bfloat16 number, 1.0078125: a hundredth of the difference each time."""
    policy = [torch.tensor([1.0078125], dtype=torch.bfloat16)]
    alone, kept = [torch.tensor([1.0], dtype=torch.bfloat16)], [torch.tensor([1.0], dtype=torch.bfloat16)]
    precise = [kept[0].to(torch.float32)]
    for update in range(1, 101):
        EmaReference(decay=0.99, every=1).after_update(update, policy, {REFERENCE: alone, PRECISE: alone})
        EmaReference(decay=0.99, every=1).after_update(update, policy, {REFERENCE: kept, PRECISE: precise})
    assert float(precise[0]) == pytest.approx(1 + 0.0078125 * (1 - 0.99**100), abs=1e-6)
    assert float(kept[0]) == 1.0078125  # nearer than 1
    assert float(alone[0]) == 1.0  # what would happen without


def test_periodic_reference_becomes_the_policy() -> None:
    slow, policy = values(2.0), values(1.0)
    PeriodicReference(every=3).after_update(2, policy, {REFERENCE: slow})
    assert float(slow[0]) == 2.0
    PeriodicReference(every=3).after_update(3, policy, {REFERENCE: slow})
    assert float(slow[0]) == 1.0


def test_elastic_reset_puts_the_policy_on_its_average_and_the_average_on_the_start() -> None:
    """θ 2, EMA 1.4, start 1: θ 1.4, EMA 1 (with a decay of 1, so that the average is left as given)."""
    policy, average, start = values(2.0), values(1.4), values(1.0)
    ElasticReset(decay=1.0, every=5).after_update(5, policy, {REFERENCE: start, AVERAGE: average})
    assert [float(v[0]) for v in (policy, average, start)] == pytest.approx([1.4, 1.0, 1.0])


def test_no_reference_is_kept_that_no_part_notices() -> None:
    assert ALGORITHMS["dapo"].reference_rule == NoReference()
    assert ALGORITHMS["grpo"].reference_rule == ALGORITHMS["grpo"].reference
    assert isinstance(ALGORITHMS["grpo_care"].reference_rule, EmaReference)
    assert ALGORITHMS["elastic_reset"].reference_rule.copies == (REFERENCE, AVERAGE)
