"""Pass rates through an engine, resumed exactly; selection by them; learning impact by hand."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmrl.curation.bias import blind_shortcuts, wilson
from mmrl.curation.difficulty import Ask, kept_completion, measure_difficulty
from mmrl.curation.lim import learning_impact
from mmrl.curation.select import Choice, select_samples
from mmrl.errors import ConfigError, DataError, RunError
from mmrl.pipeline.asking import run_learning_impact, without_media
from mmrl.rewards.build import reward_uses
from mmrl.rewards.runtime import RewardScorer
from mmrl.rollout.engine import Sampling
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.traces.writer import TraceWriter
from mmrl.types import Answer, Dropped, FinishReason, Media, Prompt, Sample, ScoredGroup
from tests import toy
from tests.curation.material import choice, command, ids, read, reasons, row, write

SETTINGS = {"model": "scripted", "rollouts": 4}


def ask_scripted(asked: list[str] | None = None, *, stop_after: int = 10**9) -> Ask:
    """Sample r<n> is answered rightly in n % 5 of 4 rollouts; samples of task "broken" cannot be asked."""

    def script(sample: Sample, index: int) -> str:
        right = index < int(sample.id[1:]) % 5
        return f"<answer>{sample.answer.value if right else 'no'}</answer>"

    engine = ScriptedEngine(script)
    scorer = RewardScorer(reward_uses({"default": [{"name": "text_exact"}]}))
    sampling = Sampling(group_size=4, max_tokens=64)

    def ask(samples: Sequence[Sample]) -> tuple[list[ScoredGroup], list[Dropped]]:
        if asked is not None:
            if len(asked) >= stop_after:
                raise KeyboardInterrupt
            asked.extend(sample.id for sample in samples)
        usable = [sample for sample in samples if sample.task != "broken"]
        prompts = [Prompt(sample=sample, text="", token_ids=(1,)) for sample in usable]
        groups, dropped = scorer.score(engine.generate(prompts, sampling, step=0))
        lost = [Dropped(sample_id=s.id, stage="media", reason="empty file", detail="it is empty") for s in samples
                if s.task == "broken"]  # fmt: skip
        return groups, [*dropped, *lost]

    return ask


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = [row(f"r{i}", task=("even", "odd")[i % 2], answer={"type": "text", "value": "yes"}) for i in range(20)]
    return write(tmp_path / "all.jsonl", [*rows, row("r20", task="broken"), "{"])


def test_pass_rates_are_written_and_what_cannot_be_asked_is_listed(manifest: Path, tmp_path: Path):
    out = tmp_path / "rated.jsonl"
    report = measure_difficulty(manifest, out, ask_scripted(), settings=SETTINGS, batch=6)
    rated = {line["id"]: line["metadata"] for line in read(out)}
    assert {id_: m["pass_rate"] for id_, m in rated.items()} == {f"r{i}": i % 5 / 4 for i in range(20)}
    first = rated["r3"]["difficulty"]
    assert first["rollouts"] == 4
    assert first["variance"] == pytest.approx(0.75 * 0.25)
    assert first["likelihood"] == pytest.approx(math.exp(-0.5), abs=1e-6)  # every token of the script has −0.5
    assert first["model"] == "scripted"
    assert reasons(tmp_path / "rated.dropped.jsonl") == {"r20": "empty file", "": "defective row"}
    assert report.figures["histogram"] == {"never right": 4, "sometimes": 12, "always right": 4}
    assert not list(tmp_path.glob("*.partial.jsonl"))


def test_an_interrupted_measurement_goes_on_and_gives_the_same_bytes(manifest: Path, tmp_path: Path):
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    measure_difficulty(manifest, whole, ask_scripted(), settings=SETTINGS, batch=4)
    asked: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        measure_difficulty(manifest, resumed, ask_scripted(asked, stop_after=8), settings=SETTINGS, batch=4)
    assert asked == [f"r{i}" for i in range(8)]
    assert not resumed.exists()
    journal = tmp_path / "resumed.difficulty.partial.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])  # killed while it wrote: the last line is cut off
    with pytest.raises(RunError, match="another settings"):
        measure_difficulty(manifest, resumed, ask_scripted(), settings={**SETTINGS, "rollouts": 8}, batch=4)
    asked.clear()
    measure_difficulty(manifest, resumed, ask_scripted(asked), settings=SETTINGS, batch=4)
    assert asked == [f"r{i}" for i in range(7, 21)]
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_right_completion_is_kept_where_there_is_one(tmp_path: Path):
    """Sample r<n> is right in its first n % 5 rollouts. What another model left there is replaced, or removed."""
    before = {"base_completion": "of another model", "kept": 1}
    rows = [row(f"r{i}", answer={"type": "text", "value": "yes"}, metadata=before) for i in range(20)]
    old = write(tmp_path / "old.jsonl", rows)
    out = tmp_path / "kept.jsonl"
    report = measure_difficulty(old, out, ask_scripted(), settings=SETTINGS, keep_completion=True)
    kept = {line["id"]: line["metadata"].get("base_completion") for line in read(out)}
    assert kept == {f"r{i}": "<answer>yes</answer>" if i % 5 else None for i in range(20)}
    assert all(line["metadata"]["kept"] == 1 for line in read(out))
    assert report.figures["completions_kept"] == 16
    plain = tmp_path / "plain.jsonl"
    measure_difficulty(old, plain, ask_scripted(), settings=SETTINGS)
    assert {line["metadata"]["base_completion"] for line in read(plain)} == {"of another model"}


def test_the_most_accurate_finished_completion_is_kept():
    made = toy.scored(toy.random_group(toy.text_prompt("a"), size=5, seed=0), [0.4, 0.9, 0.7, 0.9, 0.6])
    texts = ("wrong", "cut", "right", "", "also right")
    rollouts = tuple(
        replace(
            r,
            completion=replace(
                r.completion, text=text, finish_reason=FinishReason("length" if text == "cut" else "stop")
            ),
        )
        for r, text in zip(made.group.rollouts, texts, strict=True)
    )
    made = replace(made, group=replace(made.group, rollouts=rollouts), accuracy=(0.4, 0.9, 0.7, 0.9, 0.6))
    assert kept_completion(made) == "right"
    assert kept_completion(replace(made, accuracy=(0.4,) * 5)) is None
    assert kept_completion(replace(made, accuracy=(0.4, 0.4, 0.7, 0.4, 0.7))) == "right"  # the first of equals


def test_a_measurement_without_completions_does_not_go_on_as_one_with_them(manifest: Path, tmp_path: Path):
    out = tmp_path / "x.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measure_difficulty(manifest, out, ask_scripted([], stop_after=8), settings=SETTINGS, batch=4)
    with pytest.raises(RunError, match="another settings"):
        measure_difficulty(manifest, out, ask_scripted(), settings=SETTINGS, batch=4, keep_completion=True)


def test_selection_by_band_variance_likelihood_and_balance(manifest: Path, tmp_path: Path):
    rated = tmp_path / "rated.jsonl"
    measure_difficulty(manifest, rated, ask_scripted(), settings=SETTINGS)

    def chosen(name: str, **wanted: object) -> list[str]:
        select_samples(rated, tmp_path / f"{name}.jsonl", Choice(**wanted), workers=1)  # type: ignore[arg-type]
        return ids(tmp_path / f"{name}.jsonl")

    assert chosen("band", band=(0.25, 0.5)) == [f"r{i}" for i in range(20) if i % 5 in (1, 2)]
    assert chosen("variance", by="variance", count=4) == ["r2", "r7", "r12", "r17"]
    assert set(chosen("more", by="variance", count=6)) > {"r2", "r7", "r12", "r17"}
    assert chosen("field", by="field", field="difficulty.accuracy", at_least=1.0) == ["r4", "r9", "r14", "r19"]
    balanced = chosen("balanced", band=(0.25, 0.75), balance="task", count=7)
    assert sorted(int(id_[1:]) % 2 for id_ in balanced) in ([0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1])
    assert len(chosen("likelihood", by="low-likelihood", count=5)) == 5
    with pytest.raises(ConfigError, match="--band"):
        Choice(band=(0.8, 0.2))


def test_unequal_strata_share_what_the_small_ones_lack(tmp_path: Path):
    rows = [row(f"a{i}", task="a") for i in range(2)] + [row(f"b{i}", task="b") for i in range(10)]
    rows += [row(f"c{i}", task="c") for i in range(10)]
    path = write(tmp_path / "a.jsonl", rows)
    for count, expected in ((12, [2, 5, 5]), (None, [2, 2, 2]), (13, [2, 5, 6]), (100, [2, 10, 10])):
        out = tmp_path / f"{count}.jsonl"
        select_samples(path, out, Choice(balance="task", count=count), workers=1)
        assert sorted(sum(id_[0] == letter for id_ in ids(out)) for letter in "abc") == expected


def test_learning_impact_by_hand():
    """Means .2, .4, .6: one that nearly follows scores .980603, one always right 0, one never right .517241."""
    curves = np.array([[0.25, 0.5, 0.5], [1, 1, 1], [0, 0, 0]])
    padding = (np.array([0.2, 0.4, 0.6]) * 6 - curves.sum(axis=0)) / 3  # three more samples that make the means so
    table = np.concatenate([curves, np.tile(padding, (3, 1))])
    assert table.mean(axis=0) == pytest.approx([0.2, 0.4, 0.6])
    assert learning_impact(table)[:3] == pytest.approx([0.980603, 0, 0.517241], abs=1e-6)


def test_a_missing_epoch_takes_the_next_and_a_missing_last_one_has_no_score():
    nan = float("nan")
    filled = learning_impact(np.array([[0.5, 0.5], [0.0, 0.5]]))
    assert learning_impact(np.array([[nan, 0.5], [0.0, 0.5]])) == pytest.approx(filled)
    scores = learning_impact(np.array([[0.5, nan], [0.0, 0.5], [0.5, 0.5]]))
    assert np.isnan(scores[0])
    assert not np.isnan(scores[1:]).any()


def test_learning_impact_comes_from_a_runs_traces(tmp_path: Path):
    samples = [Sample(id=f"r{i}", task="t", question="q?", answer=Answer(type="text", value="yes")) for i in range(5)]
    writer = TraceWriter(tmp_path / "run" / "traces")
    for step in range(4):  # two epochs of two steps; r4 is asked in the second only
        asked = samples[:2] if step == 0 else samples[2:4] if step == 1 else samples[:3] if step == 2 else samples[3:]
        groups, _ = ask_scripted()(asked)
        writer.write(step, groups, advantages=[[0.0] * 4 for _ in groups])
    expected = learning_impact(np.array([[i / 4, i / 4] for i in range(5)]))
    found = run_learning_impact(tmp_path / "run", steps_per_epoch=2)
    assert [found[f"r{i}"] for i in range(5)] == pytest.approx(expected)
    by_visit = run_learning_impact(tmp_path / "run")
    assert set(by_visit) == {f"r{i}" for i in range(4)}  # r4 has no second visit
    with pytest.raises(DataError, match="a learning curve needs two"):
        run_learning_impact(tmp_path / "run", steps_per_epoch=10)
    with pytest.raises(RunError, match="no such run folder"):
        run_learning_impact(tmp_path / "none")
    path = write(tmp_path / "a.jsonl", [row(f"r{i}") for i in range(3)])
    scores = {"r0": 0.9, "r1": 0.4}
    out = tmp_path / "b.jsonl"
    select_samples(path, out, Choice(by="learning-impact", at_least=0.6), scores=scores, workers=1)
    assert [(line["id"], line["metadata"]["learning_impact"]) for line in read(out)] == [("r0", 0.9)]
    assert reasons(tmp_path / "b.dropped.jsonl") == {"r1": "score too low", "r2": "no score of the run"}


def test_a_question_without_its_media_has_no_marks():
    sample = Sample(
        id="a",
        task="t",
        question="<image>\nWhat <video> moves?",
        answer=Answer(type="text", value="x"),
        media=(Media(type="image", path="/a"),),
    )
    assert without_media(sample).question == "What moves?"
    assert without_media(sample).media == ()


def test_a_blind_model_is_held_against_the_best_constant_answer(tmp_path: Path):
    samples = [
        Sample(id=f"r{i}", task="t", question="q?", answer=Answer(type="text", value="ab"[i % 4 == 0]))
        for i in range(40)
    ]
    found = blind_shortcuts(samples, ask_scripted())
    assert found[0].samples == 40
    assert found[0].expected == 0.75  # "a" is right for three of four
    assert found[0].reached == pytest.approx(0.8)  # r<n> is right in its first rollout unless n % 5 == 0
    assert not found[0].found
    low, high = wilson(32, 40)
    assert (round(low, 3), round(high, 3)) == (0.652, 0.895)


@pytest.mark.slow
def test_the_command_measures_a_tiny_model(tiny_folder: Path, tmp_path: Path):
    from tests.curation.material import photo

    for i in range(3):
        photo(i, 56, 56).save(tmp_path / f"{i}.png")
    rows = [row(f"r{i}", image=f"{i}.png", choices=["x", "y"], answer=choice("A")) for i in range(3)]
    path = write(tmp_path / "all.jsonl", rows)
    config = tmp_path / "c.yaml"
    settings = {
        "run": {"name": "x"},
        "model": {"path": str(tiny_folder)},
        "data": {"train": str(path)},
        "rewards": {"default": [{"name": "choice"}]},
    }
    config.write_text(json.dumps(settings))
    asked = ("--model", tiny_folder, "--config", config, "--rollouts", "2", "--max-tokens", "4", "--quiet")
    assert command("difficulty", path, *asked, "--out", tmp_path / "a.jsonl", "--batch", "2") == 0
    assert command("difficulty", path, *asked, "--out", tmp_path / "b.jsonl", "--batch", "3") == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert command("difficulty", path, *asked, "--out", tmp_path / "blind.jsonl", "--without-media") == 0
    assert "blind" in read(tmp_path / "blind.jsonl")[0]["metadata"]
    assert command("difficulty", path, *asked, "--out", tmp_path / "n", "--without-media", "--keep-completion") == 2
    assert command("bias", path, "--model", tiny_folder, "--config", config, "--quiet") == 0
