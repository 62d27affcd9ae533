"""`mmrl data fetch`: media on the web become files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmrl.cli.data_options import Manifest, OutFile, tell
from mmrl.cli.options import Quiet


def fetch(
    manifest: Manifest,
    out: OutFile,
    hosts: Annotated[
        list[str],
        typer.Option(
            "--host", metavar="HOST", help="May be asked: images.org, *.images.org, images.org:8080; repeatable."
        ),
    ],
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Where files go, by content; what is there is not fetched again.")
    ] = Path("fetched"),
    max_mib: Annotated[float, typer.Option(min=0.001, help="Largest file.")] = 64.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="Most for one file.")] = 60.0,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Files fetched at a time.")] = 8,
    quiet: Quiet = False,
) -> None:
    """Fetch the pictures and clips that a manifest names by http or https address; write it with their files.

    Only the hosts that are named are asked, also where redirects lead, and never machines of a private network. Rows
    whose files cannot be had are left out, each with its reason. Contents are not opened: follow with `validate`.

    \b
    Examples:
      mmrl data fetch web.jsonl --out train.jsonl --host images.cocodataset.org
      mmrl data fetch web.jsonl --out train.jsonl --host '*.wikimedia.org' --folder media --max-mib 16
    """
    from mmrl.cli.console import progress
    from mmrl.curation.fetch import fetch_manifest
    from mmrl.data.address import check_hosts
    from mmrl.data.fetch import Fetcher, FetchLimits

    check_hosts(hosts)
    limits = FetchLimits(hosts=tuple(hosts), max_bytes=int(max_mib * 2**20), deadline_seconds=seconds)
    tell(fetch_manifest(manifest, out, Fetcher(limits), folder=folder, at_once=at_once, progress=progress(quiet=quiet)))
