"""A reward set against a user's own rows, before any GPU time: can they be won, won by cheating, won by guessing?

Each row is answered rightly, not at all, wrongly, by the tricks of `hacks.py` and by guesses that need no eyes; all go
through the configured set. What an attempt is worth is its accuracy in [0, 1] (its place between the lowest and the
highest total in sets without an accuracy reward). A trick has won a row when it is worth nearly as much as the gold
answer, or when its total, shaping included, is as high.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from mmrl.errors import DataError, RewardError
from mmrl.rewards.gold import gold_answer
from mmrl.rewards.hacks import Texts, blank_completions, guesses, hacks, written, wrong_completion
from mmrl.rewards.runtime import RewardScorer, RewardUse, set_of
from mmrl.types import Completion, Prompt, Rollout, RolloutGroup, Sample, ScoredGroup

WON = 0.9  # a trick that earns this share of the gold answer's worth has won the row
_BATCH = 64  # samples scored together
_COMMONEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong with one row."""

    sample_id: str
    task: str
    trick: str  # what was tried; "gold" for a row that cannot be won
    worth: float  # what it earned, in [0, 1]
    reason: str  # why it matters, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """The rows of one task."""

    rows: int
    gold: float  # mean worth of the gold answers
    blank: float  # of the best-paid blank
    wrong: float  # of a wrong answer
    tricks: Mapping[str, float]  # trick → mean worth
    guess: str  # the guess that gets furthest over all rows …
    guessed: float  # … and its mean worth


@dataclass(frozen=True, slots=True, kw_only=True)
class LintReport:
    rows: int
    refused: tuple[Finding, ...]  # the set cannot score the row at all
    unwinnable: tuple[Finding, ...]  # the gold answer does not earn the maximum
    cheatable: tuple[Finding, ...]  # a trick earns (nearly) what the gold answer earns
    tasks: Mapping[str, TaskReport]

    @property
    def sound(self) -> bool:
        return not (self.refused or self.unwinnable or self.cheatable)


def lint(
    samples: Sequence[Sample],
    sets: Mapping[str, Sequence[RewardUse]],
    *,
    workers: int = 2,
    advance: Callable[[int], object] = lambda rows: None,
) -> LintReport:
    """Try every row; `advance` is told how many more are done. Raises where a reward does not work at all."""
    whole = {task: [replace(use, on_failure="zero") for use in uses] for task, uses in sets.items()}
    sound, refused = _sorted_out(samples, whole)
    common = _common_answers(sound)
    worths: list[dict[str, float]] = []  # per sample: name of the attempt → worth
    totals: list[dict[str, float]] = []  # … → total
    with RewardScorer(whole, workers=workers) as rewards:
        for start in range(0, len(sound), _BATCH):
            batch = sound[start : start + _BATCH]
            attempts = [_attempts(sample, whole, common[sample.task]) for sample in batch]
            groups = [_group(sample, list(texts.values())) for sample, texts in zip(batch, attempts, strict=True)]
            scored, _ = rewards.score(groups)
            for sample, texts, group in zip(batch, attempts, scored, strict=True):
                worths.append(dict(zip(texts, _worths(group, _uses(sample, whole)), strict=True)))
                totals.append(dict(zip(texts, group.totals, strict=True)))
            advance(len(batch))
    return LintReport(
        rows=len(samples),
        refused=tuple(refused),
        unwinnable=tuple(_unwinnable(sound, worths)),
        cheatable=tuple(_cheatable(sound, worths, totals)),
        tasks=_task_reports(sound, worths),
    )


def _uses(sample: Sample, sets: Mapping[str, Sequence[RewardUse]]) -> Sequence[RewardUse]:
    uses = set_of(sample, sets)
    if uses is None:
        raise RewardError(
            f"sample {sample.id!r} is of task {sample.task!r}, and no reward set has that name. Known sets: "
            f"{', '.join(sorted(sets))}."
        )
    return uses


def _sorted_out(
    samples: Sequence[Sample], sets: Mapping[str, Sequence[RewardUse]]
) -> tuple[list[Sample], list[Finding]]:
    """Samples that the set can score, and findings for the others."""
    sound, refused = [], []
    for sample in samples:
        try:
            for use in _uses(sample, sets):
                use.reward.verify(sample, name=use.name)
            sound.append(sample)
        except (DataError, RewardError) as error:
            refused.append(Finding(sample_id=sample.id, task=sample.task, trick="gold", worth=0.0, reason=str(error)))
    return sound, refused


def _attempts(sample: Sample, sets: Mapping[str, Sequence[RewardUse]], common: Texts) -> Texts:
    """Everything that is tried on a row: name → completion."""
    golds = {"gold": written(answer := gold_answer(sample), f"The answer is {answer}.")}
    for use in _uses(sample, sets):
        own = getattr(use.reward.function, "gold", None)
        if own is not None:
            golds[f"gold for {use.name}"] = written(text := own(sample), f"The answer is {text}.")
    blanks = {f"blank: {name}": text for name, text in blank_completions().items()}
    tricks = {f"trick: {name}": text for name, text in hacks(sample).items()}
    blind = {f"guess: {name}": text for name, text in {**guesses(sample), **common}.items()}
    return {**golds, **blanks, "wrong": wrong_completion(sample), **tricks, **blind}


