"""A manifest whose media are web addresses → one whose media are files (`mmrl.data.fetched` fetches them)."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from mmrl.curation.output import dropped_file, json_line, opened, ranked
from mmrl.curation.report import Report
from mmrl.curation.scan import root_of
from mmrl.data.fetch import Fetcher
from mmrl.data.fetched import MediaCache, fetch_media, first_failure, with_files
from mmrl.data.manifest import read_manifest
from mmrl.data.samples import sample_row
from mmrl.progress import Progress, SilentProgress


def fetch_manifest(
    path: str | os.PathLike[str],
    out: Path,
    fetcher: Fetcher,
    *,
    folder: Path,
    at_once: int = 8,
    progress: Progress | None = None,
) -> Report:
    """Fetches every address into `folder` and writes the samples whose media all are files then; the others are listed
    beside `out` with their reasons. What `folder` holds already is not fetched again. DataError where nothing is left.
    """
    samples = read_manifest(path, addresses=True)
    log, root = dropped_file(out), root_of(out)
    dropped: Counter[str] = Counter()
    with opened([out, log], dry_run=False) as files:
        fetched = fetch_media(
            samples,
            fetcher=fetcher,
            cache=MediaCache(folder),
            record=None,
            at_once=at_once,
            progress=progress or SilentProgress(),
        )
        for sample in with_files(samples, fetched, None):
            failure = first_failure(sample, fetched)
            if failure is None:
                files.write(out, json_line(sample_row(sample, root=root)))
            else:
                dropped[failure.reason] += 1
                left = {"file": str(path), "id": sample.id, "reason": failure.reason, "detail": str(failure)}
                files.write(log, json_line(left))
    return Report(
        verb="fetch",
        rows=len(samples),
        written={out: len(samples) - sum(dropped.values())},
        dropped=ranked(dropped),
        listed=log if dropped else None,
        dry_run=False,
        notes=(fetched.in_words(),),
    )
