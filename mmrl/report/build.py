"""Writes `report.json` and `report.html` of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmrl.atomic import write_atomically
from mmrl.errors import RunError
from mmrl.evaluation.compare import Comparison, compare
from mmrl.report.page import render_page
from mmrl.report.picks import Pick, pick_groups
from mmrl.report.run_folder import RunFolder, read_run_folder
from mmrl.report.summary import summarise_run


def build_report(run_dir: Path, *, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Both files, each whole or not at all; gives back the body of report.json.

    A part of the run that is missing or damaged is listed under `missing`, and the report does without it.

    facts: what the folder does not tell, JSON values. All of it is shown; `stages` (name → {"seconds", "peak_mib"}) is
    also summed up at the top. Others that belong here: `seed`, `versions` (package → version), `counts`.
    """
    run = read_run_folder(run_dir)
    comparison, run = _compared(run)
    picks, run = _picked(run)
    summary = summarise_run(run, comparison, facts)
    page = render_page(run, comparison, picks, summary)
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(run_dir / "report.json", text.encode("utf-8", errors="backslashreplace"))
    write_atomically(run_dir / "report.html", page.encode("utf-8", errors="replace"))
    return summary


def _compared(run: RunFolder) -> tuple[Comparison | None, RunFolder]:
    if run.before is None or run.after is None:
        return None, run
    try:
        return compare(run.before, run.after), run
    except RunError as error:
        return None, replace(run, missing=(*run.missing, str(error)))


def _picked(run: RunFolder) -> tuple[list[Pick], RunFolder]:
    try:
        return pick_groups(run.traces), run
    except RunError as error:
        return [], replace(run, missing=(*run.missing, f"traces/ cannot be used. {error}"))