def _common_answers(samples: Sequence[Sample]) -> dict[str, Texts]:
    """Per task, the answers that its rows have most often, and the median number."""
    answers: defaultdict[str, list[str]] = defaultdict(list)
    numbers: defaultdict[str, list[float]] = defaultdict(list)
    for sample in samples:
        answers[sample.task].append(gold_answer(sample))
        if sample.answer.type == "number":
            numbers[sample.task].append(float(sample.answer.value))
    found: dict[str, Texts] = {}
    for task, texts in answers.items():
        top = [text for text, _ in Counter(texts).most_common(_COMMONEST)]
        found[task] = {f"always {text[:40]}": written(text) for text in top}
        if numbers[task]:
            middle = median(numbers[task])
            found[task][f"always the median, {middle:g}"] = written(f"{middle:g}")
    return found


def _group(sample: Sample, texts: Sequence[str]) -> RolloutGroup:
    return RolloutGroup(
        prompt=Prompt(sample=sample, text="", token_ids=(0,)),
        rollouts=tuple(
            Rollout(
                completion=Completion(text=text, token_count=len(text.split())),
                token_ids=(0,),
                behavior_logprobs=(0.0,),
                policy_logprobs=(0.0,),
                index=index,
                seed=0,
                policy_version=0,
            )
            for index, text in enumerate(texts)
        ),
    )


def _worths(group: ScoredGroup, uses: Sequence[RewardUse]) -> Sequence[float]:
    """What each attempt is worth, in [0, 1]."""
    if any(use.reward.kind == "accuracy" for use in uses):
        return group.accuracy
    low, high = min(group.totals), max(group.totals)
    return [(total - low) / (high - low) if high > low else 0.0 for total in group.totals]


def _best_gold(worths: Mapping[str, float]) -> float:
    return max(worth for name, worth in worths.items() if name.startswith("gold"))


def _unwinnable(samples: Sequence[Sample], worths: Sequence[Mapping[str, float]]) -> list[Finding]:
    return [
        Finding(
            sample_id=sample.id,
            task=sample.task,
            trick="gold",
            worth=_best_gold(found),
            reason=f"the right answer {gold_answer(sample)[:80]!r} earns {_best_gold(found):.2f} of 1",
        )
        for sample, found in zip(samples, worths, strict=True)
        if _best_gold(found) < 1.0 - 1e-6
    ]


def _cheatable(
    samples: Sequence[Sample], worths: Sequence[Mapping[str, float]], totals: Sequence[Mapping[str, float]]
) -> list[Finding]:
    findings = []
    for sample, worth, total in zip(samples, worths, totals, strict=True):
        gold, gold_total = _best_gold(worth), _best_gold(total)
        for name in worth:
            if name != "wrong" and not name.startswith(("trick: ", "blank: ")):
                continue
            trick = name.partition(": ")[2] or "a wrong answer"
            if gold > 0.0 and worth[name] >= WON * gold:
                reason = f"{trick}: earns {worth[name]:.2f}, the right answer {gold:.2f}"
            elif total[name] >= gold_total:
                reason = f"{trick}: has a total of {total[name]:.2f}, the right answer {gold_total:.2f}"
            else:
                continue
            findings.append(
                Finding(sample_id=sample.id, task=sample.task, trick=trick, worth=worth[name], reason=reason)
            )
    return findings


def _task_reports(samples: Sequence[Sample], worths: Sequence[Mapping[str, float]]) -> dict[str, TaskReport]:
    rows: defaultdict[str, list[Mapping[str, float]]] = defaultdict(list)
    for sample, found in zip(samples, worths, strict=True):
        rows[sample.task].append(found)
    return {task: _task_report(found) for task, found in sorted(rows.items())}


def _task_report(rows: Sequence[Mapping[str, float]]) -> TaskReport:
    means = _means(rows)
    blind = {name.partition(": ")[2]: worth for name, worth in means.items() if name.startswith("guess: ")}
    guess = max(blind, key=lambda name: (blind[name], name), default="")
    return TaskReport(
        rows=len(rows),
        gold=fmean(_best_gold(row) for row in rows),
        blank=max(worth for name, worth in means.items() if name.startswith("blank: ")),
        wrong=means["wrong"],
        tricks={name.partition(": ")[2]: worth for name, worth in means.items() if name.startswith("trick: ")},
        guess=guess,
        guessed=blind.get(guess, 0.0),
    )


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean worth of each attempt over all rows; where an attempt was not made, it earned nothing."""
    sums: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        for name, worth in row.items():
            sums[name] += worth
    return {name: total / len(rows) for name, total in sums.items()}
