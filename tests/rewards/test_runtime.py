"""The runtime keeps a run alive whatever a reward does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mmrl.errors import ConfigError, RewardError
from mmrl.rewards.build import reward_uses
from mmrl.rewards.runtime import RewardScorer
from mmrl.types import RewardStatus
from tests.rewards.world import group, sample

HERE = "tests.rewards.user_rewards"
GOLD = sample("choice", "B", choices=("a cat", "a dog"))
RIGHT, WRONG = "<think>x</think><answer>B</answer>", "<think>x</think><answer>A</answer>"


def scorer(entries: Sequence[Mapping[str, Any]], **options: Any) -> RewardScorer:
    return RewardScorer(reward_uses({"default": entries}), **options)


def test_total_accuracy_and_format_are_weighted_sums_and_means() -> None:
    entries = [
        {"name": "choice", "weight": 2.0},
        {"name": "format", "weight": 0.5},
        {"name": "agreement", "weight": 0.25},
    ]
    with scorer(entries) as rewards:
        (scored,), dropped = rewards.score([group(GOLD, [RIGHT, WRONG, "B"])])
        assert scored.totals == (2.0 + 0.5 + 0.125, 0.5 + 0.125, 0.0)
        assert scored.accuracy == (1.0, 0.0, 0.0)
        assert scored.format == (1.0, 1.0, 0.0)
        assert scored.results[0]["choice"].weight == 2.0
        assert not dropped
        assert rewards.process_ids == []  # cheap rewards start no process
        metrics = rewards.metrics()
    assert metrics["reward/choice_mean"] == pytest.approx(1 / 3)
    assert metrics["reward/format_failed"] == 0.0
    assert metrics["reward/format_timeouts"] == 0.0
    assert metrics["time/reward_choice_ms"] > 0.0


def test_accuracy_is_the_weighted_mean_of_accuracy_rewards_in_unit_range() -> None:
    """giou is in [−1, 1]: a perfect box is 1 in both; a far one has iou 0 and giou −0.5 → (0 · 3 + 0.25 · 1) / 4."""
    s = sample("box", (0.0, 0.0, 1.0, 1.0))
    far = "<think>x</think><answer>[3, 0, 4, 1]</answer>"  # hull 4, union 2: giou = 0 − 2/4
    with scorer([{"name": "iou", "weight": 3.0}, {"name": "giou"}]) as rewards:
        (scored,), _ = rewards.score([group(s, ["<answer>[0,0,1,1]</answer>", far])])
    assert scored.accuracy == pytest.approx((1.0, 0.0625))
    assert scored.totals == pytest.approx((4.0, -0.5))
    assert scored.format == (1.0, 1.0)  # no format reward: the task asks for no form


def test_a_group_without_rollouts_and_a_call_without_groups_score_nothing() -> None:
    with scorer([{"name": "choice"}]) as rewards:
        assert rewards.score([group(GOLD, [])]) == ([], [])
        assert rewards.score([]) == ([], [])
        assert rewards.metrics() == {}


def test_normalised_values_come_from_the_declared_range() -> None:
    s = sample("box", (0.0, 0.0, 1.0, 1.0))
    with scorer([{"name": "giou", "normalize": True, "weight": 2.0}]) as rewards:
        (scored,), _ = rewards.score([group(s, ["<answer>[3, 0, 4, 1]</answer>"])])
    assert scored.totals == pytest.approx((0.5,))


def test_each_task_is_scored_by_its_own_set_and_the_others_by_default() -> None:
    sets = reward_uses({"counting": [{"name": "number"}], "default": [{"name": "choice"}]})
    with RewardScorer(sets) as rewards:
        count = sample("number", 3.0, task="counting", id="n")
        scored, _ = rewards.score([group(count, ["<answer>three</answer>"]), group(GOLD, [RIGHT])])
        assert [list(s.results[0]) for s in scored] == [["number"], ["choice"]]
        assert [s.totals for s in scored] == [(1.0,), (1.0,)]
    message = r"task 't'.*counting.*rewards\.t"
    with RewardScorer({"counting": sets["counting"]}) as rewards, pytest.raises(RewardError, match=message):
        rewards.score([group(GOLD, [RIGHT])])


@pytest.fixture(scope="module")
def wild():
    with scorer([{"path": f"{HERE}:wild", "timeout_seconds": 1.0}], workers=2) as rewards:
        yield rewards


@pytest.mark.parametrize(
    ("text", "status", "error"),
    [
        ("sleep", RewardStatus.TIMEOUT, "killed at its time limit of 1 seconds"),
        ("spin", RewardStatus.TIMEOUT, "killed at its time limit of 1 seconds"),
        ("segfault", RewardStatus.ERROR, "its process ended: signal SIGSEGV"),
        ("exit", RewardStatus.ERROR, "its process ended: exit code 3"),
        ("raise", RewardStatus.ERROR, "KeyError: 'no such thing'"),
        ("recursion", RewardStatus.ERROR, "RecursionError"),
        ("memory", RewardStatus.ERROR, "MemoryError"),
        ("out of range", RewardStatus.ERROR, "outside its declared range [0, 1]"),
        ("nan", RewardStatus.ERROR, "outside its declared range"),
        ("nothing", RewardStatus.ERROR, "neither a Score nor a number"),
        ("details", RewardStatus.ERROR, "its details cannot leave the process"),
    ],
)
def test_a_failing_reward_costs_that_completion_alone(wild: RewardScorer, text: str, status: str, error: str) -> None:
    (scored,), dropped = wild.score([group(GOLD, ["fine", text, "also fine"])])
    assert scored.totals == (1.0, 0.0, 1.0)
    result = scored.results[1]["wild"]
    assert result.status is status
    assert error in result.details["error"]
    assert wild.metrics()["reward/wild_failed"] == 1.0
    assert wild.metrics()["reward/wild_timeouts"] == float(status is RewardStatus.TIMEOUT)
    assert not dropped


def test_workers_do_not_load_torch_and_a_late_one_is_really_gone(wild: RewardScorer) -> None:
    import torch  # noqa: F401 - the main process has it, its workers must not

    (scored,), _ = wild.score([group(GOLD, ["fine"])])
    details = scored.results[0]["wild"].details
    assert details["torch"] is False
    before = wild.process_ids
    assert details["pid"] in before
    (scored,), _ = wild.score([group(GOLD, ["children"] * 2)])
    assert scored.totals == (0.0, 0.0)
    for process in before:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    deadline = time.monotonic() + 10.0
    while "sleep\x0061.5" in _command_lines():  # what a killed reward had started goes too
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _command_lines() -> str:
    lines = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline") as file:
                    lines.append(file.read())
            except OSError:
                pass
    return "\n".join(lines)


def test_a_failed_rollout_leaves_its_group_where_the_recipe_says_so() -> None:
    entry = {"path": f"{HERE}:wild", "timeout_seconds": 1.0, "on_failure": "leave_out"}
    with scorer([entry, {"name": "format"}]) as rewards:
        groups = [group(GOLD, ["fine", "raise", "fine"]), group(GOLD, ["raise", "raise"])]
        (scored,), dropped = rewards.score(groups)
    assert [rollout.index for rollout in scored.group.rollouts] == [0, 2]
    assert len(scored.totals) == len(scored.results) == len(scored.accuracy) == len(scored.format) == 2
    assert [(d.sample_id, d.stage, d.reason) for d in dropped] == [("s1", "reward", "reward wild failed")] * 3
    assert "rollout 1 left its group: KeyError" in dropped[0].detail


def test_a_reward_that_never_works_stops_the_run_and_says_why() -> None:
    other = sample("choice", "B", id="s2")
    with scorer([{"path": f"{HERE}:broken"}, {"name": "format"}]) as rewards:
        with pytest.raises(RewardError, match=r"'broken' failed on all 4 trials.*ZeroDivisionError: always"):
            rewards.check([GOLD, other])
        rewards.score([group(GOLD, ["a"] * 4)])  # one sample alone does not prove it
        with pytest.raises(RewardError, match=r"'broken' failed on the last 12 completions.*never worked.*always"):
            rewards.score([group(GOLD, ["a"] * 4), group(other, ["a"] * 4)])


def test_a_reward_that_stops_working_ends_the_run_later() -> None:
    with scorer([{"path": f"{HERE}:wild"}], stop_after_failures=10) as rewards:
        rewards.score([group(GOLD, ["fine"])])
        rewards.score([group(GOLD, ["raise"] * 9)])
        rewards.score([group(GOLD, ["fine"])])  # counting begins anew
        rewards.score([group(GOLD, ["raise"] * 9)])
        with pytest.raises(RewardError, match="last 10 completions in a row, although it worked before"):
            rewards.score([group(GOLD, ["raise"])])


def test_data_that_a_set_cannot_score_is_found_at_the_start() -> None:
    with scorer([{"name": "choice"}]) as rewards:
        rewards.check([GOLD])
        with pytest.raises(RewardError, match=r"'s9'.*'choice'.*type 'box'"):
            rewards.check([GOLD, sample("box", (0, 0, 1, 1), id="s9")])
        with pytest.raises(RewardError, match=r"'s8'.*'E'.*A to B"):
            rewards.check([sample("choice", "E", id="s8", choices=("x", "y"))])
    with scorer([{"name": "judge"}]) as rewards, pytest.raises(RewardError, match=r"off until.*url"):
        rewards.check([GOLD])


def test_a_future_brings_the_same_scores_and_errors() -> None:
    with scorer([{"path": f"{HERE}:wild", "timeout_seconds": 5.0}, {"name": "choice"}]) as rewards:
        futures = [rewards.score_async([group(GOLD, [RIGHT, WRONG])]) for _ in range(3)]
        assert [future.result()[0][0].totals for future in futures] == [(2.0, 1.0)] * 3
        wrong = rewards.score_async([group(sample("number", 1.0), ["a"])])
        with pytest.raises(RewardError):
            wrong.result()


def test_a_reward_that_asks_for_frames_gets_those_of_its_sample() -> None:
    with scorer([{"path": f"{HERE}:frames_seen"}], frames=f"{HERE}:decode") as rewards:
        (scored,), _ = rewards.score([group(GOLD, ["a"])])
        assert scored.results[0]["frames_seen"].details == {"frames": ["frame of s1", 2]}
        (scored,), _ = rewards.score([group(sample("choice", "B", id="broken"), ["a"])])
        assert scored.results[0]["frames_seen"].details == {"error": "MediaError: the clip ends early"}
    with scorer([{"path": f"{HERE}:frames_seen"}]) as rewards:
        (scored,), _ = rewards.score([group(GOLD, ["a"])])
        assert "given no frame loader" in scored.results[0]["frames_seen"].details["error"]


def test_user_rewards_are_functions_parts_or_whole_rewards() -> None:
    entries: list[dict[str, Any]] = [
        {"path": f"{HERE}:right"},
        {"path": f"{HERE}:area", "options": {"factor": 2.0}},
        {"path": f"{HERE}:Longer", "options": {"than": 1}},
        {"path": f"{HERE}:SHAPING", "options": {"than": 2}},
    ]
    with scorer(entries) as rewards:
        (scored,), _ = rewards.score([group(GOLD, ["B!", "A"])])
    assert scored.totals == (1.0 + 1.0 + 1.0 + 0.0, 0.0 + 1.0 + 0.0 + 0.0)
    assert scored.accuracy == pytest.approx((1.0, 1 / 3))  # SHAPING is not of kind accuracy


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "chioce"}, r"rewards\.default\[0\].*Did you mean 'choice'"),
        ({"name": "choice", "wieght": 2}, "Did you mean 'weight'"),
        ({"name": "choice", "path": "a:b"}, "either name"),
        ({"name": "choice", "on_failure": "ignore"}, "'zero' or 'leave_out'"),
        ({"name": "choice", "timeout_seconds": 0}, "must be above 0"),
        ({"path": "nowhere_at_all:area"}, "no module 'nowhere_at_all'"),
        ({"path": f"{HERE}:aera"}, "Did you mean 'area'"),
        ({"path": f"{HERE}:area", "options": {"fcator": 2}}, "Did you mean 'factor'"),
        ({"path": f"{HERE}:Longer", "options": {"then": 2}}, "Did you mean 'than'"),
        ({"path": f"{HERE}:NO_FUNCTION"}, "is a int; a reward is called"),
        ({"path": "area"}, "write module:function"),
    ],
)
def test_a_wrong_entry_is_a_config_error_that_names_the_place(entry: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reward_uses({"default": [entry]})


def test_the_same_reward_twice_in_a_set_is_refused() -> None:
    with pytest.raises(RewardError, match="'choice' more than once"):
        scorer([{"name": "choice"}, {"name": "choice"}])


def test_a_reward_that_does_not_load_elsewhere_says_so() -> None:
    from mmrl.rewards.reward import Reward
    from mmrl.rewards.runtime import RewardUse

    local = Reward(function=lambda completion, s: 1.0, summary="", kind="accuracy", in_process=False)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="top level of an importable module"):
        RewardScorer({"default": [RewardUse(name="local", reward=local)]})


def test_workers_do_not_outlive_a_parent_that_was_killed() -> None:
    script = textwrap.dedent(
        f"""
        from mmrl.rewards.build import reward_uses
        from mmrl.rewards.runtime import RewardScorer
        from tests.rewards.world import group, sample
        rewards = RewardScorer(reward_uses({{"default": [{{"path": "{HERE}:wild", "timeout_seconds": 50.0}}]}}))
        rewards.score([group(sample("choice", "B"), ["fine"] * 2)])
        print(*rewards.process_ids, flush=True)
        rewards.score([group(sample("choice", "B"), ["spin", "sleep"])])
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert workers
    time.sleep(0.3)  # both are busy now
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline and any(_alive(worker) for worker in workers):
        time.sleep(0.1)
    assert [worker for worker in workers if _alive(worker)] == []


def _alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
