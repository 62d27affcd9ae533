"""Measures, sampled decoding, seeds and slices: figures by hand, with the scripted engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mmrl.evaluation.compare import compare
from mmrl.evaluation.estimators import bootstrap_of_means, mcnemar
from mmrl.evaluation.evaluate import evaluate
from mmrl.evaluation.measures import MEASURES, measured
from mmrl.evaluation.printed import Told, as_markdown, as_text
from mmrl.evaluation.result import EvaluationResult, EvaluationSettings
from mmrl.evaluation.summary import evaluation_metrics
from mmrl.rewards.build import reward_uses
from mmrl.rewards.runtime import RewardScorer
from mmrl.rollout.scripted_engine import Script, ScriptedEngine
from mmrl.training.metrics import metric
from mmrl.types import Answer, AnswerType, Completion, Dropped, RolloutGroup, Sample, ScoredGroup
from tests.traces.fakes import ChoiceScorer, choice_sample, render


def sample_of(kind: AnswerType, value: Any, *, name: str = "one", task: str = "t", **metadata: Any) -> Sample:
    return Sample(id=name, task=task, question="?", answer=Answer(type=kind, value=value), metadata=metadata)


def measures_of(text: str, sample: Sample, **details: Any) -> dict[str, float]:
    return measured(Completion(text=text), sample, tag="answer", details=details)


def test_numbers_by_mra() -> None:
    assert measures_of("<answer>8</answer>", sample_of("number", 10.0))["mra"] == pytest.approx(0.7)
    assert measures_of("8", sample_of("number", 10.0))["mra"] == 0.0


def test_boxes_and_spans_by_iou_and_thresholds() -> None:
    box = measures_of("<answer>[0, 0, 10, 5]</answer>", sample_of("box", (0, 0, 10, 10)))
    assert box == {"iou": 0.5, "iou_at_0.3": 1.0, "iou_at_0.5": 1.0, "iou_at_0.7": 0.0}
    span = measures_of("<answer>6 to 10</answer>", sample_of("span", (4.0, 8.0)))
    assert span == pytest.approx({"iou": 1 / 3, "iou_at_0.3": 1.0, "iou_at_0.5": 0.0, "iou_at_0.7": 0.0})
    spans = measures_of("<answer>[[0, 2], [4, 6]]</answer>", sample_of("spans", ((0.0, 2.0), (4.0, 8.0))))
    assert spans["iou"] == pytest.approx(4 / 6)
    told = measures_of("<answer>[0, 0, 10, 5]</answer>", sample_of("box", (0, 0, 10, 10)), iou=0.8)
    assert told["iou_at_0.7"] == 1.0  # a reward's, which knows which picture is meant


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>It is round. So the answer is B.</think><answer>B</answer>", (1.0, 0.0)),
        ("<think>It is round. So the answer is B.</think><answer>A</answer>", (0.0, 1.0)),
        ("<think>It is round.</think><answer>A</answer>", (0.0, 0.0)),  # states no conclusion
        ("<think>So it is B.</think>", (0.0, 1.0)),  # gives no answer
    ],
)
def test_consistency_by_rules(text: str, expected: tuple[float, float]) -> None:
    found = measures_of(text, choice_sample("one"))
    assert (found["consistent"], found["contradicting"]) == expected


def test_answers_without_reasoning_have_no_consistency() -> None:
    assert measures_of("<answer>B</answer>", choice_sample("one")) == {}


def test_likelihood_is_told_where_it_was_taken() -> None:
    assert measures_of("<answer>B</answer>", choice_sample("one"), answer_likelihood=0.25) == {
        "answer_likelihood": 0.25
    }


def run(samples: Sequence[Sample], script: Script, settings: EvaluationSettings, **more: Any) -> EvaluationResult:
    uses = reward_uses(
        {
            "default": [{"name": "number"}],
            "choice": [{"name": "choice"}, {"name": "format", "weight": 0.5}],
            "where": [{"name": "temporal_iou"}],
        }
    )
    with RewardScorer(uses) as scorer:
        return evaluate(samples, render=render, engine=ScriptedEngine(script), scorer=scorer, settings=settings, **more)


def test_dropped_samples_are_worth_nothing_in_quality_and_left_out_of_consistency() -> None:
    samples = [
        sample_of("number", 10.0, name="right"),
        sample_of("number", 10.0, name="broken"),
        sample_of("span", (4.0, 8.0), name="when", task="where"),
    ]
    settings = EvaluationSettings(samples_per_prompt=0, ks=(), max_tokens=99, resamples=50)
    said = {"right": "<think>So 10.</think><answer>10</answer>", "when": "<think>So.</think><answer>4 to 8</answer>"}
    result = run(samples, lambda sample, index: said[sample.id], settings)
    overall = result.overall
    assert overall.measures["mra"].value == 0.5
    assert overall.measured == {
        "mra": 2, "iou": 1, "iou_at_0.3": 1, "iou_at_0.5": 1, "iou_at_0.7": 1, "consistent": 2, "contradicting": 2,
    }  # fmt: skip
    assert overall.drop_reasons == {"media: truncated image": 1}
    figures = evaluation_metrics(result)
    assert figures["eval/where_iou_at_0.7"] == 1.0
    assert figures["eval/t_dropped"] == 1.0
    for name in figures:
        metric(name)


def test_sampled_decoding_over_several_seeds() -> None:
    """n = 2 completions with each of 2 seeds, told apart by what purpose enters their seeds."""
    script_calls: list[int] = []

    def script(sample: Sample, index: int) -> str:
        script_calls.append(index)
        right = len(script_calls) in (1, 2, 3)  # both of the first seed, one of the second
        return f"<think>So {'B' if right else 'A'}.</think><answer>{'B' if right else 'A'}</answer>"

    settings = EvaluationSettings(
        samples_per_prompt=2, ks=(1, 4), max_tokens=99, decoding="sampled", seeds=2, resamples=50
    )
    result = run([choice_sample("one")], script, settings)
    (row,) = result.rows
    assert row.accuracy == 0.75
    assert row.seed_accuracies == (1.0, 0.5)
    assert row.sampled_accuracies == (1.0, 1.0, 1.0, 0.0)
    assert row.measures["consistent"] == 1.0
    summary = result.overall
    assert summary.pass_at[1].value == 0.75
    assert summary.pass_at[4].value == 1.0
    assert summary.majority_at[4].value == 1.0
    assert summary.seed_accuracies == (1.0, 0.5)
    assert summary.seed_deviation == pytest.approx(0.5 / 2**0.5)
    assert "seed 1" in as_text(Told(after=result))


class LeavingOut:
    """The third completion of every group is taken out of it, as by a reward with `on_failure: leave_out`."""

    def __init__(self, scorer: RewardScorer) -> None:
        self._scorer = scorer

    def score(self, groups: Sequence[RolloutGroup]) -> tuple[list[ScoredGroup], list[Dropped]]:
        kept = [replace(group, rollouts=tuple(r for r in group.rollouts if r.index != 2)) for group in groups]
        return self._scorer.score(kept)


def test_a_completion_that_was_taken_out_is_worth_nothing_in_quality() -> None:
    """Three right ones of four: accuracy, MRA and IoU agree. Of consistency only what is there tells anything."""
    settings = EvaluationSettings(samples_per_prompt=4, ks=(1,), max_tokens=99, decoding="sampled", resamples=50)
    samples = [sample_of("number", 10.0, name="n"), sample_of("span", (4.0, 8.0), name="when", task="where")]
    said = {"n": "<think>So 10.</think><answer>10</answer>", "when": "<think>So.</think><answer>4 to 8</answer>"}
    uses = reward_uses({"default": [{"name": "number"}], "where": [{"name": "temporal_iou"}]})
    with RewardScorer(uses) as scorer:
        result = evaluate(
            samples,
            render=render,
            engine=ScriptedEngine(lambda sample, index: said[sample.id]),
            scorer=LeavingOut(scorer),
            settings=settings,
        )
    number, where = result.rows
    assert (number.accuracy, number.measures["mra"]) == (0.75, 0.75)
    assert (where.accuracy, where.measures["iou"], where.measures["iou_at_0.7"]) == (0.75, 0.75, 0.75)
    assert number.measures["consistent"] == 1.0


def test_every_seed_has_randomness_of_its_own() -> None:
    from mmrl.evaluation.evaluate import sampling_passes

    settings = EvaluationSettings(samples_per_prompt=2, ks=(1,), max_tokens=9, seeds=3)
    passes = list(sampling_passes(settings))
    assert [p.temperature for p in passes] == [0.0, 1.0, 1.0, 1.0]
    assert len({p.purpose for p in passes}) == 4
    assert len(list(sampling_passes(replace(settings, decoding="sampled")))) == 3
    with pytest.raises(ValueError, match="sampled decoding needs"):
        EvaluationSettings(samples_per_prompt=0, ks=(), max_tokens=9, decoding="sampled")


def test_slices_by_metadata() -> None:
    samples = [
        sample_of("number", 1.0, name="a", level="L1"),
        sample_of("number", 2.0, name="b", level="L2"),
        sample_of("number", 2.0, name="c", level="L2"),
    ]
    settings = EvaluationSettings(samples_per_prompt=0, ks=(), max_tokens=99, resamples=50)
    result = run(samples, lambda sample, index: "<answer>2</answer>" if sample.id == "b" else "", settings)
    assert {level: s.accuracy.value for level, s in result.slices["level"].items()} == {"L1": 0.0, "L2": 0.5}
    assert {level: f.value for level, f in result.benchmarks["seed_bench_r1"].items()} == {"L1": 0.0, "L2": 0.5}
    assert "vsi_bench" not in result.benchmarks
    assert EvaluationResult.from_json(result.to_json()) == result


def test_vsi_benchs_average_of_a_manifest() -> None:
    """As the builder of VSI-Bench writes it: the type of question in the metadata."""
    samples = [
        sample_of("number", 4.0, name="count", question_type="object_counting"),
        replace(choice_sample("easy"), metadata={"question_type": "object_rel_direction_easy"}),
        replace(choice_sample("hard"), metadata={"question_type": "object_rel_direction_hard"}),
    ]
    said = {"count": "<answer>3</answer>", "easy": "<answer>B</answer>", "hard": "<answer>A</answer>"}
    settings = EvaluationSettings(samples_per_prompt=0, ks=(), max_tokens=99, resamples=50)
    result = run(samples, lambda sample, index: said[sample.id], settings)
    figures = {name: interval.value for name, interval in result.benchmarks["vsi_bench"].items()}
    assert figures == pytest.approx({"object_counting": 0.6, "object_rel_direction": 0.5, "overall": 0.55})


def test_likelihoods_reach_the_rows_and_the_comparison() -> None:
    def likelihoods(groups: Sequence[RolloutGroup]) -> list[list[float | None]]:
        return [[0.25 if "B<" in r.completion.text else None for r in group.rollouts] for group in groups]

    settings = EvaluationSettings(samples_per_prompt=0, ks=(), max_tokens=99, resamples=50)
    samples = [choice_sample("a"), choice_sample("b")]
    texts = {"a": "<think>x</think><answer>B</answer>", "b": "no"}
    before = evaluate(
        samples, render=render, engine=ScriptedEngine(lambda s, i: "no"), scorer=ChoiceScorer(), settings=settings
    )
    after = run(samples, lambda sample, index: texts[sample.id], settings, likelihoods=likelihoods)
    assert after.overall.measures["answer_likelihood"].value == 0.25
    assert after.overall.measured["answer_likelihood"] == 1
    found = compare(before, after)
    assert found.overall.mcnemar_p_value == 1.0
    assert found.overall.won == ("a",)
    assert found.overall.tokens is not None
    page = as_markdown(Told(after=after, before=before, untrained={"other": (before, after)}))
    assert "won: a" in page
    assert "Not trained, before and after: other" in page


def test_mcnemar_by_hand() -> None:
    assert mcnemar(won=0, lost=0) == 1.0
    assert mcnemar(won=5, lost=0) == pytest.approx(2 / 32)
    assert mcnemar(won=1, lost=5) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar(won=3, lost=3) == 1.0
    assert mcnemar(won=900, lost=1100) == mcnemar(won=1100, lost=900) < 0.001


def test_means_of_means_keep_the_sizes_of_their_parts() -> None:
    found = bootstrap_of_means([[[1, 0]], [[1], [0, 0]]], seed=0, resamples=500)
    assert found.value == 0.5
    # Only the first part varies: its mean is 0, ½ or 1, and it weighs a half.
    assert (found.low, found.high) == (0.25, 0.75)
    with pytest.raises(ValueError, match="no value"):
        bootstrap_of_means([[[]]], seed=0)


def test_every_measure_says_what_it_is() -> None:
    assert all(measure.summary for measure in MEASURES.values())


def test_results_of_former_schemas_are_read() -> None:
    settings = EvaluationSettings(samples_per_prompt=2, ks=(1,), max_tokens=60, resamples=50)
    result = evaluate(
        [choice_sample("a")],
        render=render,
        engine=ScriptedEngine(lambda s, i: "<answer>B</answer>"),
        scorer=ChoiceScorer(),
        settings=settings,
    )
    body = result.to_json()
    new = ("decoding", "top_p", "top_k", "seeds", "slice_by")
    old_rows = []
    for row in body["rows"]:
        renamed = {f"greedy_{key}": row[key] for key in ("text", "accuracy", "format", "tokens", "truncated")}
        kept = ("id", "task", "sampled_accuracies", "sampled_answers", "reward_failures", "dropped", "views")
        old_rows.append({**{key: row[key] for key in kept}, **renamed})
    summaries = {**body["overall"]}
    for key in ("measures", "measured", "seed_accuracies"):
        del summaries[key]
    old = {
        "schema": 2,
        "settings": {key: value for key, value in body["settings"].items() if key not in new},
        "overall": summaries,
        "tasks": {"choice": summaries},
        "rows": old_rows,
    }
    read = EvaluationResult.from_json(old)
    assert read.rows[0].accuracy == 1.0
    assert read.rows[0].text == "<answer>B</answer>"
    assert read.overall.accuracy == result.overall.accuracy
