"""Writing and reading a run's traces: atomic steps, resume, queries, damage."""

from pathlib import Path

import pytest

from mmrl.errors import RunError
from mmrl.traces.reader import TraceReader
from mmrl.traces.writer import TraceWriter
from mmrl.types import Dropped
from tests.traces.fakes import choice_sample, scored_group

GOOD = "<think>a loop</think><answer>B</answer>"
BAD = "<think>a bar</think><answer>A</answer>"


def write_step(writer: TraceWriter, step: int) -> None:
    """Two trained groups of two tasks, one that a filter dropped, one sample whose picture was broken."""
    groups = [
        scored_group(choice_sample("one"), [GOOD, BAD, f"{step}"], step=step),
        scored_group(choice_sample("two", task="count"), [BAD, GOOD], step=step),
    ]
    equal = scored_group(choice_sample("easy"), [GOOD, GOOD], step=step)
    writer.write(
        step,
        groups,
        advantages=[[1.0, -0.5, -0.5], [-1.0, 1.0]],
        dropped=[Dropped(sample_id="torn", stage="media", reason="truncated image", detail="torn.png ends early")],
        dropped_groups=[(equal, Dropped(sample_id="easy", stage="filter", reason="all rewards equal"))],
        streams={"entropy": [[[0.25] * len(r.token_ids) for r in g.group.rollouts] for g in groups]},
    )


def test_a_step_reads_back_with_what_was_dropped_and_why(tmp_path: Path) -> None:
    write_step(TraceWriter(tmp_path / "traces"), 12)
    assert [path.name for path in (tmp_path / "traces").iterdir()] == ["step_000012.jsonl"]
    step = TraceReader(tmp_path).read(12)
    assert [group.sample.id for group in step.groups] == ["one", "two", "easy"]
    one, _, easy = step.groups
    assert one.sample == choice_sample("one")
    assert (one.prompt_text, one.prompt_tokens) == ("user: Which digit is written here?", 3)
    first = one.rollouts[0]
    assert first.rollout.completion.text == GOOD
    assert first.rollout == scored_group(choice_sample("one"), [GOOD], step=12).group.rollouts[0]
    assert (first.total, first.accuracy, first.format, first.advantage) == (1.5, 1.0, 1.0, 1.0)
    assert first.rewards["choice"].details == {"read": "B"}
    assert first.streams["entropy"] == (0.25,) * len(first.rollout.token_ids)
    assert easy.dropped == Dropped(sample_id="easy", stage="filter", reason="all rewards equal")
    assert [rollout.advantage for rollout in easy.rollouts] == [None, None]
    assert [drop.reason for drop in step.dropped] == ["truncated image"]


def test_a_resumed_run_leaves_the_files_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = TraceWriter(tmp_path / "whole" / "traces")
    for step in range(5):
        write_step(whole, step)

    killed = TraceWriter(tmp_path / "killed" / "traces")
    for step in range(4):  # the checkpoint was made after step 1; steps 2 and 3 are to be done again
        write_step(killed, step)
    (tmp_path / "killed" / "traces" / ".step_000004.jsonl.5d0c.tmp").write_bytes(
        b'{"schema":1,"ki'
    )  # killed while writing
    resumed = TraceWriter(tmp_path / "killed" / "traces")
    resumed.discard_from(2)
    assert TraceReader(tmp_path / "killed").steps() == [0, 1]
    for step in range(2, 5):
        write_step(resumed, step)

    files = {path.name: path.read_bytes() for path in (tmp_path / "whole" / "traces").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "killed" / "traces").iterdir()}
    assert len(files) == 5


def test_writing_a_step_again_replaces_it(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "traces")
    write_step(writer, 3)
    writer.write(3, [], advantages=[])
    step = TraceReader(tmp_path).read(3)
    assert (step.groups, step.dropped) == ((), ())


def test_a_reader_sees_steps_as_they_are_finished(tmp_path: Path) -> None:
    reader = TraceReader(tmp_path)
    assert reader.steps() == []
    assert list(reader.groups()) == []
    writer = TraceWriter(tmp_path / "traces")
    write_step(writer, 0)
    going_on = reader.groups()
    assert next(going_on).step == 0
    write_step(writer, 1)
    assert reader.steps() == [0, 1]
    writer.discard_from(0)  # under the eyes of a reader that is in the middle of step 0
    assert [group.step for group in going_on] == [0, 0]


def test_groups_are_found_by_step_task_sample_and_predicate(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "traces")
    for step in (8, 9, 10, 1_000_000):
        write_step(writer, step)
    reader = TraceReader(tmp_path)
    assert reader.steps() == [8, 9, 10, 1_000_000]
    assert [group.step for group in reader.groups(first=9, last=10, task="count")] == [9, 10]
    assert [group.step for group in reader.groups(sample_id="one")] == [8, 9, 10, 1_000_000]
    lucky = reader.groups(last=9, predicate=lambda group: sum(r.accuracy for r in group.rollouts) == 1)
    assert [(group.step, group.sample.id) for group in lucky] == [(8, "one"), (8, "two"), (9, "one"), (9, "two")]
    assert [drop.step for drop in reader.drops(first=10)] == [10, 1_000_000]


def test_an_unfinished_last_line_is_not_there_yet(tmp_path: Path) -> None:
    write_step(TraceWriter(tmp_path / "traces"), 0)
    path = tmp_path / "traces" / "step_000000.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    step = TraceReader(tmp_path).read(0)
    assert len(step.groups) == 3
    assert step.dropped == ()


@pytest.mark.parametrize("damage", [b"\x00\x00\x00", b"[1, 2]", b'{"schema": 1, "kind": "group"}', b'"text"'])
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    write_step(TraceWriter(tmp_path / "traces"), 0)
    path = tmp_path / "traces" / "step_000000.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1] = damage
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(RunError, match=r"step_000000\.jsonl:2: .*damaged"):
        TraceReader(tmp_path).read(0)


def test_a_line_of_a_newer_mmrl_says_to_update(tmp_path: Path) -> None:
    write_step(TraceWriter(tmp_path / "traces"), 0)
    path = tmp_path / "traces" / "step_000000.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"schema":1', b'"schema":2'))
    with pytest.raises(RunError, match="update mmrl"):
        list(TraceReader(tmp_path).groups())


def test_missing_run_and_missing_step_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run folder"):
        TraceReader(tmp_path / "nowhere")
    with pytest.raises(RunError, match="no traces yet"):
        TraceReader(tmp_path).read(0)
    write_step(TraceWriter(tmp_path / "traces"), 4)
    with pytest.raises(RunError, match=r"no trace of step 5\. The run has steps 4 to 4"):
        TraceReader(tmp_path).read(5)


def test_one_advantage_per_rollout_and_one_stream_value_per_token(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "traces")
    group = scored_group(choice_sample("one"), [GOOD, BAD])
    with pytest.raises(ValueError, match=r"advantages have lengths \[1\]"):
        writer.write(0, [group], advantages=[[1.0]])
    with pytest.raises(ValueError, match="stream 'kl'"):
        writer.write(0, [group], advantages=[[1.0, -1.0]], streams={"kl": [[[0.1], [0.1]]]})
    assert TraceReader(tmp_path).steps() == []
