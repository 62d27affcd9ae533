"""`mmrl rewards lint` and `mmrl score`: what they find, print and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mmrl.cli import rewards as rewards_command
from mmrl.cli import score as score_command
from mmrl.errors import ConfigError, DataError
from mmrl.rewards.build import reward_uses
from mmrl.rewards.lint import lint
from tests.rewards.cases import SAMPLES
from tests.rewards.world import sample

HERE = "tests.rewards.user_rewards"


def test_a_sound_set_has_no_findings_and_guessing_earns_what_it_should() -> None:
    rows = [sample("choice", letter, id=letter, choices=("w", "x", "y", "z")) for letter in "ABCD"]
    report = lint(rows, reward_uses({"default": [{"name": "choice"}, {"name": "format"}]}))
    assert report.sound
    task = report.tasks["t"]
    assert (task.rows, task.gold, task.blank, task.wrong) == (4, 1.0, 0.0, 0.0)
    assert task.guessed == 0.25
    assert max(task.tricks.values()) == 0.0


@pytest.mark.parametrize("answer", [answer for answer in SAMPLES if answer != "math"])
def test_the_usual_rewards_are_sound_on_ordinary_rows(answer: str) -> None:
    from mmrl.rewards.catalog import USUAL

    rows = [s for s in SAMPLES[answer] if s.answer.value not in ("Q", "14")]  # type: ignore[index]
    report = lint(rows, reward_uses({"default": [{"name": USUAL[answer]}]}))  # type: ignore[index]
    assert report.sound, report


def test_rows_that_cannot_be_won_and_a_reward_that_can_be_cheated_are_named() -> None:
    rows = [sample("choice", "B", id="letters"), sample("text", "the gold", id="text")]
    report = lint(rows, reward_uses({"default": [{"path": f"{HERE}:right"}]}))
    assert not report.unwinnable
    tricks = {(finding.sample_id, finding.trick) for finding in report.cheatable}
    assert ("letters", "all letters at once") in tricks
    assert ("text", "both answers") in tricks

    numbers = [sample("number", 5.0, id="five"), sample("number", 2.5, id="half")]
    report = lint(numbers, reward_uses({"default": [{"name": "count_boxes"}]}))
    assert [finding.sample_id for finding in report.refused] == ["half"]
    report = lint(numbers, reward_uses({"default": [{"path": f"{HERE}:area"}]}))
    assert [finding.sample_id for finding in report.unwinnable] == ["five", "half"]
    assert "earns 0.50 of 1" in report.unwinnable[0].reason


def test_shaping_that_outweighs_being_right_is_found() -> None:
    sets = reward_uses({"default": [{"name": "choice", "weight": 0.0}, {"name": "format", "weight": 1.0}]})
    report = lint([sample("choice", "B")], sets)
    assert ("a wrong answer", "a wrong answer: has a total of 1.00, the right answer 1.00") in {
        (finding.trick, finding.reason) for finding in report.cheatable
    }


def test_the_commonest_answer_and_the_median_are_guessed() -> None:
    rows = [sample("number", value, id=str(i)) for i, value in enumerate((77.0, 77.0, 77.0, 9.0))]
    report = lint(rows, reward_uses({"default": [{"name": "number"}]}))
    assert (report.tasks["t"].guess, report.tasks["t"].guessed) == ("always the median, 77", 0.75)


score_app = typer.Typer()
score_app.command()(score_command.score)
lint_app = typer.Typer()
lint_app.add_typer(rewards_command.app, name="rewards")


def run(app: typer.Typer, *arguments: str) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def row(completion: str, value: str = "B", **fields: Any) -> dict[str, Any]:
    return {"completion": f"<answer>{completion}</answer>", "answer": {"type": "choice", "value": value}, **fields}


def test_score_adds_score_and_details_and_keeps_the_rest(tmp_path: Path) -> None:
    file = lines(tmp_path / "in.jsonl", [row("B", model="m1"), row("the dog", choices=["cat", "dog"]), row("A or B")])
    run(score_app, file, "--reward", "choice", "--out", str(tmp_path / "out.jsonl"))
    scored = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [s["score"] for s in scored] == [1.0, 1.0, 0.0]
    assert scored[0]["model"] == "m1"
    assert scored[2]["details"] == {"answer": ["A", "B"]}
    printed = run(score_app, file, "--reward", "choice", "--option", "several=share")
    assert [json.loads(line)["score"] for line in printed.stdout.splitlines()] == [1.0, 1.0, 0.5]
    assert "choice: 3 completions, mean 0.8333" in printed.stderr


def test_score_runs_rewards_of_the_user_and_marks_failures(tmp_path: Path) -> None:
    file = lines(tmp_path / "in.jsonl", [row("fine"), row("raise")])
    printed = run(score_app, file, "--reward", f"{HERE}:wild", "--timeout", "20")
    first, second = (json.loads(line) for line in printed.stdout.splitlines())
    assert first["score"] == 1.0
    assert "status" not in first
    assert (second["score"], second["status"]) == (0.0, "error")
    assert "KeyError" in second["details"]["error"]


def test_score_names_every_bad_line_and_writes_nothing(tmp_path: Path) -> None:
    bad: list[Any] = [row("B"), "{not json", {"answer": {"type": "choice", "value": "B"}}, {"completion": "x"}, [1]]
    bad += [{**row("B"), "answer": {"type": "number", "value": 3}}, {**row("B"), "token_count": -1}]
    file = lines(tmp_path / "in.jsonl", bad)
    with pytest.raises(DataError) as error:
        run(score_app, file, "--reward", "choice", "--out", str(tmp_path / "out.jsonl"))
    for number, word in [
        (2, "JSON"),
        (3, "completion"),
        (4, "answer"),
        (5, "object"),
        (6, "number"),
        (7, "token_count"),
    ]:
        (line,) = [text for text in str(error.value).splitlines() if f"in.jsonl:{number}:" in text]
        assert word in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]
    with pytest.raises(ConfigError, match="Did you mean 'choice'"):
        run(score_app, file, "--reward", "choise")


def test_lint_prints_a_table_and_refuses_what_is_unsound(tmp_path: Path) -> None:
    rows = [
        {"id": f"r{i}", "task": "t", "question": "?", "answer": {"type": "choice", "value": v}}
        for i, v in enumerate("BJ")
    ]
    manifest = lines(tmp_path / "m.jsonl", rows)
    printed = run(lint_app, "rewards", "lint", manifest)
    assert "2 rows: every one can be won, and none by cheating." in printed.stdout
    report = json.loads(run(lint_app, "rewards", "lint", manifest, "--reward", "choice", "--json").stdout)
    assert report["tasks"]["t"]["guessed"] == 0.5
    with pytest.raises(DataError, match="of 2 rows, 2 can be won by cheating"):
        run(lint_app, "rewards", "lint", manifest, "--reward", f"{HERE}:right")
