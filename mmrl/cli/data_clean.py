"""`mmrl data filter|dedup|decontaminate`: a manifest without the rows that should not be in it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mmrl.cli.data_options import (
    By,
    DryRun,
    Index,
    Manifest,
    Manifests,
    MediaBy,
    MediaSeconds,
    NearBits,
    NearText,
    OutFile,
    Workers,
    media_match,
    tell,
)
from mmrl.cli.options import Quiet


def filter_(
    manifest: Manifest,
    expression: Annotated[
        str, typer.Argument(metavar="EXPRESSION", help="Over fields of a sample.", show_default=False)
    ],
    out: OutFile,
    dry_run: DryRun = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Keep the samples for which an expression is true.

    Fields: id, task, question, choices, answer.type, answer.value, media, metadata.KEY, right (text of the right
    option), images, videos, frames, words. Comparisons, in, and, or, not, arithmetic, and the functions len, lower,
    words, matches, startswith, endswith, abs, min, max, sum, round, any, all, has, default. A row that lacks a field is
    left out with that reason; has(metadata.x) and default(metadata.x, 0) deal with it.

    \b
    Examples:
      mmrl data filter train.jsonl 'task == "choice" and len(choices) == 4' --out four.jsonl
      mmrl data filter train.jsonl '0.2 <= metadata.pass_rate <= 0.8' --out band.jsonl --dry-run
      mmrl data filter train.jsonl 'all(item.type == "video" for item in media)' --out video.jsonl
    """
    from mmrl.cli.console import progress
    from mmrl.curation.filter import filter_manifest

    tell(filter_manifest(manifest, expression, out, dry_run=dry_run, workers=workers, progress=progress(quiet=quiet)))


def dedup(
    manifests: Manifests,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="OUT", help="Manifest to write; of several, a folder.", show_default=False),
    ],
    near: NearBits = None,
    near_text: NearText = None,
    media: MediaBy = By.CONTENT,
    index: Index = None,
    media_seconds: MediaSeconds = 60.0,
    dry_run: DryRun = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Leave out samples that ask the same of the same media, also across splits.

    Pictures are the same when their pixels are, videos when their bytes are. Of samples that agree, the first stays,
    manifests in the order given; of samples that contradict each other, none does. With --near and --near-text samples
    that are merely alike go only if their answers agree. Samples whose media cannot be decoded are left out too.

    \b
    Examples:
      mmrl data dedup raw.jsonl --out clean.jsonl
      mmrl data dedup raw.jsonl --out clean.jsonl --near 4 --near-text 0.8 --index media.sqlite
      mmrl data dedup test.jsonl validation.jsonl train.jsonl --out clean/
    """
    from mmrl.cli.console import progress
    from mmrl.curation.dedup import dedup_manifests

    match = media_match(media, near, index, media_seconds, workers)
    bar = progress(quiet=quiet)
    tell(dedup_manifests(manifests, out, match=match, near_text=near_text, dry_run=dry_run, progress=bar))


class Questions(StrEnum):
    """Whose questions are compared."""

    WITHOUT_MEDIA = "without-media"
    ALWAYS = "always"


def decontaminate(
    manifest: Manifest,
    against: Annotated[
        list[Path],
        typer.Option(
            "--against", metavar="FILE.jsonl", help="Evaluation manifest; may be repeated.", show_default=False
        ),
    ],
    out: OutFile,
    near: NearBits = None,
    near_text: NearText = None,
    questions: Annotated[
        Questions, typer.Option(help="Compare questions of samples without media, or of all.")
    ] = Questions.WITHOUT_MEDIA,
    media: MediaBy = By.CONTENT,
    index: Index = None,
    media_seconds: MediaSeconds = 60.0,
    dry_run: DryRun = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Leave out training samples that share a picture, a clip or a question with an evaluation set.

    Whatever they ask about the picture. Samples whose media cannot be decoded are left out too.

    \b
    Examples:
      mmrl data decontaminate train.jsonl --against test.jsonl --against other.jsonl --out clean.jsonl --near 4
      mmrl data decontaminate train.jsonl --against test.jsonl --out clean.jsonl --questions always --near-text 0.8
    """
    from mmrl.cli.console import progress
    from mmrl.curation.decontaminate import TextMatch, decontaminate_manifest

    report = decontaminate_manifest(
        manifest,
        against,
        out,
        match=media_match(media, near, index, media_seconds, workers),
        text=TextMatch(when=questions.value, near=near_text),
        dry_run=dry_run,
        progress=progress(quiet=quiet),
    )
    tell(report)
