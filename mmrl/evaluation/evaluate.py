"""Evaluates a policy on samples: one greedy completion each for accuracy, n sampled ones for pass@k; or sampled alone.

Rule of the denominators: every sample counts. One that could not be asked or scored (a picture that will not open, a
group that was dropped) is wrong in accuracy and pass@k, is listed with its reason, and is never left out of a mean that
models are compared by. So does every completion: one that a failing reward took out of its group is a wrong one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from statistics import fmean
from typing import Any, Protocol

from mmrl.errors import DataError
from mmrl.evaluation.measures import LIKELIHOOD, MEASURES, measured, unanswered
from mmrl.evaluation.result import EvaluationResult, EvaluationSettings, SampleRow
from mmrl.evaluation.summary import result_of
from mmrl.evaluation.votes import vote_of
from mmrl.progress import Progress, SilentProgress
from mmrl.ranks import ALONE, Ranks, by_rank
from mmrl.rollout.engine import LosesGroups, RolloutEngine, Sampling, Tells
from mmrl.types import Dropped, Prompt, RewardStatus, RolloutGroup, Sample, ScoredGroup

PLACES = ("box", "boxes", "point", "span", "spans")  # answers whose numbers mean something by the media's views only

ORDERING = "ordering"  # the reward to which the order of options is the answer

Render = Callable[[Sequence[Sample]], tuple[list[Prompt], list[Dropped]]]
Likelihoods = Callable[[Sequence[RolloutGroup]], Sequence[Sequence[float | None]]]  # per rollout; None: no answer found
OnScored = Callable[[Sequence[ScoredGroup], Sequence[Dropped]], None]


class Scorer(Protocol):
    """What evaluation needs of the reward runtime."""

    def score(self, groups: Sequence[RolloutGroup]) -> tuple[list[ScoredGroup], list[Dropped]]: ...


def evaluate(
    samples: Sequence[Sample],
    *,
    render: Render,
    engine: RolloutEngine,
    scorer: Scorer,
    settings: EvaluationSettings,
    answer_tag: str = "answer",
    likelihoods: Likelihoods | None = None,
    prepare: Callable[[Sequence[Sample]], None] = lambda samples: None,
    on_scored: OnScored = lambda groups, dropped: None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    ranks: Ranks = ALONE,
) -> EvaluationResult:
    """Accuracy, pass@k, majority@k, measures, format, length, truncation; per task, slice and overall, with intervals.

    `answer_tag`: where measures, and the votes of majority@k (`votes.py`), find the answer; empty: all of the text.
    `likelihoods`: of the answers under a reference model (`likelihood.py`). `prepare` is told the next batch while one
    is under way, so that its media can be decoded meanwhile. `on_scored` hears of the answers' groups, batch by batch.
    `facts` stand in the result as they are. Completions are seeded by sample, never by batch or step, so two models are
    asked with the same randomness. With several ranks each asks its share, and all are told the whole result. The
    first rank's `tell` hears what happened to the engines; None: `progress`.
    """
    _check_samples(samples)
    asking = _Asking(engine, scorer, settings, answer_tag, likelihoods, on_scored)
    rows: list[SampleRow] = []
    mine = ranks.share(samples)
    shown = progress or SilentProgress()
    tell = tell or shown.note
    unsaid: list[str] = []
    with shown.task("evaluating", total=len(mine)) as task:
        batches = list(_batches(mine, settings.batch_prompts))
        for batch, following in zip(batches, [*batches[1:], ()], strict=True):
            prompts = render(batch)  # once, for all passes
            prepare(following)
            rows += asking.rows(batch, prompts)
            for notice in engine.take_notices() if isinstance(engine, Tells) else ():
                (tell if ranks.first else unsaid.append)(notice)
            task.advance(len(batch), accuracy=round(fmean(row.accuracy for row in rows), 3))
    found = ranks.gather((rows, unsaid))
    for notice in by_rank([own for _, own in found]) if ranks.first else ():
        tell(notice)
    told = [iter(part) for part, _ in found]
    return result_of([next(told[place % ranks.count]) for place in range(len(samples))], settings, facts=facts)


@dataclass(frozen=True, slots=True)
class _Asking:
    """Asks for completions of one batch after the other and makes rows of them."""

    engine: RolloutEngine
    scorer: Scorer
    settings: EvaluationSettings
    answer_tag: str
    likelihoods: Likelihoods | None
    on_scored: OnScored

    def rows(self, batch: Sequence[Sample], rendered: tuple[list[Prompt], list[Dropped]]) -> Iterator[SampleRow]:
        """One per sample of the batch, in order."""
        prompts, unrendered = rendered
        drops: dict[str, list[Dropped]] = defaultdict(list)
        for drop in unrendered:
            drops[drop.sample_id].append(drop)
        passes: list[dict[str, ScoredGroup]] = []
        answers = 1 if self.settings.decoding == "greedy" else self.settings.seeds  # passes that hold the answers
        likely: dict[str, list[float | None]] = defaultdict(list)  # per answer that was scored
        for number, sampling in enumerate(sampling_passes(self.settings)):
            groups = self.engine.generate(prompts, sampling, step=0)
            scored, unscored = self.scorer.score(groups)
            for drop in (*self._lost(), *unscored):  # a whole group, or a single completion of one
                drops[drop.sample_id].append(drop)
            passes.append({group.group.prompt.sample.id: group for group in scored})
            if number < answers:
                if self.likelihoods is not None:
                    found = self.likelihoods([group.group for group in scored])
                    for group, values in zip(scored, found, strict=True):
                        likely[group.group.prompt.sample.id] += values
                self.on_scored(scored, [*(unrendered if number == 0 else ()), *unscored])
        for sample in batch:
            asked = [groups[sample.id] for groups in passes if sample.id in groups]
            reasons = drops[sample.id]
            if len(asked) == len(passes):
                yield self._row(sample, asked[:answers], asked, likely[sample.id], left_out=len(reasons))
            else:
                unexplained = Dropped(sample_id=sample.id, stage="rollout", reason="no rollouts came back")
                yield SampleRow(
                    id=sample.id,
                    task=sample.task,
                    measures=unanswered(sample),
                    slices=self._slices(sample),
                    dropped=reasons[0] if reasons else unexplained,
                )

    def _lost(self) -> list[Dropped]:
        return self.engine.take_dropped() if isinstance(self.engine, LosesGroups) else []

    def _row(
        self,
        sample: Sample,
        answers: Sequence[ScoredGroup],
        passes: Sequence[ScoredGroup],
        likely: Sequence[float | None],
        *,
        left_out: int,
    ) -> SampleRow:
        settings = self.settings
        greedy = settings.decoding == "greedy"
        asked = 1 if greedy else settings.completions
        sampled = passes[1:] if greedy else passes
        rollouts = [rollout for scored in answers for rollout in scored.group.rollouts]
        completions = [
            (vote_of(rollout.completion, sample, tag=self.answer_tag, ordered=ORDERING in results), accuracy)
            for scored in sampled
            for rollout, results, accuracy in zip(scored.group.rollouts, scored.results, scored.accuracy, strict=True)
        ]
        results = [result for scored in passes for rewards in scored.results for result in rewards.values()]
        return SampleRow(
            id=sample.id,
            task=sample.task,
            text=rollouts[0].completion.text,
            accuracy=sum(accuracy for scored in answers for accuracy in scored.accuracy) / asked,
            format=fmean(kept for scored in answers for kept in scored.format),
            tokens=fmean(len(rollout.token_ids) for rollout in rollouts),
            truncated=fmean(rollout.truncated for rollout in rollouts),
            measures=self._measures(sample, answers, likely, asked=asked),
            slices=self._slices(sample),
            sampled_accuracies=tuple(accuracy for _, accuracy in completions),
            sampled_answers=tuple(answer for answer, _ in completions),
            seed_accuracies=tuple(sum(scored.accuracy) / settings.samples_per_prompt for scored in sampled),
            views=answers[0].group.prompt.views if sample.answer.type in PLACES else (),
            reward_failures=left_out + sum(result.status is not RewardStatus.OK for result in results),
        )

    def _measures(
        self, sample: Sample, answers: Sequence[ScoredGroup], likely: Sequence[float | None], *, asked: int
    ) -> dict[str, float]:
        """Means over the answers; those of quality over all that were asked for: one that was taken out is worth 0."""
        found: dict[str, list[float]] = defaultdict(list)
        likelihood = iter(likely)
        for scored in answers:
            for rollout, results in zip(scored.group.rollouts, scored.results, strict=True):
                details = {key: value for result in results.values() for key, value in result.details.items()}
                details[LIKELIHOOD] = next(likelihood, None)
                for name, value in measured(rollout.completion, sample, tag=self.answer_tag, details=details).items():
                    found[name].append(value)
        return {name: fsum(v) / (asked if MEASURES[name].quality else len(v)) for name, v in found.items()}

    def _slices(self, sample: Sample) -> dict[str, str]:
        known = ((key, sample.metadata.get(key)) for key in self.settings.slice_by)
        return {key: str(value) for key, value in known if isinstance(value, str | int | float)}


def sampling_passes(settings: EvaluationSettings) -> Iterator[Sampling]:
    """The greedy pass where accuracy is greedy, then the sampled one, if it is asked for, once per seed."""
    if settings.decoding == "greedy":
        yield Sampling(
            group_size=1,
            max_tokens=settings.max_tokens,
            temperature=0.0,
            stop=settings.stop,
            purpose="evaluation-greedy",
        )
    for seed in range(settings.seeds if settings.samples_per_prompt else 0):
        yield Sampling(
            group_size=settings.samples_per_prompt,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            stop=settings.stop,
            purpose="evaluation" if seed == 0 else f"evaluation-{seed}",
        )


def _batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _check_samples(samples: Sequence[Sample]) -> None:
    if not samples:
        raise DataError("evaluation: there are no samples. Check the manifest, and evaluation.limit.")
    twice = [sample_id for sample_id, count in Counter(sample.id for sample in samples).items() if count > 1]
    if twice:
        raise DataError(
            f"evaluation: {len(twice)} sample ids occur more than once, {twice[0]!r} among them. Ids tell samples "
            f"apart when models are compared; make them unique in the manifest."
        )
