"""Parquet and Arrow files, and data sets by their hub name or folder (`datasets`). Pictures stay encoded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmrl.errors import DataError

_BATCH = 64  # rows that are held at a time: each may hold a picture


@dataclass(frozen=True, slots=True, kw_only=True)
class HubCard:
    """What is known of a data set before its rows are read."""

    rows: Mapping[str, int]  # of its splits, as far as the card says so
    commit: str | None  # that its name stands for now


def table_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of one Parquet or Arrow file."""
    number = 0
    try:
        for batch in _batches(path):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except _arrow_error() as error:
        raise DataError(f"{path} cannot be read after row {number} ({error}); fetch it again") from None


def parquet_length(path: Path) -> int:
    """Rows of a Parquet file by its footer; 0 where it has none."""
    import pyarrow.parquet as parquet

    try:
        return int(parquet.ParquetFile(path).metadata.num_rows)
    except (OSError, _arrow_error()):
        return 0


@lru_cache(maxsize=8)
def hub_card(name: str, config: str | None, revision: str | None) -> HubCard:
    """What the hub, or a folder's card, says beforehand; nothing where it cannot be asked."""
    try:
        import datasets  # type: ignore[import-untyped]

        builder = datasets.load_dataset_builder(name, config, revision=revision)
        rows = {split: int(info.num_examples) for split, info in (builder.info.splits or {}).items()}
        found = str(builder.hash)
    except Exception:  # no network, no such name: the reader of the rows says what is wrong, or has a cache
        return HubCard(rows={}, commit=None)
    is_commit = re.fullmatch(r"[0-9a-f]{40}", found)  # a cache has names of its own
    return HubCard(rows=rows, commit=found if is_commit else None)


def hub_rows(name: str, *, config: str | None, split: str, revision: str | None) -> Iterator[tuple[int, Any]]:
    """The rows of a data set by its name on the Hugging Face hub, or of a local folder in one of its layouts.

    A folder that `save_to_disk` wrote is read as such. Everything else goes through `datasets.load_dataset`, streamed.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(
            "data sets by their hub name are read with `datasets`, which is not installed: pip install 'mmrl[data]'"
        ) from None
    try:
        if (Path(name) / "dataset_dict.json").is_file():
            rows = datasets.load_from_disk(name)[split]
        elif (Path(name) / "state.json").is_file():
            rows = datasets.load_from_disk(name)
        else:
            rows = datasets.load_dataset(name, config, split=split, revision=revision, streaming=True)
    except Exception as error:  # a library with many ways to fail: no network, no such name, no such split …
        what = " ".join(str(error).split())[:300]
        raise DataError(
            f"the data set {name!r} (config {config}, split {split!r}) cannot be opened: {what}. Check the name and "
            f"the network, or fetch it and give the folder"
        ) from None
    for column, feature in (rows.features or {}).items():
        for kind in (datasets.Image, datasets.Video):
            if isinstance(feature, kind):
                rows = rows.cast_column(column, kind(decode=False))
            elif isinstance(getattr(feature, "feature", None), kind):
                rows = rows.cast_column(column, datasets.List(kind(decode=False)))
    yield from enumerate(rows, start=1)


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow

    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as parquet

        with open(path, "rb") as file:
            yield from parquet.ParquetFile(file).iter_batches(batch_size=_BATCH)
        return
    with open(path, "rb") as file:
        try:
            yield from pyarrow.ipc.open_stream(file)  # what `datasets` writes
        except pyarrow.ArrowInvalid:
            file.seek(0)
            whole = pyarrow.ipc.open_file(file)
            for index in range(whole.num_record_batches):
                yield whole.get_batch(index)


def _arrow_error() -> type[Exception]:
    try:
        import pyarrow
    except ImportError:
        raise DataError(
            "Parquet and Arrow files are read with pyarrow, which is not installed: pip install 'mmrl[data]'"
        ) from None
    return pyarrow.ArrowException  # type: ignore[no-any-return]
