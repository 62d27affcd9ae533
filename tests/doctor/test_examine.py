"""Every check is apart from the others: what one does, hang or crash, is a finding and nothing more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mmrl.doctor.catalog import CHECKS
from mmrl.doctor.examine import MORE_TIME, Limits, examine
from mmrl.doctor.finding import Asked, Check, Finding, Verdict

RUN = "tests.doctor.faults:look"


def made(
    folder: Path, *parts: str, deadline: float = 30.0, limit: float = 60.0, together: str = ""
) -> dict[str, Finding]:
    check = Check(run=RUN, parts=parts, seconds=deadline, needed=("fine 1",), together=together)
    asked = Asked(folder=str(folder), device="cpu")
    found = examine({"faulty": check}, asked, limits=Limits(seconds=limit), logs=folder)
    return {finding.check: finding for finding in found}


def test_a_crash_is_a_finding_with_its_last_words_and_the_next_part_is_looked_at(tmp_path: Path) -> None:
    found = made(tmp_path, "fine 1", "crash", "fine 2")
    assert list(found) == ["fine 1", "crash", "fine 2"]
    assert found["crash"].verdict is Verdict.FAILED
    assert "signal SIGSEGV, saying: what the library said last" in found["crash"].detail
    assert [found[name].verdict for name in ("fine 1", "fine 2")] == [Verdict.OK, Verdict.OK]
    assert found["fine 1"].needed
    assert not found["fine 2"].needed
    assert found["fine 1"].figures == {"answer": 42}
    first, second = ((tmp_path / f"fine {n}.pid").read_text() for n in (1, 2))
    assert first != second  # the one that crashed had them both before


def test_a_process_that_ends_by_itself_says_how(tmp_path: Path) -> None:
    assert "exit code 3" in made(tmp_path, "exit")["exit"].detail


def test_a_part_that_hangs_is_ended_at_its_deadline(tmp_path: Path) -> None:
    began = time.monotonic()
    found = made(tmp_path, "hang", "fine 1", deadline=3.0)
    assert time.monotonic() - began < 20
    assert found["hang"].verdict is Verdict.FAILED
    assert "was not done within 3 s" in found["hang"].detail
    assert "it hangs" in found["hang"].advice
    assert found["fine 1"].verdict is Verdict.OK
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "hang.pid").read_text()), 0)


def test_all_is_over_at_the_limit_and_what_was_not_looked_at_says_so(tmp_path: Path) -> None:
    began = time.monotonic()
    found = made(tmp_path, "hang", "fine 1", "fine 2", deadline=30.0, limit=3.0)
    assert time.monotonic() - began < 20
    assert "mmrl doctor --seconds" in found["hang"].advice
    assert [found[name].verdict for name in ("fine 1", "fine 2")] == [Verdict.SKIPPED, Verdict.SKIPPED]
    assert found["fine 1"].needed


def test_what_a_check_raises_is_told_in_one_line_with_what_to_do(tmp_path: Path) -> None:
    found = made(tmp_path, "raise", "refuse")
    assert found["raise"].detail == "RuntimeError: operator torchvision::nms does not exist"
    assert "pip install -c constraints.txt torch torchvision" in found["raise"].advice
    assert found["refuse"].detail == "backend.type is deepspeed, which is not installed here."
    assert "mmrl[deepspeed]" in found["refuse"].advice


def test_what_libraries_print_goes_to_the_log_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, "raise")
    assert "printed on stdout by a library" in (tmp_path / "faulty.log").read_text()
    assert capfd.readouterr() == ("", "")


def test_parts_that_are_fine_can_share_a_row(tmp_path: Path) -> None:
    found = made(tmp_path, "fine 1", "raise", "fine 2", together="both")
    assert found["both"].detail == "fine 1 saw cpu, fine 2 saw cpu"
    assert found["both"].needed
    assert found["raise"].verdict is Verdict.FAILED
    assert len(found) == 2


def test_parts_that_are_skipped_share_a_row_by_their_reason(tmp_path: Path) -> None:
    """What is missing is not said to have had no time, nor the other way round."""
    parts = ("lacks 1", "fine 1", "skips", "lacks 2")
    check = Check(run=RUN, parts=parts, seconds=30.0, needed=("skips",), together="all")

    def rows(seconds: float) -> list[tuple[str, str, str, bool]]:
        found = examine({"faulty": check}, Asked(folder=str(tmp_path)), limits=Limits(seconds=seconds), logs=tmp_path)
        return [(f.check, f.detail, f.advice, f.needed) for f in found]

    assert rows(60.0) == [
        ("all", "fine 1 saw cpu", "", False),
        ("all, the rest", "not installed: lacks 1, lacks 2", "install it", False),
        ("all, the rest", "not for this system: skips", "", True),
    ]
    assert rows(0.0) == [("all, the rest", f"no time was left: {', '.join(parts)}", MORE_TIME, True)]


def test_checks_that_are_needed_are_parts_and_begun_before_slow_ones() -> None:
    slow = [name for name, check in CHECKS.items() if check.slow]
    for name, check in CHECKS.items():
        assert set(check.needed) <= set(check.parts), name
    assert slow == ["vllm", "vllm server"]
    order = list(CHECKS)
    assert max(map(order.index, ("machine", "versions", "disk", "tiny model"))) < min(map(order.index, slow))
