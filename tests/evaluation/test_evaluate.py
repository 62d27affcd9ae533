"""Evaluating with the scripted engine: figures by hand, drops, batches, JSON, comparison, tables."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from mmrl.errors import DataError, RunError
from mmrl.evaluation.compare import compare
from mmrl.evaluation.evaluate import evaluate
from mmrl.evaluation.result import EvaluationResult, EvaluationSettings, read_result
from mmrl.evaluation.table import comparison_rows, markdown_table, notes, p_value, result_rows, text_table
from mmrl.progress import SilentProgress
from mmrl.rollout.engine import Sampling
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.types import Dropped, Prompt, RolloutGroup, Sample, ScoredGroup
from tests.traces.fakes import ChoiceScorer, Script, choice_sample, render

SETTINGS = EvaluationSettings(samples_per_prompt=4, ks=(1, 2), max_tokens=30, batch_prompts=2, resamples=200)
RIGHT, WRONG = "<answer>B</answer>", "<answer>A</answer>"


def run(samples: Sequence[Sample], script: Script, settings: EvaluationSettings = SETTINGS) -> EvaluationResult:
    return evaluate(samples, render=render, engine=ScriptedEngine(script), scorer=ChoiceScorer(), settings=settings)


SAMPLES = [
    choice_sample("solved"),
    choice_sample("sometimes"),
    choice_sample("rambling", task="count"),
    choice_sample("broken", task="count"),
    choice_sample("unscorable", task="count"),
]


def script(sample: Sample, index: int) -> str:
    if sample.id == "sometimes":
        return RIGHT if index == 3 else WRONG
    return "B" * 50 if sample.id == "rambling" else RIGHT


def test_figures_by_hand() -> None:
    result = run(SAMPLES, script)
    choice, count = result.tasks["choice"], result.tasks["count"]
    assert list(result.tasks) == ["choice", "count"]
    assert [row.accuracy for row in result.rows] == [1, 0, 1, 0, 0]
    assert (choice.accuracy.value, choice.samples, choice.dropped) == (0.5, 2, 0)
    assert choice.sampled_accuracy is not None
    assert choice.sampled_accuracy.value == (1 + 1 / 4) / 2
    assert {k: interval.value for k, interval in choice.pass_at.items()} == {1: (1 + 0.25) / 2, 2: (1 + 0.5) / 2}
    # Majority of 2 of B, A, A, A: 3 pairs AA, 3 pairs AB that tie → 1 / 4.
    assert {k: interval.value for k, interval in choice.majority_at.items()} == {1: 0.625, 2: (1 + 0.25) / 2}
    assert (choice.format_rate, choice.length_mean, choice.truncated_fraction) == (1.0, 19.0, 0.0)
    assert result.overall.accuracy.value == 2 / 5
    assert result.rows[1].sampled_answers == ("A", "A", "A", "B")
    assert (count.length_mean, count.truncated_fraction, count.format_rate) == (30.0, 1.0, 0.0)


def test_dropped_samples_are_wrong_counted_and_named() -> None:
    count = run(SAMPLES, script).tasks["count"]
    assert (count.samples, count.dropped) == (3, 2)
    assert count.accuracy.value == pytest.approx(1 / 3)
    assert count.pass_at[2].value == pytest.approx(1 / 3)
    assert count.drop_reasons == {"media: truncated image": 1, "reward: answer of another type": 1}


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batches_change_nothing(batch: int) -> None:
    other = run(SAMPLES, script, replace(SETTINGS, batch_prompts=batch))
    reference = run(SAMPLES, script)
    assert (other.rows, other.overall, other.tasks) == (reference.rows, reference.overall, reference.tasks)


class RecordingEngine(ScriptedEngine):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(script)
        self.asked: list[tuple[int, Sampling]] = []

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        self.asked.append((len(prompts), sampling))
        return super().generate(prompts, sampling, step=step, sizes=sizes)


def test_each_prompt_is_rendered_once_and_asked_greedily_then_sampled() -> None:
    rendered: list[str] = []

    def counting(samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]:
        rendered.extend(sample.id for sample in samples)
        return render(samples)

    engine = RecordingEngine()
    evaluate(SAMPLES, render=counting, engine=engine, scorer=ChoiceScorer(), settings=SETTINGS)
    assert rendered == [sample.id for sample in SAMPLES]
    assert [count for count, _ in engine.asked] == [2, 2, 1, 1, 1, 1]  # the broken one is not asked
    greedy, sampled = engine.asked[0][1], engine.asked[1][1]
    assert (greedy.temperature, greedy.group_size) == (0.0, 1)
    assert (sampled.temperature, sampled.group_size) == (1.0, 4)
    assert "train" not in (greedy.purpose, sampled.purpose)


def test_without_a_sampled_pass_there_is_greedy_accuracy_only() -> None:
    result = run(SAMPLES, script, EvaluationSettings(samples_per_prompt=0, ks=(), max_tokens=30))
    assert result.overall.accuracy.value == 2 / 5
    assert (result.overall.sampled_accuracy, result.overall.pass_at) == (None, {})
    assert result == EvaluationResult.from_json(result.to_json())


class LeavingOutScorer(ChoiceScorer):
    """A reward that fails on the third completion takes it out of its group."""

    def score(self, groups: Sequence[RolloutGroup]) -> tuple[list[ScoredGroup], list[Dropped]]:
        kept = [
            replace(group, rollouts=tuple(rollout for rollout in group.rollouts if rollout.index != 2))
            for group in groups
        ]
        gone = [
            Dropped(sample_id=group.prompt.sample.id, stage="reward", reason="reward slow timeout")
            for group in groups
            if len(group.rollouts) > 2
        ]
        scored, dropped = super().score(kept)
        return scored, [*dropped, *gone]


def test_a_completion_that_left_its_group_counts_as_wrong() -> None:
    engine = ScriptedEngine(lambda sample, index: RIGHT)
    scorer = LeavingOutScorer()
    result = evaluate([choice_sample("one")], render=render, engine=engine, scorer=scorer, settings=SETTINGS)
    (row,) = result.rows
    assert row.dropped is None
    assert list(row.sampled_accuracies) == [1, 1, 1]
    assert row.reward_failures == 1
    assert result.overall.sampled_accuracy is not None
    assert result.overall.sampled_accuracy.value == 0.75
    assert result.overall.pass_at[1].value == 0.75
    assert result.overall.majority_at[1].value == 0.75
    assert notes(result) == ["1 rewards failed or timed out; those completions earned nothing by them."]


def test_no_samples_and_ids_given_twice_are_refused() -> None:
    with pytest.raises(DataError, match="no samples"):
        run([], script)
    with pytest.raises(DataError, match="'solved' among them"):
        run([*SAMPLES, SAMPLES[0]], script)


def test_settings_refuse_a_k_beyond_the_completions() -> None:
    with pytest.raises(ValueError, match="between 1 and 4"):
        EvaluationSettings(samples_per_prompt=4, ks=(8,), max_tokens=30)
    with pytest.raises(ValueError, match="name at least k = 1"):
        EvaluationSettings(samples_per_prompt=4, ks=(), max_tokens=30)


def test_result_survives_its_file(tmp_path: Path) -> None:
    result = run(SAMPLES, script)
    path = tmp_path / "after.json"
    path.write_text(json.dumps(result.to_json()))
    assert read_result(path) == result
    body = result.to_json()
    for row in body["rows"]:
        del row["views"]
    path.write_text(json.dumps({**body, "schema": 1}))  # before views were kept
    assert read_result(path) == result
    path.write_text('{"schema": 1}')
    with pytest.raises(RunError, match=r"after\.json: this file is no evaluation result"):
        read_result(path)


def test_comparison_lists_the_flips_and_pairs_by_id() -> None:
    before = run(SAMPLES, lambda sample, index: RIGHT if sample.id == "rambling" else WRONG)
    after = run([*reversed(SAMPLES), choice_sample("new")], script)
    found = compare(before, after)
    assert found.overall.won == ("solved",)
    assert found.overall.lost == ()
    assert found.overall.difference.value == pytest.approx(1 / 5)
    assert found.tasks["count"].difference.value == 0
    assert found.tasks["count"].p_value == 1.0
    assert (found.only_before, found.only_after) == ((), ("new",))
    back = compare(after, before)
    assert back.overall.lost == ("solved",)
    assert back.only_before == ("new",)
    json.dumps(found.to_json(), allow_nan=False)
    with pytest.raises(RunError, match="no sample in common"):
        compare(before, run([choice_sample("new")], script))


def test_tables_are_aligned_and_say_what_was_dropped() -> None:
    before = run(SAMPLES, lambda sample, index: WRONG)
    after = run(SAMPLES, script)
    lines = text_table(result_rows(after)).splitlines()
    assert lines[0].split() == [
        "task",
        "samples",
        "accuracy",
        "pass@1",
        "pass@2",
        "format",
        "tokens",
        "truncated",
        "dropped",
    ]
    assert lines[-1].startswith("all")
    assert "40.0 % [" in lines[-1]
    assert len({len(line) for line in lines}) == 1
    assert notes(after) == [
        "1 of 5 samples dropped (media: truncated image); they count as wrong.",
        "1 of 5 samples dropped (reward: answer of another type); they count as wrong.",
    ]
    rows = comparison_rows(before, after, compare(before, after))
    assert rows[0][-2:] == ["pass@2 before", "pass@2 after"]
    assert rows[1][0] == "choice"
    assert rows[1][4].startswith("+50.0 [")
    assert rows[1][6:8] == ["1", "0"]
    assert markdown_table([["a|b", "c"], ["1", "2"]]) == "| a\\|b | c |\n|---|---:|\n| 1 | 2 |"
    assert (p_value(0.0001), p_value(0.25)) == ("< 0.001", "0.250")


def test_samples_of_another_task_on_the_other_side_are_compared_all_the_same() -> None:
    before = run([choice_sample("a"), choice_sample("b", task="count")], script)
    after = run([choice_sample("a"), choice_sample("b")], script)
    rows = comparison_rows(before, after, compare(before, after))
    assert [row[0] for row in rows] == ["task", "choice", "count", "all"]
    assert rows[2][2].startswith("100.0 % [")
    assert rows[2][3] == "–"  # no sample of this task there
    assert rows[2][-2:] == ["100.0 %", "–"]
    assert rows[3][2:4] == ["100.0 % [100.0, 100.0]"] * 2
    back = comparison_rows(after, before, compare(after, before))
    assert [row[0] for row in back] == ["task", "choice"]


def test_one_task_has_no_row_of_all() -> None:
    assert [row[0] for row in result_rows(run(SAMPLES[:2], script))] == ["task", "choice"]


class Watching(SilentProgress):
    def __init__(self) -> None:
        self.units: list[int] = []

    def task(self, label: str, total: int, *, done: int = 0):
        watching = self

        class Task:
            def advance(self, units: int = 1, **figures: float | str) -> None:
                watching.units.append(units)

        return nullcontext(Task())


def test_progress_counts_every_sample() -> None:
    watching = Watching()
    evaluate(
        SAMPLES,
        render=render,
        engine=ScriptedEngine(script),
        scorer=ChoiceScorer(),
        settings=SETTINGS,
        progress=watching,
    )
    assert watching.units == [2, 2, 1]
