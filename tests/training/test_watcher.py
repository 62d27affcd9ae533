"""The watcher: each kind of trouble from hand-made curves, no false alarm on a healthy one, exact over a resume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mmrl.config.schema import WatchConfig
from mmrl.training.metrics import metric
from mmrl.training.watcher import TROUBLES, Watcher, WatchSettings, page_of, read_warnings, troubles

ROOT = Path(__file__).parents[2]
WINDOW = WatchSettings(window=4)
HEALTHY = {
    "policy/entropy_mean": 1.0,
    "policy/kl_mean": 0.01,
    "reward/accuracy_mean": 0.5,
    "reward/format_mean": 0.9,
    "rollout/length_mean": 100.0,
    "group/no_signal_fraction": 0.3,
    "rollout/duplicate_fraction": 0.1,
    "rollout/truncated_fraction": 0.0,
    "policy/behavior_gap_mean": 0.02,
    "policy/behavior_ess": 0.99,
}


def curve(*changes: Mapping[str, float]) -> list[dict[str, float]]:
    """Four healthy steps, then four with each of these changes."""
    phases: list[Mapping[str, float]] = [{}, *changes]
    return [{"step": 4 * i + j, **HEALTHY, **phase} for i, phase in enumerate(phases) for j in range(4)]


BAD: dict[str, Mapping[str, float]] = {
    "entropy_collapse": {"policy/entropy_mean": 0.09},
    "kl_explosion": {"policy/kl_mean": 1.1},
    "format_up_accuracy_down": {"reward/format_mean": 0.96, "reward/accuracy_mean": 0.44},
    "length_drift": {"rollout/length_mean": 201.0},
    "no_signal": {"group/no_signal_fraction": 0.91},
    "duplicates": {"rollout/duplicate_fraction": 0.81},
    "truncation": {"rollout/truncated_fraction": 0.31},
    "engine_mismatch": {"policy/behavior_gap_mean": 0.21},
}


@pytest.mark.parametrize("name", TROUBLES)
def test_each_trouble_is_named_and_nothing_else(name: str) -> None:
    assert set(troubles(curve(BAD[name]), WINDOW)) == {name}


def test_a_healthy_run_is_left_alone() -> None:
    assert troubles(curve({}, {"reward/accuracy_mean": 0.8}), WINDOW) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"policy/entropy_mean": 0.05, "reward/accuracy_mean": 0.95},  # certain because it is right
        {"rollout/length_mean": 250.0, "reward/accuracy_mean": 0.7},  # the length bought something
        {"policy/entropy_mean": 0.11},
        {"rollout/length_mean": 51.0},
        {"reward/format_mean": 1.0, "reward/accuracy_mean": 0.47},
        {"policy/kl_mean": float("nan")},
    ],
    ids=str,
)
def test_what_looks_like_trouble_and_is_none(change: Mapping[str, float]) -> None:
    assert troubles(curve(change), WINDOW) == {}


def test_few_large_ratios_are_a_mismatch_too() -> None:
    assert set(troubles(curve({"policy/behavior_ess": 0.49}), WINDOW)) == {"engine_mismatch"}


def test_shrinking_is_drift_too_and_a_short_log_is_nothing() -> None:
    assert set(troubles(curve({"rollout/length_mean": 49.0}), WINDOW)) == {"length_drift"}
    assert troubles(curve(BAD["no_signal"])[4:7], WINDOW) == {}


def test_it_warns_once_until_the_trouble_comes_back(tmp_path: Path) -> None:
    rows = curve(BAD["no_signal"], {}, BAD["no_signal"])
    watcher = Watcher(tmp_path, WINDOW)
    told = [(step, watcher.look(step, row)) for step, row in enumerate(rows)]
    begun = [(step, [w.trouble for w in warnings]) for step, (_, warnings) in told if warnings]
    assert begun == [(7, ["no_signal"]), (15, ["no_signal"])]
    lasting = [step for step, (metrics, _) in told if metrics == {"watch/no_signal": 1.0}]
    assert lasting == [7, 15]
    assert [w.step for w in read_warnings(tmp_path)] == [7, 15]
    assert metric("watch/no_signal").reading


def test_a_resumed_watcher_says_what_an_uninterrupted_one_says(tmp_path: Path) -> None:
    rows = curve(BAD["no_signal"], BAD["no_signal"])
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    straight.mkdir()
    killed.mkdir()
    one = Watcher(straight, WINDOW)
    said = [one.look(step, row) for step, row in enumerate(rows)]
    first = Watcher(killed, WINDOW)
    for step, row in enumerate(rows[:11]):  # killed after step 10; its checkpoint is of step 6
        first.look(step, row)
    again = Watcher(killed, WINDOW, logged=rows[:6])
    assert [again.look(step, rows[step]) for step in range(6, 12)] == said[6:]
    assert read_warnings(killed) == read_warnings(straight)


def test_it_ends_a_run_only_for_what_it_was_told_to(tmp_path: Path) -> None:
    for names, ends in (((), False), (("duplicates",), False), (("no_signal",), True)):
        watcher = Watcher(tmp_path, WatchSettings(window=4, stop_on=names))
        for step, row in enumerate(curve(BAD["no_signal"])):
            watcher.look(step, row)
        assert (watcher.reason_to_stop is not None) == ends


def test_config_and_pages_know_every_trouble() -> None:
    assert WatchSettings(**WatchConfig().model_dump()) == WatchSettings()
    assert WatchConfig(stop_on=tuple(TROUBLES)).stop_on == tuple(TROUBLES)
    index = (ROOT / "docs" / "health.md").read_text(encoding="utf-8")
    assert all((ROOT / page_of(name)).is_file() and page_of(name).removeprefix("docs/") in index for name in TROUBLES)
