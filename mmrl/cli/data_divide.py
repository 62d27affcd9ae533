"""`mmrl data split|mix`: one manifest into several, and several into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

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
    OutFile,
    Workers,
    media_match,
    tell,
)
from mmrl.cli.options import Quiet

Number = TypeVar("Number", int, float)
Seed = Annotated[int, typer.Option(min=0, help="Decides which samples go where.")]


def split(
    manifest: Manifest,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the manifests.", show_default=False)],
    shares: Annotated[
        str, typer.Option(metavar="NAME=SHARE,…", help="Relative sizes; they are divided by their sum.")
    ] = "train=0.8,validation=0.1,test=0.1",
    group: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Samples with equal metadata KEY stay together.", show_default=False),
    ] = None,
    near: NearBits = None,
    media: MediaBy = By.CONTENT,
    index: Index = None,
    media_seconds: MediaSeconds = 60.0,
    seed: Seed = 0,
    dry_run: DryRun = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Divide a manifest so that no picture or clip is in two splits, each with its share of tasks and right options.

    Samples whose media cannot be decoded are left out. Media stay where they are.

    \b
    Examples:
      mmrl data split all.jsonl --out data/mine
      mmrl data split all.jsonl --out data/mine --shares train=900,test=100 --group scene --near 4
    """
    from mmrl.cli.console import progress
    from mmrl.curation.split import split_manifest
    from mmrl.data.split import parse_shares

    report = split_manifest(
        manifest,
        out,
        parse_shares(shares),
        group=group or "",
        seed=seed,
        match=media_match(media, near, index, media_seconds, workers),
        dry_run=dry_run,
        progress=progress(quiet=quiet),
    )
    tell(report)


def mix(
    manifests: Manifests,
    out: OutFile,
    weights: Annotated[
        str | None, typer.Option(metavar="W,W,…", help="Relative shares, one a manifest.", show_default="equal")
    ] = None,
    counts: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Exact numbers of rows instead.", show_default=False)
    ] = None,
    total: Annotated[
        int | None, typer.Option(min=1, help="Rows in all.", show_default="as many as the weights allow")
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Write the source's name into metadata KEY.", show_default=False),
    ] = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Mix manifests by weight or by exact counts, in a shuffled order.

    No row is drawn twice. The same seed draws the same rows; a larger total draws them and more.

    \b
    Examples:
      mmrl data mix charts.jsonl scenes.jsonl --weights 2,1 --total 30000 --out mixed.jsonl
      mmrl data mix a/train.jsonl b/train.jsonl --counts 500,300 --tag source --out mixed.jsonl
    """
    from mmrl.cli.console import progress
    from mmrl.curation.mix import mix_manifests

    report = mix_manifests(
        manifests,
        out,
        weights=_numbers(weights, float, "--weights"),
        counts=_numbers(counts, int, "--counts"),
        total=total,
        tag=tag or "",
        seed=seed,
        dry_run=dry_run,
        workers=workers,
        progress=progress(quiet=quiet),
    )
    tell(report)


def _numbers(text: str | None, kind: type[Number], option: str) -> list[Number]:
    try:
        return [] if text is None else [kind(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers; write 2,1", param_hint=option) from None
