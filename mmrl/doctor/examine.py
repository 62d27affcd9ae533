"""Makes the checks: each in a process of its own, two at a time, none past its deadline, all within the limit."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from mmrl.child import Child, exit_text
from mmrl.doctor.advice import advice_for
from mmrl.doctor.finding import Asked, Check, Finding, Verdict

AT_A_TIME = 2
MORE_TIME = "give it more: mmrl doctor --seconds 300"
TAIL_BYTES = 20_000  # of a log, in which a reason is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long it may take."""

    seconds: float = 58.0  # for everything
    at_a_time: int = AT_A_TIME  # checks


def examine(
    checks: Mapping[str, Check],
    asked: Asked,
    *,
    limits: Limits,
    logs: Path | None = None,
    told: Callable[[str], None] = lambda name: None,
) -> list[Finding]:
    """The findings of all checks, in their order. Never raises for what a check does.

    `logs`: a folder for what libraries print, one file per check; None: a temporary one. `told(name)` is called, from
    any thread, when a check is done.
    """
    until = time.monotonic() + limits.seconds
    with _folder(logs) as folder, ThreadPoolExecutor(max_workers=limits.at_a_time) as threads:
        bench = _Bench(asked, until, folder)
        try:
            under_way = []
            for name, check in checks.items():
                future = threads.submit(bench.findings, name, check)
                future.add_done_callback(lambda _, name=name: told(name))  # type: ignore[misc]
                under_way.append(future)
            return [finding for future in under_way for finding in future.result()]
        except BaseException:  # Ctrl-C: what runs is ended at once
            bench.stop()
            raise


class _Bench:
    """The processes of one examination."""

    def __init__(self, asked: Asked, until: float, logs: Path) -> None:
        self._asked = asked
        self._until = until
        self._logs = logs
        self._running: set[Child] = set()
        self._lock = threading.Lock()

    def findings(self, name: str, check: Check) -> list[Finding]:
        """Of all parts. After a part that ended its process, the others get a new one."""
        log = self._logs / f"{name.replace(' ', '-')}.log"
        found: list[Finding] = []
        child: Child | None = None
        for part in check.parts:
            if time.monotonic() >= self._until:
                finding = _skipped(part, "no time was left", MORE_TIME)
            else:
                try:
                    child = child or self._started(log)
                    finding = self._ask(child, check, part, log)
                except _Ended as ended:
                    self._end(child)
                    child = None
                    finding = ended.finding
            found.append(replace(finding, needed=part in check.needed))
        self._end(child)
        return _together(found, check.together) if check.together else found

    def stop(self) -> None:
        """Nothing further is begun, and what runs is ended."""
        self._until = 0.0
        for child in list(self._running):
            child.kill()

    def _started(self, log: Path) -> Child:
        child = Child("mmrl.doctor.worker:serve")
        with self._lock:
            self._running.add(child)
        child.connection.send(str(log))
        return child

    def _end(self, child: Child | None) -> None:
        if child is not None:
            child.kill()
            with self._lock:
                self._running.discard(child)

    def _ask(self, child: Child, check: Check, part: str, log: Path) -> Finding:
        began = time.monotonic()
        left = max(0.0, min(check.seconds, self._until - began))
        try:
            child.connection.send((check.run, part, self._asked))
            if not child.connection.poll(left):
                raise _Ended(_late(part, left, own=left >= check.seconds))
            finding: Finding = child.connection.recv()
        except (EOFError, OSError) as error:
            raise _Ended(_crashed(part, child.kill(), _last_words(log))) from error
        if finding.verdict is Verdict.FAILED and not finding.advice:
            finding = replace(finding, advice=advice_for(finding.detail))
        return finding


class _Ended(Exception):
    """The part ended its process, or has to be ended with it."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.detail)
        self.finding = finding


def _late(part: str, seconds: float, *, own: bool) -> Finding:
    """`own`: past the part's own deadline, not the examination's, which says nothing about the part."""
    detail = f"was not done within {seconds:.0f} s and was ended"
    if not own:
        return _skipped(part, detail, MORE_TIME)
    advice = "it hangs: read its log (mmrl doctor --log FOLDER)"
    return Finding(check=part, verdict=Verdict.FAILED, detail=detail, advice=advice)


def _crashed(part: str, code: int, said: str) -> Finding:
    return Finding(
        check=part,
        verdict=Verdict.FAILED,
        detail=f"its process ended with {exit_text(code)}" + (f", saying: {said}" if said else ""),
        advice=advice_for(said),
    )


def _skipped(part: str, why: str, advice: str = "") -> Finding:
    return Finding(check=part, verdict=Verdict.SKIPPED, detail=why, advice=advice)


def _together(found: Sequence[Finding], name: str) -> list[Finding]:
    """Those that are fine as one row, those that were skipped as one for each reason, what is left as it is."""
    rows = []
    fine = [finding for finding in found if finding.verdict is Verdict.OK]
    if fine:
        rows.append(_row(fine, name, ", ".join(finding.detail for finding in fine)))
    skipped = [finding for finding in found if finding.verdict is Verdict.SKIPPED]
    for why in dict.fromkeys(finding.detail for finding in skipped):
        alike = [finding for finding in skipped if finding.detail == why]
        rows.append(_row(alike, f"{name}, the rest", f"{why}: {', '.join(finding.check for finding in alike)}"))
    return [*rows, *(finding for finding in found if finding.verdict not in (Verdict.OK, Verdict.SKIPPED))]


def _row(alike: Sequence[Finding], name: str, detail: str) -> Finding:
    return Finding(
        check=name,
        verdict=alike[0].verdict,
        detail=detail,
        advice=alike[0].advice,
        needed=any(finding.needed for finding in alike),
        seconds=sum(finding.seconds for finding in alike),
    )


def _last_words(log: Path) -> str:
    """The last line that was printed."""
    if not log.is_file():
        return ""
    lines = [line.strip() for line in log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").splitlines()]
    return next((line[:300] for line in reversed(lines) if line), "")


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mmrl-doctor-") if given is None else nullcontext(str(given)) as name:
        Path(name).mkdir(parents=True, exist_ok=True)
        yield Path(name)
