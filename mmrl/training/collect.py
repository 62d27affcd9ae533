"""One step's scored groups: ask, sample, score, and refill what was dropped, within bounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from mmrl.algorithms.algorithm import Algorithm
from mmrl.curriculum.foresee import foresee
from mmrl.curriculum.sampler import BudgetSampler, PromptSampler
from mmrl.ranks import ALONE, Ranks
from mmrl.rollout.engine import LosesGroups, Measures, RolloutEngine, Sampling, Tells
from mmrl.training.planned import Author, asked_groups, twin_groups, with_twins
from mmrl.training.sharing import exchange
from mmrl.types import Dropped, Prompt, RolloutGroup, Sample, ScoredGroup


class Renderer(Protocol):
    """Samples → prompts, and what cannot be shown to the model."""

    def render(self, samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]: ...


@runtime_checkable
class PreparesAhead(Protocol):
    """A renderer that can decode and preprocess media in the background."""

    def prepare(self, samples: Sequence[Sample]) -> None:
        """A hint that these samples are probably rendered next. What `render` returns does not depend on it."""
        ...

    def close(self) -> None:
        """End what goes on in the background."""
        ...


class Scorer(Protocol):
    """The reward runtime."""

    def score(self, groups: Sequence[RolloutGroup]) -> tuple[list[ScoredGroup], list[Dropped]]: ...

    def score_async(self, groups: Sequence[RolloutGroup]) -> Future[tuple[list[ScoredGroup], list[Dropped]]]: ...

    def metrics(self) -> dict[str, float]: ...


@dataclass(slots=True)
class Collected:
    """What a step has to learn from, and everything it left out."""

    kept: list[ScoredGroup] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)  # never became a scored group
    filtered: list[tuple[ScoredGroup, Dropped]] = field(default_factory=list)  # scored, then refused by a filter
    metrics: dict[str, float] = field(default_factory=dict)
    holders: dict[str, int] = field(default_factory=dict)  # sample id → the rank that has its group's pixels
    notices: list[str] = field(default_factory=list)  # what happened to the engines meanwhile
    rollout_seconds: float = 0.0
    reward_seconds: float = 0.0

    @property
    def scored(self) -> list[ScoredGroup]:
        """Every scored group, kept or not."""
        return [*self.kept, *(group for group, _ in self.filtered)]


def collect(
    *,
    sampler: PromptSampler,
    renderer: Renderer,
    engine: RolloutEngine,
    scorer: Scorer,
    algorithm: Algorithm,
    sampling: Sampling,
    prompts: int,
    max_refills: int,
    step: int,
    author: Author | None = None,
    meanwhile: Callable[[Sequence[RolloutGroup]], None] | None = None,
    ranks: Ranks = ALONE,
    sampling_within: Callable[[], AbstractContextManager[None]] = nullcontext,
    clock: Callable[[], float] = time.perf_counter,
) -> Collected:
    """Up to `prompts` groups that media, rewards and filters let through.

    Every dropped group is replaced by one of the next sample, in at most `max_refills` further rounds; a sample is
    asked once per step. A step may end with fewer groups than asked for; it says so in its metrics. `meanwhile` is done
    with a round's groups while they are being scored. With several ranks each asks its share of the samples; what is
    returned is alike on all, but for the pixels of other ranks' groups. Completions are sampled inside
    `sampling_within`.
    """
    out = Collected()
    asked: set[str] = set()
    for _ in range(1 + max_refills):
        wanted = prompts - len(out.kept)
        samples = [s for s in _distinct(sampler.next(wanted)) if s.id not in asked]
        if not samples:
            break
        asked.update(s.id for s in samples)
        began = clock()
        ready, broken = renderer.render(ranks.share(samples))
        if isinstance(renderer, PreparesAhead):
            renderer.prepare(ranks.share(foresee(sampler, prompts)))
        sizes = None
        if isinstance(sampler, BudgetSampler):
            sizes = _budgeted(sampler, samples, ready, each=sampling.group_size, ranks=ranks)
        with sampling_within():
            groups = asked_groups(
                ready, sizes, engine=engine, algorithm=algorithm, sampling=sampling, step=step, by=author
            )
            twins = twin_groups(groups, engine=engine, algorithm=algorithm, sampling=sampling, step=step)
        generated = clock()
        lost = engine.take_dropped() if isinstance(engine, LosesGroups) else []
        notices = engine.take_notices() if isinstance(engine, Tells) else []
        if meanwhile is None:
            scored, failed = scorer.score(groups)
        else:
            scoring = scorer.score_async(groups)
            meanwhile(groups)
            scored, failed = scoring.result()
        out.rollout_seconds += generated - began
        out.reward_seconds += clock() - generated
        metrics = engine.metrics() if isinstance(engine, Measures) else {}
        _merge(metrics, scorer.metrics())
        for view, altered in twins.items():
            compared, unscored = scorer.score(altered)
            _merge(metrics, scorer.metrics())
            failed = [*failed, *unscored]
            scored = with_twins(scored, view, compared)
        everyone = exchange(ranks, [s.id for s in samples], scored, [[*broken, *lost], failed], metrics, notices)
        out.notices += everyone.notices
        _merge(out.metrics, everyone.metrics)
        out.dropped += everyone.dropped
        out.holders |= everyone.holders
        sampler.observe([own for group in everyone.scored if (own := group.own()) is not None])
        for group in everyone.scored:
            refused = algorithm.keep(group)
            if refused is None:
                out.kept.append(group)
            else:
                out.filtered.append((group, refused))
        if len(out.kept) >= prompts:
            break
    return out


def _budgeted(
    sampler: BudgetSampler, samples: Sequence[Sample], ready: Sequence[Prompt], *, each: int, ranks: Ranks
) -> list[int]:
    """Rollouts of each prompt, from a budget that all ranks' prompts share."""
    told = {sample for part in ranks.gather([prompt.sample.id for prompt in ready]) for sample in part}
    all_ready = [sample for sample in samples if sample.id in told]
    sizes = sampler.group_sizes(all_ready, each * len(all_ready)) if all_ready else []
    by_sample = {sample.id: size for sample, size in zip(all_ready, sizes, strict=True)}
    return [by_sample[prompt.sample.id] for prompt in ready]


def _distinct(samples: Sequence[Sample]) -> list[Sample]:
    return list({sample.id: sample for sample in samples}.values())


def _merge(metrics: dict[str, float], more: dict[str, float]) -> None:
    """Counts of a refill add up, times are of the last round; means over all rounds are `rollout_metrics`'."""
    for name, value in more.items():
        if name.endswith("_mean"):
            continue
        counts = name.endswith(("_failed", "_timeouts"))
        metrics[name] = metrics.get(name, 0.0) + value if counts else value
