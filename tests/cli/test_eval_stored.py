"""`mmrl eval --predictions`: what is honoured, what is refused in one line, and how two files are paired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmrl.cli.main import main

BOTH_KINDS: list[dict[str, Any]] = [
    {"prediction": "<answer>(B)</answer>", "choices": ["cup", "jug"], "answer": {"type": "choice", "value": "B"}},
    {"prediction": "<answer>12.0</answer>", "answer": {"type": "number", "value": 12}},
    {"prediction": "<answer>7</answer>", "answer": {"type": "number", "value": 12}},
]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def found(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str | Path) -> tuple[dict[str, Any], str]:
    """(what --out holds, what was said beside)."""
    out = tmp_path / "found.json"
    code = main(["eval", *map(str, arguments), "--out", str(out)])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(out.read_text()), said.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    code = main(["eval", *map(str, arguments)])
    said = capsys.readouterr()
    assert code == 2, said.out
    assert len(said.err.strip().splitlines()) == 1
    return said.err


def vsi(*said: str, **more: Any) -> list[dict[str, Any]]:
    about = {"question_type": "object_rel_distance", "ground_truth": "B", **more}
    return [{"prediction": text, **about} for text in said]


# ── answers of several kinds ──


def test_lines_with_letters_and_numbers_are_scored_each_by_its_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """None of them names a task: all are of one, and no reward scores both kinds."""
    for rows in (BOTH_KINDS, BOTH_KINDS[::-1]):
        body, err = found(capsys, tmp_path, "--predictions", lines(tmp_path / "x.jsonl", rows))
        assert list(body["tasks"]) == ["prediction"]
        assert sorted(row["accuracy"] for row in body["rows"]) == [0.0, 1.0, 1.0]
        assert "answers of type number; scored by number" in err


def test_rewards_of_a_task_that_fit_one_kind_of_its_answers_score_that_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    body: dict[str, Any] = {
        "run": {"name": "mine"},
        "model": {"path": "nowhere"},
        "data": {"train": "x.jsonl"},
        "rewards": {"prediction": [{"name": "relative"}]},
    }
    config.write_text(yaml.safe_dump(body))
    got, err = found(capsys, tmp_path, "--predictions", lines(tmp_path / "x.jsonl", BOTH_KINDS), "--config", config)
    assert [row["accuracy"] for row in got["rows"]] == [1.0, 1.0, pytest.approx(7 / 12)]
    assert "answers of type choice; scored by choice" in err
    named = "rewards.prediction/number=[{name: mra}]"  # a set for one kind of the task's answers
    got, _ = found(capsys, tmp_path, "--predictions", tmp_path / "x.jsonl", "--config", config, named)
    assert [row["accuracy"] for row in got["rows"]] == [1.0, 1.0, pytest.approx(0.2)]  # off by 5 / 12: 0.50, 0.55


# ── options ──


def test_a_changed_config_is_what_scores_and_what_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`prompt.mode=vanilla`: all of the text is the answer, of votes and measures as of rewards; `think_answer`: a
    bare text is none.
    """
    rows = [{"prediction": text, "answer": {"type": "number", "value": 12}} for text in ("12", "10")]
    file = lines(tmp_path / "x.jsonl", rows)
    config = tmp_path / "config.yaml"
    body: dict[str, Any] = {
        "run": {"name": "mine"},
        "model": {"path": "nowhere"},
        "data": {"train": "x.jsonl"},
        "rewards": {"default": [{"name": "number"}]},
    }
    config.write_text(yaml.safe_dump(body))
    reward = 'rewards.default=[{name: number, options: {answer_tag: ""}}]'
    got, _ = found(capsys, tmp_path, "--predictions", file, "--config", config, "prompt.mode=vanilla", reward)
    assert got["facts"]["prompt_mode"] == "vanilla"
    assert [row["accuracy"] for row in got["rows"]] == [1.0, 0.0]
    assert [row["measures"]["mra"] for row in got["rows"]] == [1.0, pytest.approx(0.7)]
    got, _ = found(capsys, tmp_path, "--predictions", file, "prompt.mode=vanilla")  # the usual rewards, so asked
    assert got["facts"]["prompt_mode"] == "vanilla"
    assert [row["accuracy"] for row in got["rows"]] == [1.0, 0.0]
    got, _ = found(capsys, tmp_path, "--predictions", file, "--config", config)
    assert [row["accuracy"] for row in got["rows"]] == [0.0, 0.0]


