"""What the verbs of `mmrl data` share: options with one wording, and how a report is told."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmrl.curation.media_names import MediaMatch
    from mmrl.curation.report import Report

Manifest = Annotated[Path, typer.Argument(metavar="MANIFEST", help="A JSON-lines file.", show_default=False)]
Manifests = Annotated[list[Path], typer.Argument(metavar="MANIFEST…", help="JSON-lines files.", show_default=False)]
OutFile = Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="Manifest to write.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="Processes. Default: one a core.", show_default=False),
]
NearBits = Annotated[
    int | None,
    typer.Option(
        "--near",
        metavar="BITS",
        min=0,
        max=16,
        help="Pictures and clips that look alike count as the same: hashes may differ in so many of 64 bits. "
        "4 is cautious.",
        show_default=False,
    ),
]
NearText = Annotated[
    float | None,
    typer.Option(
        "--near-text",
        metavar="SHARE",
        help="Questions count as the same that have so much in common. 0.8 is cautious.",
        show_default=False,
    ),
]


class By(StrEnum):
    """What a media file is told apart by."""

    CONTENT = "content"
    PATH = "path"


MediaBy = Annotated[
    By, typer.Option("--media", help="Tell media apart by their content, or by their path and open none.")
]
Index = Annotated[
    Path | None,
    typer.Option(
        "--index",
        metavar="FILE",
        help="Keep what is found about media here: the next verb opens only files that changed.",
        show_default=False,
    ),
]
MediaSeconds = Annotated[
    float, typer.Option("--media-seconds", min=0.1, help="A media file may take so long to decode; then it is broken.")
]


def media_match(by: By, near: int | None, index: Path | None, seconds: float, workers: int | None) -> MediaMatch:
    """The options as the library takes them."""
    from mmrl.curation.media_names import MediaMatch

    return MediaMatch(by=by.value, near=near, index=index, seconds=seconds, workers=workers)


def tell(report: Report) -> None:
    """What was written, what was left out and why."""
    from mmrl.cli.console import print_table

    would = "would hold " if report.dry_run else ""
    for path, count in report.written.items():
        share = f" ({count / report.rows:.1%})" if report.rows and len(report.written) > 1 else ""
        print(f"{shown(path)}: {would}{count} of {report.rows} rows{share}")
    for note in report.notes:
        print(note)
    if report.dropped:
        print()
        print_table(("left out because", "rows"), list(report.dropped.items()))
        if report.listed is not None:
            print(f"Which ones: {shown(report.listed)}" + (" (not written: dry run)" if report.dry_run else ""))
    report.raise_if_nothing_is_left()


def shown(path: Path) -> Path:
    """Relative to where the user stands, where that is shorter."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
