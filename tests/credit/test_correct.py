"""One rule for a yes or no about a graded answer, wherever it is asked: correct from an accuracy of 0.5 upwards."""

from __future__ import annotations

import torch

from mmrl.algorithms.catalog import ALGORITHMS, PARTS
from mmrl.batch import RewardTable, Streams
from mmrl.credit.absolute import SignedCorrectness
from mmrl.credit.filters import MixedCorrectness, SomeWrong
from mmrl.credit.part import StepContext
from mmrl.evaluation.result import EvaluationSettings
from mmrl.training.metrics import rollout_metrics
from mmrl.types import CORRECT_AT, RolloutGroup, ScoredGroup
from tests import toy


def graded(*accuracy: float) -> ScoredGroup:
    rollouts = tuple(toy.rollout([5], index=i) for i in range(len(accuracy)))
    group = RolloutGroup(prompt=toy.text_prompt("g"), rollouts=rollouts)
    return toy.scored(group, [1.0] * len(accuracy), accuracy=accuracy)


def test_half_is_correct_for_learners_filters_metrics_and_evaluation() -> None:
    half = graded(0.5, 0.5)
    table = RewardTable.of([half])
    context = StepContext(streams=Streams(), mask=torch.ones(2, 1, dtype=torch.bool), max_tokens=4)
    assert SignedCorrectness(right=1.0, wrong=1.0)(table, context).tolist() == [1.0, 1.0]
    assert MixedCorrectness()(half) == SomeWrong()(half) == "all correct"
    assert rollout_metrics([half])["group/all_correct_fraction"] == 1.0
    assert EvaluationSettings.__dataclass_fields__["correct_at"].default == CORRECT_AT == 0.5


def test_less_than_half_is_not() -> None:
    less = graded(0.499, 0.0)
    assert MixedCorrectness()(less) == "all wrong"
    assert rollout_metrics([less])["group/all_wrong_fraction"] == 1.0


def test_every_part_that_asks_takes_the_rule_as_its_default() -> None:
    kinds = {kind for slot in PARTS.values() for kind in slot.values()}
    asking = [kind for kind in kinds if "threshold" in getattr(kind, "__dataclass_fields__", {})]
    assert len(asking) >= 7
    assert all(kind.__dataclass_fields__["threshold"].default == CORRECT_AT for kind in asking)
    assert all(getattr(p, "threshold", CORRECT_AT) == CORRECT_AT for a in ALGORITHMS.values() for p in a.parts)
