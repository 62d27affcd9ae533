"""Progress and tables where nobody watches a terminal."""

import io
import os
import re
import subprocess
import sys
import time

import pytest

from mmrl.cli.console import PlainProgress, clock, progress, table_text
from mmrl.progress import SilentProgress


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def lines_of(seconds_per_unit: float, total: int, monkeypatch: pytest.MonkeyPatch, *, done: int = 0) -> list[str]:
    clock, out = Clock(monkeypatch), io.StringIO()
    with PlainProgress(out).task("training", total, done=done) as task:
        for _ in range(total - done):
            clock.now += seconds_per_unit
            task.advance(reward=0.51234)
    return out.getvalue().splitlines()


def test_quick_work_says_one_line(monkeypatch: pytest.MonkeyPatch):
    assert lines_of(0.01, 100, monkeypatch) == ["training: 100/100 in 0:01  100/s  reward=0.512"]


def test_a_line_comes_with_each_tenth_but_not_within_ten_seconds(monkeypatch: pytest.MonkeyPatch):
    lines = lines_of(0.5, 100, monkeypatch)  # a tenth takes 5 s, so that every other tenth has a line
    assert [line.split()[1] for line in lines] == ["20/100", "40/100", "60/100", "80/100", "100/100"]
    assert lines[0] == "training: 20/100  2/s  0:40 left  reward=0.512"


def test_slow_work_says_something_every_minute(monkeypatch: pytest.MonkeyPatch):
    lines = lines_of(30.0, 100, monkeypatch)
    assert [line.split()[1] for line in lines[:4]] == ["2/100", "4/100", "6/100", "8/100"]
    assert "30 s each  49:00 left" in lines[0]


def test_resumed_work_counts_its_rate_from_where_it_began(monkeypatch: pytest.MonkeyPatch):
    lines = lines_of(1.0, 100, monkeypatch, done=80)
    assert lines[0].startswith("training: 90/100  1/s  0:10 left")


def test_no_terminal_means_plain_lines_and_quiet_means_none(capsys: pytest.CaptureFixture[str]):
    assert isinstance(progress(quiet=True), SilentProgress)
    out = progress()
    out.note("data: 3 samples")
    with out.task("rows", 2) as task:
        task.advance(2)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("data: 3 samples\nrows: 2/2")
    assert "\x1b" not in said.err


def test_on_a_terminal_bars_leave_one_line_and_no_color_is_respected():
    script = (
        "from mmrl.cli.console import progress\n"
        "with progress().task('training', 3) as task:\n"
        "    for _ in range(3): task.advance(reward=0.5)\n"
    )
    ours, theirs = os.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1"}
    subprocess.run([sys.executable, "-c", script], stderr=theirs, env=env, check=True, timeout=60)
    os.close(theirs)
    said = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "\x1b[2K" in said, "a line that is drawn anew"
    assert re.search(r"training: 3/3 in 0:0\d  \d+/s  reward=0.5", said)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", said), "a colour"


def test_table_aligns_text_left_and_numbers_right():
    assert table_text(("name", "n", "share"), [("a", 10, 0.5), ("日本", 9, None)]) == (
        "name   n  share\n"
        "----  --  -----\n"
        "a     10    0.5\n"
        "日本   9      –"
    )  # fmt: skip


def test_table_without_rows_is_its_head():
    assert table_text(("name", "n"), []) == "name  n\n----  -"


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "0:07"), (750, "12:30"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str):
    assert clock(seconds) == text
