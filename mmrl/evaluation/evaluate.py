"""Evaluates a policy on samples: one greedy completion each for accuracy, n sampled ones for pass@k.

Rule of the denominators: every sample counts. One that could not be asked or scored (a picture that will not open, a
group that was dropped) is wrong in accuracy and pass@k, is listed with its reason, and is never left out of a mean that
models are compared by. So does every completion: one that a failing reward took out of its group is a wrong one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Protocol

from mmrl.errors import DataError
from mmrl.evaluation.estimators import Interval, bootstrap, majority_at_k, pass_at_k
from mmrl.evaluation.result import EvaluationResult, EvaluationSettings, SampleRow, TaskSummary
from mmrl.progress import Progress, SilentProgress
from mmrl.ranks import ALONE, Ranks
from mmrl.rewards.answer import find_answer
from mmrl.rollout.engine import RolloutEngine, Sampling
from mmrl.types import Dropped, Prompt, RewardStatus, RolloutGroup, Sample, ScoredGroup

PLACES = ("box", "boxes", "point", "span", "spans")  # answers whose numbers mean something by the media's views only

Render = Callable[[Sequence[Sample]], tuple[list[Prompt], list[Dropped]]]
AnswerOf = Callable[[str], str | None]  # completion text → the answer it votes for; None: it has no vote


class Scorer(Protocol):
    """What evaluation needs of the reward runtime."""

    def score(self, groups: Sequence[RolloutGroup]) -> tuple[list[ScoredGroup], list[Dropped]]: ...


def tagged_answer(text: str) -> str | None:
    """The content of the completion's answer block, in lower case and with single spaces."""
    answer = find_answer(text).valid
    return " ".join(answer.lower().split()) or None if answer else None


