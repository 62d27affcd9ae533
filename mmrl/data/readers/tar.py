"""WebDataset shards: members of a tar file that follow each other and share a name up to the first dot are one row.

`cat.000.jpg`, `cat.000.json` are the fields `000.jpg` and `000.json` of the row `cat`. Fields whose last suffix is json
are read, txt and cls become text, pictures and clips stay bytes. Every row has `__key__`, the name with its folder.

Nothing is unpacked: a member's name is a key and never a path, links and devices are passed over, so no archive can
write or reach outside. Python's tarfile reads a shard as a stream; the library webdataset, whose layout this is, adds
shuffling, caches and remote shards for training loops, which building a manifest once, in order, has no use for.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmrl.data.jsonl import parse_json
from mmrl.errors import DataError

_TEXT = ("txt", "text", "cls", "caption")


def tar_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of one shard, read from its beginning to its end."""
    number = 0
    row: dict[str, Any] = {}
    defect: DataError | None = None
    try:
        with tarfile.open(path, "r|*") as shard:
            for member in shard:
                if not member.isfile():
                    continue
                folder, base = os.path.split(member.name)
                stem, dot, field = base.partition(".")
                if not dot or not stem:
                    continue  # hidden files, and names without a suffix, belong to no row
                key = f"{folder}/{stem}" if folder else stem
                if row and row["__key__"] != key:
                    number += 1
                    yield number, defect or row
                    row, defect = {}, None
                row.setdefault("__key__", key)
                content = shard.extractfile(member)
                try:
                    row[field.lower()] = _value(field.lower(), content.read() if content else b"")
                except DataError as error:
                    defect = DataError(f"{member.name}: {error}")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read after row {number} ({error}); fetch it again") from None
    if row:
        yield number + 1, defect or row


def _value(field: str, content: bytes) -> Any:
    kind = field.rpartition(".")[2]
    if kind != "json" and kind not in _TEXT:
        return {"bytes": content, "path": f"x.{kind}"}
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("the text is not UTF-8") from None
    return parse_json(text) if kind == "json" else text.strip()
