"""The table under the bar of a training: in a real terminal, redrawn in place."""

from __future__ import annotations

import math
import os
import pty
import subprocess
import sys

from mmrl.cli.live_table import LiveTable

TRAINS = """
import time
from mmrl.cli.console import progress
from mmrl.progress import ShowsFigures
shown = progress()
assert isinstance(shown, ShowsFigures)
with shown.task("training", 3) as task:
    for step in range(3):
        shown.show_figures(step, {"reward/total_mean": 0.25 * step, "policy/kl_mean": 0.5})
        task.advance(1)
        time.sleep(0.25)
"""


def test_the_last_steps_are_compared_with_the_first() -> None:
    table = LiveTable()
    assert table.table() is None
    for step in range(20):
        figures = {"reward/total_mean": float(step), "other/figure": 1.0, "policy/kl_mean": math.nan}
        table.add(step, figures | ({"eval/choice_accuracy": 0.75} if step == 3 else {}))
    assert table.rows() == [
        ("reward/total_mean", "19", "14.5", "4.5"),
        ("policy/kl_mean", "–", "–", "–"),
        ("eval/choice_accuracy", "0.75", "", ""),
    ]
    drawn = table.table()
    assert drawn is not None
    assert [column.header for column in drawn.columns] == ["step 19", "now", "last 10", "first 10"]


def test_a_terminal_sees_the_table_and_nothing_of_it_stays() -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", TRAINS],
        stdin=follower,
        stderr=follower,
        stdout=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(follower)
        seen = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:  # Linux: the other end is closed
                break
            if not piece:
                break
            seen += piece
        assert process.wait(30) == 0, seen.decode()
    text = seen.decode()
    assert "reward/total_mean" in text
    assert "step 2" in text
    after = text[text.rindex("reward/total_mean") :]
    assert "\x1b[2K" in after  # its lines are erased at the end
    assert "training: 3/3" in text
