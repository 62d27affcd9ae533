"""The index that a training run keeps up: there when the run has ended, never in its way, never its end."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from mmrl.child import Child
from mmrl.traces import indexing
from mmrl.traces.index import TraceIndex
from mmrl.traces.indexing import Indexing
from mmrl.traces.parts import index_folder, read_parts, update_parts
from mmrl.traces.query import Find
from mmrl.traces.writer import TraceWriter
from tests.traces.fakes import choice_sample, scored_group


@pytest.fixture
def traces(tmp_path: Path) -> TraceWriter:
    return TraceWriter(tmp_path / "run" / "traces")


def write(traces: TraceWriter, step: int) -> None:
    traces.write(step, [scored_group(choice_sample(f"s{step}"), ["A", "B"], step=step)], advantages=[[0.0, 0.0]])


def children() -> list[int]:
    """Of this process, those that index."""
    return [c.pid for c in psutil.Process().children() if any("mmrl.traces.indexing" in word for word in c.cmdline())]


def indexed(traces: Path) -> set[int]:
    return {step for part in read_parts(index_folder(traces)) for step in part.steps}


def test_a_run_that_has_ended_opens_with_nothing_to_index(
    tmp_path: Path, traces: TraceWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "NEW_BYTES", 1)
    monkeypatch.setattr(indexing, "LAST_BYTES", 1)
    told: list[str] = []
    with Indexing(tmp_path / "run" / "traces", tell=told.append) as kept:
        for step in range(3):
            write(traces, step)
            kept.look(traces.written_bytes)
    assert children() == []
    assert told == []
    index = TraceIndex(tmp_path / "run")  # nothing refreshes it
    assert index.pending() == 0
    assert index.find(Find())[1] == 3


def test_the_index_grows_while_the_run_goes_on_and_one_process_at_a_time_does_it(
    tmp_path: Path, traces: TraceWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "NEW_BYTES", 1)
    with Indexing(tmp_path / "run" / "traces", tell=print) as kept:
        write(traces, 0)
        kept.look(traces.written_bytes)
        [child] = children()
        write(traces, 1)
        kept.look(traces.written_bytes)
        assert children() == [child]
        until = time.monotonic() + 120
        while not indexed(tmp_path / "run" / "traces") and time.monotonic() < until:
            time.sleep(0.05)
        assert 0 in indexed(tmp_path / "run" / "traces")


def test_a_small_run_starts_no_process(tmp_path: Path, traces: TraceWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **keys: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with Indexing(tmp_path / "run" / "traces", tell=print) as kept:
        write(traces, 0)
        kept.look(traces.written_bytes)
    with Indexing(tmp_path / "run" / "traces", tell=print, wanted=False) as kept:  # another rank than the first
        kept.look(2**40)
    assert not indexed(tmp_path / "run" / "traces")


def test_an_index_that_cannot_be_written_is_told_once_and_the_run_goes_on(
    tmp_path: Path, traces: TraceWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "NEW_BYTES", 1)
    monkeypatch.setattr(indexing, "LAST_BYTES", 1)
    (tmp_path / "run" / "traces" / ".index").write_text("in the way")
    told: list[str] = []
    with Indexing(tmp_path / "run" / "traces", tell=told.append) as kept:
        write(traces, 0)
        kept.look(traces.written_bytes)
        while not told:
            kept.look(traces.written_bytes)
            time.sleep(0.02)
        write(traces, 1)
        kept.look(traces.written_bytes)
        assert children() == []
    [line] = told
    assert "FileExistsError" in line
    assert "mmrl app inspect" in line


def test_a_run_that_fails_or_cannot_wait_takes_the_process_with_it(
    tmp_path: Path, traces: TraceWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Child] = []

    class Recorded(Child):  # on a busy machine it may be done before one has looked for it
        def __init__(self, serve: str) -> None:
            super().__init__(serve)
            started.append(self)

    monkeypatch.setattr(indexing, "Child", Recorded)
    monkeypatch.setattr(indexing, "NEW_BYTES", 1)
    write(traces, 0)
    kept = Indexing(tmp_path / "run" / "traces", tell=print)
    kept.look(traces.written_bytes)
    [child] = started
    kept.__exit__(ZeroDivisionError, None, None)
    assert child.process.poll() is not None
    assert children() == []
    monkeypatch.setattr(indexing, "END_SECONDS", 0.0)
    with Indexing(tmp_path / "run" / "traces", tell=print) as kept:
        kept.look(traces.written_bytes)
    assert children() == []
    assert update_parts(tmp_path / "run" / "traces", tmp_path / "run" / "traces" / ".index")  # no lock is left
    assert TraceIndex(tmp_path / "run").pending() == 0
