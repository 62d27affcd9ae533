"""What `mmrl run` prints when it is done: the model before and after, and where to look next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from mmrl.config.tree import shown

if TYPE_CHECKING:
    from mmrl.config.schema import Config
    from mmrl.types import Sample


def before_and_after(run: Path) -> str | None:
    """The table of both evaluations; None where the run has no test split."""
    from mmrl.evaluation.compare import compare
    from mmrl.evaluation.result import read_result
    from mmrl.evaluation.table import comparison_rows, notes, text_table

    files = [run / "evaluation" / f"{name}.json" for name in ("before", "after")]
    if not all(file.is_file() for file in files):
        return None
    before, after = (read_result(file) for file in files)
    return "\n".join([text_table(comparison_rows(before, after, compare(before, after))), *notes(after)])


def next_steps(run: Path, config: Config) -> list[tuple[str, str]]:
    """(what for, file or command) of what the run left."""
    manifest = Path(config.data.test or run / "data" / "test.jsonl")
    steps = [("report", shown(run / "report.html")), ("every rollout", shown(run / "traces"))]
    sample = _first_with_picture(manifest)
    if sample is not None:
        steps.append(("ask the model", _question(run, sample)))
    steps.append(("take the model", shlex.join(["mmrl", "export", shown(run), f"models/{run.name}"])))
    return steps


def _first_with_picture(manifest: Path) -> Sample | None:
    from mmrl.data.manifest import read_manifest

    samples = read_manifest(manifest) if manifest.is_file() else []
    return next((s for s in samples if [media.type for media in s.media] == ["image"]), None)


def _question(run: Path, sample: Sample) -> str:
    words = ["mmrl", "generate", shown(run), "--image", shown(Path(str(sample.media[0].path)))]
    words += ["--question", sample.question]
    if sample.choices and not any("," in choice for choice in sample.choices):
        words += ["--choices", ",".join(sample.choices)]
    return shlex.join(words)
