"""`mmrl data validate`: what is wrong with a manifest."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mmrl.cli.data_options import DryRun, Index, Manifest, MediaSeconds, Workers, tell
from mmrl.cli.options import Quiet


class Look(StrEnum):
    """How far media are looked into."""

    DECODE = "decode"
    HEADER = "header"


def validate(
    manifest: Manifest,
    media: Annotated[bool, typer.Option("--media/--no-media", help="Also look into every media file.")] = True,
    depth: Annotated[
        Look, typer.Option(help="Decode pictures whole and eight frames of each clip, or read headers.")
    ] = Look.DECODE,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.jsonl", help="Write the usable rows here.", show_default=False),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 2 if anything at all is wrong.")] = False,
    index: Index = None,
    media_seconds: MediaSeconds = 60.0,
    dry_run: DryRun = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """List every defect of a manifest and its media, by line, with what to do about it.

    Defects (a run would refuse the manifest), media that are missing (a run would stop) or cannot be decoded (a run
    would drop their samples), answers that do not fit the media (a box outside the picture, a span after the clip),
    and answer types that are rare in their task. Nothing is changed; --out writes the usable rows. Exit code 2 where
    no row is usable, and with --strict if anything is wrong.

    \b
    Examples:
      mmrl data validate data/digits/train.jsonl
      mmrl data validate huge.jsonl --no-media
      mmrl data validate raw.jsonl --out usable.jsonl --index media.sqlite
    """
    from mmrl.cli.console import print_table, progress
    from mmrl.curation.media_index import Examination
    from mmrl.curation.validate import validate_rows
    from mmrl.errors import DataError

    looking = Examination(depth=depth.value, index=index, seconds=media_seconds, workers=workers) if media else None
    found = validate_rows(
        manifest,
        examination=looking,
        on_finding=print,
        out=out,
        dry_run=dry_run,
        workers=workers,
        progress=progress(quiet=quiet),
    )
    rows = [(kind, reason, count) for kind, reasons in found.found.items() for reason, count in reasons.items()]
    if rows:
        print()
        print_table(("kind", "reason", "found"), rows)
    looked = f"{found.media_files} media files were looked into" if media else "media were not looked at"
    print(f"{manifest}: {found.usable} of {found.rows} rows are usable; {looked}.")
    if found.report is not None:
        tell(found.report)
    if found.usable == 0:
        raise DataError(f"{manifest}: no row is usable; see above")
    if found.defective and out is None:
        print("A run would refuse this manifest; --out writes the usable rows.")
    if strict and rows:
        raise DataError(f"{manifest}: {sum(count for *_, count in rows)} finding(s), listed above (--strict)")
