"""Another project's data set as a manifest, row by row (`mmrl.data.convert` knows the formats)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrl.curation.output import dropped_file, json_line, opened, ranked
from mmrl.curation.report import Report
from mmrl.curation.scan import root_of
from mmrl.data.convert import convert_rows
from mmrl.data.readers.files import count_rows
from mmrl.data.samples import sample_row
from mmrl.progress import Progress, SilentProgress
from mmrl.types import Sample


def convert_manifest(
    path: str | os.PathLike[str],
    format_name: str,
    out: Path,
    *,
    media_root: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Writes the rows of a file or folder that become samples; the others are listed beside `out` with their reasons.

    format_name: a name of `mmrl.data.formats.catalog.FORMATS`. media_root: where the rows' media paths start; default:
    the file's folder, or the folder that is given. columns: our name of a field → the table's. constants: fields that
    every row has. Media are not opened. Memory: the ids, about 150 bytes a row. DataError where nothing is left, or the
    file cannot be read.
    """
    source = Path(path)
    log, root = dropped_file(out), root_of(out)
    dropped: Counter[str] = Counter()
    rows = kept = 0
    made = convert_rows(
        source,
        format_name,
        media_root=(source if source.is_dir() else source.parent) if media_root is None else media_root,
        columns=columns,
        constants=constants,
    )
    with (
        opened([out, log], dry_run=dry_run) as files,
        (progress or SilentProgress()).task("rows", count_rows(source)) as task,
    ):
        for number, sample in made:
            rows += 1
            if isinstance(sample, Sample):
                kept += 1
                files.write(out, json_line(sample_row(sample, root=root)))
            else:
                dropped[sample.reason] += 1
                left = {"file": str(path), "row": number, "reason": sample.reason, "detail": str(sample)}
                files.write(log, json_line(left))
            task.advance()
    report = Report(
        verb="convert",
        rows=rows,
        written={out: kept},
        dropped=ranked(dropped),
        listed=log if dropped else None,
        dry_run=dry_run,
    )
    report.raise_if_nothing_is_left()
    return report
