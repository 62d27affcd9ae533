"""Streams are computed once, for those who asked, and rewards are scored meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from mmrl.algorithms.dapo import DAPO
from mmrl.algorithms.dr_grpo import DR_GRPO
from mmrl.algorithms.grpo import GRPO
from mmrl.batch import PolicyOutputs
from mmrl.curriculum.shuffled import Shuffled
from mmrl.rollout.engine import Sampling
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.training.collect import collect
from mmrl.training.streams import StepStreams
from mmrl.types import Dropped, Prompt, RolloutGroup, Sample, ScoredGroup
from tests import toy

GROUPS = [toy.scored_lengths("a", [1, 0], [2, 3]).group, toy.scored_lengths("b", [1, 0], [4, 1]).group]


class CountingBackend:
    """Log-probability −(100 · row + token), and who was asked how often."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], bool]] = []

    def outputs(
        self,
        groups: Sequence[RolloutGroup],
        *,
        entropy: bool = False,
        disagreement: bool = False,
        reference: bool = False,
    ) -> PolicyOutputs:
        self.calls.append(([g.prompt.sample.id for g in groups], reference))
        rows = [r for g in groups for r in g.rollouts]
        width = max(len(r.token_ids) for r in rows)
        table = torch.zeros(len(rows), width)
        for i, rollout in enumerate(rows):
            base = rollout.token_ids[0] * 100
            table[i, : len(rollout.token_ids)] = -torch.arange(base, base + len(rollout.token_ids)).float()
        return PolicyOutputs(logprobs=table)


def streams_of(algorithm: Any, backend: CountingBackend, minibatches: int = 1) -> StepStreams:
    return StepStreams(backend, algorithm, minibatches=minibatches, decode=str)  # type: ignore[arg-type]


def test_nothing_is_computed_that_no_part_asked_for() -> None:
    backend = CountingBackend()
    streams = streams_of(DR_GRPO, backend)
    assert not streams.worth_preparing
    assembled = streams.assemble(GROUPS)
    assert assembled.old_logprobs is None
    assert assembled.ref_logprobs is None
    assert backend.calls == []


def test_several_updates_need_the_old_policy() -> None:
    backend = CountingBackend()
    assert streams_of(DR_GRPO, backend, minibatches=2).assemble(GROUPS).old_logprobs is not None
    assert backend.calls == [(["a", "b"], False)]


def test_prepared_groups_are_not_computed_again_and_rows_follow_the_rollouts_left() -> None:
    backend = CountingBackend()
    streams = streams_of(GRPO, backend)
    assert streams.worth_preparing
    streams.prepare(GROUPS)
    left = [GROUPS[1], replace(GROUPS[0], rollouts=GROUPS[0].rollouts[1:])]  # one rollout was left out of its group
    reference = streams.assemble(left).ref_logprobs
    assert backend.calls == [(["a", "b"], True)]
    assert reference is not None
    assert reference.tolist() == [
        [-3000.0, -3001.0, -3002.0, -3003.0],
        [-3100.0, 0.0, 0.0, 0.0],
        [-3100.0, -3101.0, -3102.0, 0.0],
    ]


def test_behind_a_filter_streams_wait_until_groups_are_kept() -> None:
    assert not streams_of(DAPO, CountingBackend(), minibatches=2).worth_preparing


class WaitingScorer:
    """Scores only once the model has begun its own passes."""

    def __init__(self, model_began: threading.Event) -> None:
        self._model_began = model_began
        self._pool = ThreadPoolExecutor(1)

    def score(self, groups: Sequence[RolloutGroup]) -> tuple[list[ScoredGroup], list[Dropped]]:
        assert self._model_began.wait(20), "nothing was computed while the rewards ran"
        return [toy.scored(g, [1.0] * len(g.rollouts)) for g in groups], []

    def score_async(self, groups: Sequence[RolloutGroup]) -> Future[tuple[list[ScoredGroup], list[Dropped]]]:
        return self._pool.submit(self.score, groups)

    def metrics(self) -> dict[str, float]:
        return {}


class PlainRenderer:
    def render(self, samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]:
        return [toy.text_prompt(s.id) for s in samples], []


def test_rewards_run_while_the_model_computes() -> None:
    began = threading.Event()
    collected = collect(
        sampler=Shuffled([toy.choice_sample(f"s{i}") for i in range(4)], seed=0),
        renderer=PlainRenderer(),
        engine=ScriptedEngine(lambda sample, index: "x"),
        scorer=WaitingScorer(began),
        algorithm=GRPO,
        sampling=Sampling(group_size=2, max_tokens=8),
        prompts=3,
        max_refills=0,
        step=0,
        meanwhile=lambda groups: began.set(),
    )
    assert len(collected.kept) == 3