def evaluate(
    samples: Sequence[Sample],
    *,
    render: Render,
    engine: RolloutEngine,
    scorer: Scorer,
    settings: EvaluationSettings,
    answer_of: AnswerOf = tagged_answer,
    prepare: Callable[[Sequence[Sample]], None] = lambda samples: None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> EvaluationResult:
    """Accuracy, pass@k, majority@k, format, length, truncation; per task and overall, with intervals over samples.

    `answer_of` finds the answer that a completion votes for in majority@k. `prepare` is told the next batch while one
    is under way, so that its media can be decoded meanwhile. Completions are seeded by sample, never by
    batch or step, so two models are asked with the same randomness. With several ranks each asks its share, and all
    are told the whole result.
    """
    _check_samples(samples)
    rows: list[SampleRow] = []
    mine = ranks.share(samples)
    with (progress or SilentProgress()).task("evaluating", total=len(mine)) as task:
        batches = list(_batches(mine, settings.batch_prompts))
        for batch, following in zip(batches, [*batches[1:], ()], strict=True):
            prompts = render(batch)  # once, for both passes
            prepare(following)
            rows += _evaluate_batch(batch, prompts, engine, scorer, settings, answer_of)
            task.advance(len(batch), accuracy=round(fmean(row.greedy_accuracy for row in rows), 3))
    told = [iter(part) for part in ranks.gather(rows)]
    rows = [next(told[place % ranks.count]) for place in range(len(samples))]
    tasks = dict.fromkeys(row.task for row in rows)
    return EvaluationResult(
        settings=settings,
        overall=summarise(rows, settings),
        tasks={name: summarise([row for row in rows if row.task == name], settings) for name in tasks},
        rows=tuple(rows),
    )


def summarise(rows: Sequence[SampleRow], settings: EvaluationSettings) -> TaskSummary:
    """The figures of some rows (at least one)."""
    n = settings.samples_per_prompt

    def interval(values: list[float]) -> Interval:
        return bootstrap(values, seed=settings.seed, resamples=settings.resamples, confidence=settings.confidence)

    def passed(row: SampleRow, k: int) -> float:
        correct = sum(accuracy >= settings.correct_at for accuracy in row.sampled_accuracies)
        return pass_at_k(samples=n, correct=correct, k=k)

    def voted(row: SampleRow, k: int) -> float:
        missing = n - len(row.sampled_accuracies)
        answers, accuracies = (*row.sampled_answers, *[None] * missing), (*row.sampled_accuracies, *[0.0] * missing)
        return majority_at_k(answers, accuracies, k=k)

    answered = [row for row in rows if row.dropped is None]
    reasons = Counter(f"{row.dropped.stage}: {row.dropped.reason}" for row in rows if row.dropped)
    return TaskSummary(
        samples=len(rows),
        dropped=len(rows) - len(answered),
        accuracy=interval([row.greedy_accuracy for row in rows]),
        sampled_accuracy=interval([sum(row.sampled_accuracies) / n for row in rows]) if n else None,
        pass_at={k: interval([passed(row, k) for row in rows]) for k in settings.ks},
        majority_at={k: interval([voted(row, k) for row in rows]) for k in settings.ks},
        format_rate=fmean(row.greedy_format for row in answered) if answered else 0.0,
        length_mean=fmean(row.greedy_tokens for row in answered) if answered else 0.0,
        truncated_fraction=fmean(row.greedy_truncated for row in answered) if answered else 0.0,
        reward_failures=sum(row.reward_failures for row in rows),
        drop_reasons=dict(sorted(reasons.items())),
    )


def _evaluate_batch(
    batch: Sequence[Sample],
    rendered: tuple[list[Prompt], list[Dropped]],
    engine: RolloutEngine,
    scorer: Scorer,
    settings: EvaluationSettings,
    answer_of: AnswerOf,
) -> Iterator[SampleRow]:
    prompts, unrendered = rendered
    drops: dict[str, list[Dropped]] = defaultdict(list)
    for drop in unrendered:
        drops[drop.sample_id].append(drop)
    passes: list[dict[str, ScoredGroup]] = []
    for sampling in _passes(settings):
        scored, unscored = scorer.score(engine.generate(prompts, sampling, step=0))
        passes.append({group.group.prompt.sample.id: group for group in scored})
        for drop in unscored:  # a whole group, or a single completion of one
            drops[drop.sample_id].append(drop)
    for sample in batch:
        found = [groups[sample.id] for groups in passes if sample.id in groups]
        reasons = drops[sample.id]
        if len(found) == len(passes):
            yield _row(sample, found, answer_of, left_out=len(reasons))
        else:
            unexplained = Dropped(sample_id=sample.id, stage="rollout", reason="no rollouts came back")
            yield SampleRow(id=sample.id, task=sample.task, dropped=reasons[0] if reasons else unexplained)


def _passes(settings: EvaluationSettings) -> Iterator[Sampling]:
    """The greedy pass, then the sampled one if there is any."""
    yield Sampling(
        group_size=1,
        max_tokens=settings.max_tokens,
        temperature=0.0,
        stop=settings.stop,
        purpose="evaluation-greedy",
    )
    if settings.samples_per_prompt:
        yield Sampling(
            group_size=settings.samples_per_prompt,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            stop=settings.stop,
            purpose="evaluation",
        )


def _row(sample: Sample, passes: Sequence[ScoredGroup], answer_of: AnswerOf, *, left_out: int) -> SampleRow:
    greedy = passes[0]
    rollout = greedy.group.rollouts[0]
    sampled = [
        (answer_of(rollout.completion.text), accuracy)
        for scored in passes[1:]
        for rollout, accuracy in zip(scored.group.rollouts, scored.accuracy, strict=True)
    ]
    results = [result for scored in passes for rewards in scored.results for result in rewards.values()]
    return SampleRow(
        id=sample.id,
        task=sample.task,
        greedy_text=rollout.completion.text,
        greedy_accuracy=greedy.accuracy[0],
        greedy_format=greedy.format[0],
        greedy_tokens=len(rollout.token_ids),
        greedy_truncated=rollout.truncated,
        sampled_accuracies=tuple(accuracy for _, accuracy in sampled),
        sampled_answers=tuple(answer for answer, _ in sampled),
        views=greedy.group.prompt.views if sample.answer.type in PLACES else (),
        reward_failures=left_out + sum(result.status is not RewardStatus.OK for result in results),
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
