"""`mmrl doctor`: what this machine can run."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmrl.doctor.finding import Finding

WIDTH = 120
VERDICT = 7  # letters of the longest


class Device(StrEnum):
    """Where the tiny models are."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def doctor(
    folder: Annotated[Path, typer.Option("--folder", metavar="RUNS", help="Where run folders will be.")] = Path("runs"),
    device: Annotated[Device, typer.Option(help="Of the tiny models; auto: a GPU where there is one.")] = Device.AUTO,
    fast: Annotated[bool, typer.Option("--fast", help="Without vLLM, which takes longest to start.")] = False,
    seconds: Annotated[float, typer.Option(help="What is not done by then is ended and reported.", min=1)] = 58.0,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as JSON.")] = False,
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="FOLDER", help="Keep what libraries print there.", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Tell within a minute what this machine can run, and what to do about the rest.

    Versions and imports, memory, disk, GPUs, decoding of video; and a tiny model through every engine and backend, with
    how far each is from the plain model. Each check has a process of its own: one that crashes or hangs is a finding.
    The exit code is 2 where something is broken that a run on the processor needs; what was not reached in time is
    listed, and counts as neither.

    \b
    Examples:
      mmrl doctor
      mmrl doctor --fast --json
      mmrl doctor --folder /data/runs --seconds 300 --log doctor-logs
    """
    from mmrl.cli.console import progress
    from mmrl.doctor.catalog import CHECKS
    from mmrl.doctor.examine import Limits, examine
    from mmrl.doctor.finding import Asked, Verdict
    from mmrl.errors import RunError

    chosen = {name: check for name, check in CHECKS.items() if not (fast and check.slow)}
    with progress(quiet=quiet).task("checks", len(chosen)) as task:
        findings = examine(
            chosen,
            Asked(folder=str(folder), device=device.value),
            limits=Limits(seconds=seconds),
            logs=log,
            told=lambda name: task.advance(1, done=name),
        )
    broken = [f.check for f in findings if f.needed and f.verdict is Verdict.FAILED]
    unseen = any(f.needed and f.verdict is Verdict.SKIPPED for f in findings)
    print(
        _json(findings, fine=False if broken else None if unseen else True) if as_json else _text(findings), flush=True
    )
    if broken:
        raise RunError(f"nothing trains on this machine yet: {', '.join(broken)}. What to do is said above.")


def _text(findings: list[Finding]) -> str:
    """The table, lines of which are broken; how many are how; and what to do."""
    left = max(len(f.check) for f in findings)
    head = (f"{'check':{left}}  {'result':{VERDICT}}  what was seen", "-" * WIDTH)
    rows = [
        textwrap.fill(
            f"{f.check:{left}}  {f.verdict.value:{VERDICT}}  {f.detail}",
            WIDTH,
            subsequent_indent=" " * (left + VERDICT + 4),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for f in findings
    ]
    count = Counter(f.verdict.value for f in findings)
    concerned: dict[str, list[str]] = {}
    for f in findings:
        if f.advice:
            concerned.setdefault(f.advice, []).append(f.check)
    told = [
        textwrap.fill(f"  {', '.join(checks)}: {advice}", WIDTH, subsequent_indent="    ", break_on_hyphens=False)
        for advice, checks in concerned.items()
    ]
    lines = [*head, *rows, "", ", ".join(f"{number} {verdict}" for verdict, number in count.items())]
    return "\n".join([*lines, *(["", "What to do:", *told] if told else [])])


def _json(findings: list[Finding], *, fine: bool | None) -> str:
    """`fine`: None where something that is needed was not looked at."""
    from dataclasses import asdict

    return json.dumps({"cpu_run": fine, "findings": [asdict(finding) for finding in findings]}, indent=1)
