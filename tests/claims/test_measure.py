"""What is read out of run folders, from ones that are made here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from mmrl.claims.load import load_claim
from mmrl.claims.measure import evaluation_figure, measured, reduced
from mmrl.claims.schema import Claim, MeasureEntry
from mmrl.claims.spent import Spent
from mmrl.claims.unit import EVALUATION, TRAINED, Replication
from mmrl.evaluation.result import EvaluationSettings, SampleRow
from mmrl.evaluation.summary import summarise
from mmrl.types import Dropped


def row(name: str, accuracy: float, **fields: object) -> SampleRow:
    return SampleRow(id=name, task="choice", text="…", accuracy=accuracy, format=1.0, **fields)  # type: ignore[arg-type]


def test_figures_of_greedy_answers() -> None:
    dropped = Dropped(sample_id="c", stage="media", reason="gone")
    rows = [
        row("a", 1.0, tokens=10, measures={"consistent": 1.0}),
        row("b", 0.0, tokens=20, measures={}),  # no reasoning: not consistent
        SampleRow(id="c", task="other", dropped=dropped),
    ]
    assert evaluation_figure(rows, "accuracy") == pytest.approx(1 / 3)  # the dropped one is wrong
    assert evaluation_figure(rows, "consistency") == pytest.approx(1 / 2)
    assert evaluation_figure(rows, "length") == pytest.approx(15.0)
    assert evaluation_figure(rows, "accuracy", "choice") == pytest.approx(1 / 2)


def test_steps_become_one_number() -> None:
    assert reduced([1.0, 2.0, 6.0], "mean") == 3.0
    assert reduced([1.0, 3.0], "std") == pytest.approx(2**0.5)
    assert reduced([1.0], "std") is None
    assert reduced([], "mean") is None
    assert [reduced([3.0, 1.0, 2.0], how) for how in ("sum", "last", "lowest", "highest")] == [6.0, 2.0, 1.0, 3.0]


@pytest.fixture
def replication(tmp_path: Path) -> Replication:
    """An arm of four steps that was evaluated once."""
    made = Replication(claim=load_claim("clip_higher", check=False), out=tmp_path)
    folder = made.folders(0, "higher")[-1]
    (folder / EVALUATION).mkdir(parents=True)
    entropy = [1.0, 0.75, 0.5, 0.25]
    logged = [{"step": n, "policy/entropy_mean": e, "eval/choice_accuracy": 1 - e} for n, e in enumerate(entropy)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in logged))
    steps = [Spent(steps=1, updates=4, rollouts=8 * (n + 1), tokens=100, seconds=0.5) for n in range(4)]
    body = {"model": "checkpoints/step_4", "steps": [asdict(step) for step in steps]}
    (folder / TRAINED).write_text(json.dumps(body))
    evaluated(folder, [1.0, 1.0, 0.0, 0.0])
    return made


def evaluated(folder: Path, accuracies: list[float]) -> None:
    from mmrl.evaluation.result import EvaluationResult

    settings = EvaluationSettings(samples_per_prompt=0, ks=(), max_tokens=8)
    rows = tuple(row(str(n), accuracy) for n, accuracy in enumerate(accuracies))
    whole = summarise(rows, settings)
    result = EvaluationResult(settings=settings, overall=whole, tasks={"choice": whole}, rows=rows)
    (folder / EVALUATION).mkdir(parents=True, exist_ok=True)
    (folder / EVALUATION / "test.json").write_text(json.dumps(result.to_json()))


def entry(**fields: object) -> MeasureEntry:
    return MeasureEntry(says="", **fields)


def test_measures_of_an_arm(replication: Replication) -> None:
    def number(**fields: object) -> float | None:
        return measured(replication, entry(**fields), seed=0, arm="higher")

    assert number(evaluated="accuracy", on=("test",)) == 0.5
    assert number(logged="policy/entropy_mean") == 0.25  # the last quarter
    assert number(logged="policy/entropy_mean", over=(0.5, 1.0)) == 0.375
    assert number(logged="eval/choice_accuracy", minus="policy/entropy_mean", over=(0.0, 1.0)) == pytest.approx(-0.25)
    assert number(logged="rollout/length_mean") is None  # never logged
    assert number(reached="eval/choice_accuracy", value=0.5, counts="steps") == 3
    assert number(reached="eval/choice_accuracy", value=0.5, counts="rollouts") == 8 + 16 + 24
    assert number(reached="eval/choice_accuracy", value=0.9, counts="steps") == 4  # never: all, a lower bound
    assert number(spent="updates") == 16
    assert number(forgotten="accuracy") is None  # one stage: there is nothing to forget


def test_forgetting_is_the_fall_on_each_earlier_stage_s_data(tmp_path: Path) -> None:
    fields = load_claim("clip_higher", check=False).model_dump(mode="json")
    fields["data"] = {"first": {"recipe": "digits"}, "second": {"recipe": "digits"}}
    fields["arms"]["higher"]["stages"] = [{"data": "first"}, {"data": "second"}]
    fields["evaluations"] = {"test": {"data": "first"}}
    made = Replication(claim=Claim.model_validate(fields), out=tmp_path)
    before, after = made.folders(0, "higher")
    assert (before.name, after.name) == ("higher-1", "higher-2")
    evaluated(before, [1.0, 1.0, 1.0, 0.0])
    evaluated(after, [1.0, 0.0, 0.0, 0.0])
    assert measured(made, entry(forgotten="accuracy"), seed=0, arm="higher") == pytest.approx(0.5)


def test_a_measure_is_of_one_kind() -> None:
    with pytest.raises(ValueError, match="exactly one of"):
        entry(logged="policy/entropy_mean", spent="steps")
    with pytest.raises(ValueError, match="needs `on`"):
        entry(evaluated="accuracy")