def test_limit_seed_and_k_are_honoured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = lines(tmp_path / "x.jsonl", [{**row, "prediction": ["B", "A", "A"]} for row in vsi("", "", "")])
    given: list[str | Path] = ["--predictions", file, "--rules", "vsi_bench"]
    body, _ = found(capsys, tmp_path, *given, "--limit", "2", "--k", "3", "--k", "2", "--seed", "7")
    assert (len(body["rows"]), body["settings"]["ks"], body["settings"]["seed"]) == (2, [2, 3], 7)
    assert "pass@4 needs as many texts" in refused(capsys, *given, "--k", "4")
    plain = lines(tmp_path / "y.jsonl", BOTH_KINDS)
    body, _ = found(capsys, tmp_path, "--predictions", plain, "--limit", "1", "--seed", "7")
    assert (len(body["rows"]), body["settings"]["seed"]) == (1, 7)
    body, _ = found(capsys, tmp_path, "--predictions", plain, "evaluation.limit=2")
    assert len(body["rows"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["some/model"], "MODEL"),
        (["--samples", "4", "--engine", "vllm"], "--engine, --samples"),
        (["--temperature", "0.5"], "--temperature"),
        (["--top-k", "0"], "--top-k"),
        (["--decoding", "sampled"], "--decoding"),
        (["--likelihood", "own"], "--likelihood"),
        (["--no-store"], "--no-store"),
        (["--into", "seen"], "--into"),
        (["--rules", "vsi_bench", "--config", "x.yaml"], "--config"),
        (["--rules", "vsi_bench", "--data", "x.jsonl"], "--data"),
        (["--rules", "vsi_bench", "prompt.mode=answer"], "prompt.mode: a benchmark's rules have no config"),
        (["rollout.max_tokens=3"], "rollout.max_tokens decides nothing"),
        (["prompt.mode=anwser"], "Did you mean 'answer'"),
    ],
)
def test_what_cannot_apply_is_refused(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "x.jsonl", vsi("B"))
    body = {
        "run": {"name": "m"},
        "model": {"path": "n"},
        "data": {"train": "x.jsonl"},
        "rewards": {"t": [{"name": "choice"}]},
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(body))
    given = [arguments[0], "--predictions", "x.jsonl", *arguments[1:]] if "/" in arguments[0] else None
    assert said in refused(capsys, *(given or ["--predictions", "x.jsonl", *arguments]))


# ── pairing ──


def test_files_in_another_order_are_paired_by_the_benchmarks_own_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By line number nothing would have been won."""
    fields = {"seed_bench_r1": "sample_id", "video_r1": "problem_id", "mathvista": "pid"}
    golds: dict[str, dict[str, Any]] = {
        "seed_bench_r1": {"task_level": "L1", "golden_choice_idx": "B", "id": None},
        "video_r1": {"problem_type": "multiple choice", "solution": "<answer>B</answer>"},
        "mathvista": {"question_type": "multi_choice", "choices": ["A", "B"], "answer": "B"},
    }
    for name, field in fields.items():

        def row(number: Any, said: str, name: str = name, field: str = field) -> dict[str, Any]:
            return {
                **golds[name],
                field: number,
                "prediction": f"<answer>{said}</answer>" if name != "mathvista" else said,
            }

        new = lines(tmp_path / "new.jsonl", [row(1, "B"), row(2, "A")])
        old = lines(tmp_path / "old.jsonl", [row(2.0, "B"), row(1, "A")])  # a table's way to write 2
        body, _ = found(capsys, tmp_path, "--predictions", new, "--rules", name, "--against", old)
        assert (body["comparison"]["overall"]["won"], body["comparison"]["overall"]["lost"]) == (["1"], ["2"])


def test_lines_without_ids_are_paired_by_number_only_where_that_is_sure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = lines(tmp_path / "new.jsonl", [*vsi("B", question="near?"), *vsi("A", question="far?")])
    given: list[str | Path] = ["--predictions", new, "--rules", "vsi_bench", "--against"]
    same = lines(tmp_path / "same.jsonl", [*vsi("A", question="near?"), *vsi("A", question="far?")])
    body, _ = found(capsys, tmp_path, *given, same)
    assert body["comparison"]["overall"]["won"] == ["line-1"]
    turned = lines(tmp_path / "turned.jsonl", [*vsi("A", question="far?"), *vsi("A", question="near?")])
    err = refused(capsys, *given, turned)
    assert "new.jsonl:1 and " in err
    assert "their question differs" in err
    assert "Give the lines of both the same `id`" in err
    other_gold = lines(tmp_path / "gold.jsonl", [*vsi("A"), *vsi("A", ground_truth="C")])
    assert "their ground_truth differs" in refused(capsys, *given, other_gold)
    shorter = lines(tmp_path / "shorter.jsonl", vsi("A", question="near?"))
    assert "has 2 lines and" in refused(capsys, *given, shorter)
    named = lines(tmp_path / "named.jsonl", [{**row, "id": i} for i, row in enumerate(vsi("A", "A"))])
    assert "have no id in common" in refused(capsys, *given, named)


def test_an_id_that_two_lines_share_is_refused_and_other_fields_are_then_no_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = lines(tmp_path / "x.jsonl", [{**row, "id": 4} for row in vsi("A", "B")])
    assert "the id '4' stands on several lines" in refused(capsys, "--predictions", twice, "--rules", "vsi_bench")
    clips = lines(tmp_path / "y.jsonl", [{**row, "question_id": 4} for row in vsi("A", "B")])
    body, _ = found(capsys, tmp_path, "--predictions", clips, "--rules", "vsi_bench")
    assert [row["id"] for row in body["rows"]] == ["line-1", "line-2"]
