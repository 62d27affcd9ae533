"""The table of metrics, the log, and the metrics of rollouts with numbers worked by hand."""

import json
import math
import runpy
from pathlib import Path

import pytest

from mmrl.errors import RunError
from mmrl.training.metrics import METRICS, MetricsLog, metric, read_metrics, reproducible, rollout_metrics
from mmrl.types import Dropped, RewardResult, RewardStatus, ScoredGroup
from tests.traces.fakes import choice_sample, scored_group

ROOT = Path(__file__).parents[2]


def test_every_metric_is_a_group_and_a_name_and_says_what_it_is() -> None:
    for name, entry in METRICS.items():
        assert name.count("/") == 1, name
        assert entry.unit, name
        assert entry.formula, name
        assert entry.reading.endswith("."), name


def test_the_page_of_metrics_is_current() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "write_metrics_page.py"))["metrics_page"]()
    current = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert current == page, "docs/metrics.md is old: run python tools/write_metrics_page.py"


def test_names_with_a_variable_part_are_found_and_literal_names_go_first() -> None:
    assert metric("reward/choice_mean") is METRICS["reward/<name>_mean"]
    assert metric("reward/total_mean") is METRICS["reward/total_mean"]
    assert metric("rollout/dropped_filter") is METRICS["rollout/dropped_<stage>"]
    assert metric("eval/vsi/route plan_accuracy") is METRICS["eval/<task>_accuracy"]
    assert metric("eval/spatial relation_accuracy") is METRICS["eval/<task>_accuracy"]


@pytest.mark.parametrize("name", ["reward/totl_men", "reward/<name>_mean", "speed"])
def test_an_unknown_name_is_refused_with_a_guess(tmp_path: Path, name: str) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with pytest.raises(RunError, match="unknown metric"):
        log.log(0, {name: 1.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    with pytest.raises(RunError, match="Did you mean 'loss/total'"):
        log.log(0, {"loss/totl": 1.0})


def test_a_step_is_one_line_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    log.log(0, {"loss/total": math.nan, "policy/ratio_max": math.inf, "reward/total_mean": 0.1})
    line = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert line == '{"step": 0, "loss/total": null, "policy/ratio_max": null, "reward/total_mean": 0.1}\n'
    (row,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert math.isnan(row["loss/total"])
    assert row["reward/total_mean"] == 0.1


def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    for path, steps in ((whole, 6), (killed, 4)):
        log = MetricsLog(path)
        for step in range(steps):
            log.log(step, {"reward/total_mean": step / 3})
    killed.write_bytes(killed.read_bytes() + b'{"step": 4, "rew')  # killed in the middle of a line
    resumed = MetricsLog(killed)
    resumed.discard_from(3)
    for step in range(3, 6):
        resumed.log(step, {"reward/total_mean": step / 3})
    assert killed.read_bytes() == whole.read_bytes()


def test_a_log_goes_on_after_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 0, "loss/total": 1.0}\n{"step": 1, "los')
    assert len(read_metrics(path)) == 1
    MetricsLog(path).log(1, {"loss/total": 2.0})
    assert [row["loss/total"] for row in read_metrics(path)] == [1.0, 2.0]


def test_a_step_is_logged_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.log(3, {"loss/total": 1.0})
    with pytest.raises(RunError, match=r"step 3 cannot be logged after step 3.*discard_from\(3\)"):
        log.log(3, {"loss/total": 1.0})
    with pytest.raises(RunError, match="after step 3"):
        MetricsLog(tmp_path / "metrics.jsonl").log(2, {"loss/total": 1.0})


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 0}\n\x00\x00\n{"step": 2}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl:2"):
        read_metrics(path)


def test_comparing_runs_leaves_the_machine_out() -> None:
    row = {"step": 1.0, "loss/total": 2.0, "time/step_seconds": 3.0, "memory/peak_mib": 4.0}
    assert reproducible(row) == {"step": 1.0, "loss/total": 2.0}


def test_rollout_metrics_by_hand() -> None:
    """Totals: accuracy + ½ format. Tokens: one per byte and the end token. Gold is B."""
    mixed = scored_group(choice_sample("mixed"), ["<answer>B</answer>", "A", "A", "B"])
    solved = scored_group(choice_sample("solved"), ["B", "B"])
    missed = scored_group(choice_sample("missed"), ["A" * 30], max_tokens=21)
    assert mixed.totals == (1.5, 0.0, 0.0, 1.0)
    drops = [Dropped(sample_id=name, stage="media", reason="truncated video") for name in ("x", "y")]
    values = rollout_metrics([mixed, solved, missed], [*drops, Dropped(sample_id="z", stage="filter", reason="equal")])
    tokens = [19, 2, 2, 2, 2, 2, 21]
    deviation = math.sqrt(((1.5 - 0.625) ** 2 + 2 * 0.625**2 + (1 - 0.625) ** 2) / 3)
    expected = {
        "reward/total_mean": 4.5 / 7,
        "reward/total_std": deviation / 3,
        "reward/accuracy_mean": 4 / 7,
        "reward/format_mean": 1 / 7,
        "reward/choice_mean": 4 / 7,
        "reward/choice_failed": 0,
        "reward/choice_timeouts": 0,
        "reward/format_failed": 0,
        "reward/format_timeouts": 0,
        "group/no_signal_fraction": 2 / 3,
        "group/all_correct_fraction": 1 / 3,
        "group/all_wrong_fraction": 1 / 3,
        "rollout/length_mean": sum(tokens) / 7,
        "rollout/length_correct_mean": (19 + 2 + 2 + 2) / 4,
        "rollout/length_wrong_mean": (2 + 2 + 21) / 3,
        "rollout/truncated_fraction": 1 / 7,
        "rollout/duplicate_fraction": (1 / 4 + 1 / 2 + 0) / 3,
        "rollout/groups": 3,
        "rollout/dropped_media": 2,
        "media/dropped_truncated_video": 2,
        "rollout/dropped_filter": 1,
    }
    assert values == pytest.approx(expected)
    assert all(metric(name) for name in values)


def test_rewards_that_failed_are_counted_and_only_those_asked_are_averaged() -> None:
    base = scored_group(choice_sample("one"), ["B", "A"])
    group = ScoredGroup(
        group=base.group,
        results=(
            {"iou": RewardResult(value=0.5, weight=1.0), "slow": RewardResult(value=0.0, weight=1.0)},
            {"slow": RewardResult(value=0.0, weight=1.0, status=RewardStatus.TIMEOUT)},
        ),
        totals=(0.5, 0.0),
        accuracy=(0.5, 0.0),
        format=(1.0, 1.0),
    )
    broken = {"slow": RewardResult(value=0.0, weight=1.0, status=RewardStatus.ERROR)}
    other = ScoredGroup(group=base.group, results=(broken, broken), totals=(0, 0), accuracy=(0, 0), format=(1, 1))
    values = rollout_metrics([group, other])
    assert values["reward/iou_mean"] == 0.5
    assert (values["reward/slow_failed"], values["reward/slow_timeouts"]) == (3, 1)


def test_a_step_in_which_everything_was_dropped_has_counts_only() -> None:
    assert rollout_metrics([], [Dropped(sample_id="x", stage="reward", reason="?")]) == {
        "rollout/groups": 0,
        "rollout/dropped_reward": 1,
    }


def test_the_log_takes_what_rollout_metrics_gives(tmp_path: Path) -> None:
    values = rollout_metrics([scored_group(choice_sample("one"), ["B", "A"])])
    MetricsLog(tmp_path / "metrics.jsonl").log(0, values)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 0, **values}
