"""Media at addresses → files in a cache, each fetched once; and what a run fetched, remembered in its folder.

    CACHE/files/9f/9f86d081….jpg         contents by their SHA-256: equal files lie there once
    CACHE/addresses/1c/1c2e….json        what came from an address
    runs/<name>/addresses.jsonl          one object an address: sha256, bytes, file, content_type, final
                                         (where it came from, after redirects); or reason, detail

A run keeps to what it has written down, also when it is resumed: an address that could not be had is not asked again,
and a file that has to be fetched anew (the cache is gone) and is another now is named and not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from mmrl.atomic import write_atomically
from mmrl.data.address import is_web_address
from mmrl.data.fetch import Arrived, Fetcher, Kind, unfetched
from mmrl.data.images import BrokenMedia
from mmrl.data.quarantine import Quarantine
from mmrl.errors import DataError, RunError
from mmrl.progress import Progress
from mmrl.types import Media, Sample

RECORD = "addresses.jsonl"
_SUFFIXES = {
    **{f"image/{name}": f".{name}" for name in ("png", "webp", "gif", "bmp", "tiff", "avif", "jp2")},
    **{"image/jpeg": ".jpg", "video/mp4": ".mp4", "application/mp4": ".mp4", "video/webm": ".webm"},
    **{"video/x-matroska": ".mkv", "video/x-msvideo": ".avi", "video/quicktime": ".mov", "video/mpeg": ".mpg"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What became of some addresses."""

    files: Mapping[str, str]  # address → absolute path of its file
    failures: Mapping[str, BrokenMedia] = field(default_factory=dict)  # address → why there is none
    new: int = 0  # of the files, how many came over the network just now

    def in_words(self) -> str:
        """One line."""
        text = f"addresses: {len(self.files)} files ({self.new} fetched now)"
        counted = Counter(error.reason for error in self.failures.values())
        lost = ", ".join(f"{count} × {reason}" for reason, count in counted.most_common())
        return f"{text}, {len(self.failures)} not to be had ({lost})" if lost else text


class MediaCache:
    """Files by their content, and what came from which address."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.abspath(folder))

    def known(self, address: str) -> dict[str, Any] | None:
        """What is remembered of an address, if its file is there and still what it was."""
        try:
            entry = json.loads(self._entry(address).read_text())
            sound = entry["address"] == address and self.holds(entry["sha256"], entry["file"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return {**entry, "file": str(self._folder / entry["file"])} if sound else None

    def holds(self, sha256: str, file: str) -> bool:
        """Whether a file is there with that content."""
        try:
            with open(self._folder / file, "rb") as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest() == sha256
        except OSError:
            return False

    def fetch(self, address: str, kind: Kind, fetcher: Fetcher) -> dict[str, Any]:
        """Fetches an address, whatever is known of it. Raises BrokenMedia."""
        aside = self._folder / f".{uuid.uuid4().hex}.partial"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            arrived = fetcher.fetch(address, kind, aside)
            file = Path("files") / arrived.sha256[:2] / f"{arrived.sha256}{_suffix(arrived)}"
            (self._folder / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(aside, self._folder / file)
            entry = {
                "address": address,
                "sha256": arrived.sha256,
                "bytes": arrived.bytes,
                "file": file.as_posix(),
                "content_type": arrived.content_type,
                "final": arrived.final,
            }
            self._entry(address).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._entry(address), json.dumps(entry, ensure_ascii=False).encode())
        except OSError as error:
            raise RunError(
                f"{self._folder}: what comes from {address} cannot be written there ({error.strerror}). Make room, or "
                "name another folder with data.urls.folder."
            ) from error
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()
        return {**entry, "file": str(self._folder / file)}

    def _entry(self, address: str) -> Path:
        name = hashlib.sha256(address.encode()).hexdigest()
        return self._folder / "addresses" / name[:2] / f"{name}.json"


def fetch_media(
    samples: Iterable[Sample],
    *,
    fetcher: Fetcher,
    cache: MediaCache,
    record: Path | None,
    at_once: int,
    progress: Progress,
) -> Fetched:
    """Every address among the samples' media, at most `at_once` at a time. `record`: what was fetched before, and is
    kept to; what is fetched now is added. None: nothing is kept to.

    Raises DataError where not one address can be had, which is the network's doing rather than theirs.
    """
    wanted = dict(_addresses(samples))
    before = _read_record(record)
    files: dict[str, str] = {}
    failures: dict[str, BrokenMedia] = {}
    for address in wanted:
        known = before.get(address)
        if known is not None and "reason" in known:
            failures[address] = BrokenMedia(known["detail"], reason=known["reason"])
        elif (entry := _at_hand(address, known, cache)) is not None:
            files[address] = entry["file"]
            if known is None:
                _add(record, entry)
    todo = {address: kind for address, kind in wanted.items() if address not in files and address not in failures}
    had = len(files)
    for entry in _fetched_now(todo, before, fetcher, cache, at_once, progress):
        if "reason" in entry:
            failures[entry["address"]] = BrokenMedia(entry["detail"], reason=entry["reason"])
        else:
            files[entry["address"]] = entry["file"]
        _add(record, entry)
    if wanted and not files:
        if record is not None and not before:
            record.unlink(missing_ok=True)
        raise DataError(f"none of {len(wanted)} addresses could be fetched. The first: {next(iter(failures.values()))}")
    return Fetched(files=files, failures=failures, new=len(files) - had)


def _at_hand(address: str, known: Mapping[str, Any] | None, cache: MediaCache) -> Mapping[str, Any] | None:
    """What need not be fetched. Where a run has fetched an address before, only that content will do."""
    if known is not None and cache.holds(known["sha256"], known["file"]):
        return known
    entry = cache.known(address)
    return entry if entry is not None and (known is None or known["sha256"] == entry["sha256"]) else None


def _fetched_now(
    todo: Mapping[str, Kind],
    before: Mapping[str, Mapping[str, Any]],
    fetcher: Fetcher,
    cache: MediaCache,
    at_once: int,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    """An entry of each address, as they come."""

    def work(address: str) -> dict[str, Any]:
        try:
            entry = cache.fetch(address, todo[address], fetcher)
            then = before.get(address, entry)["sha256"]
            if then == entry["sha256"]:
                return entry
            what = f"has changed since the run began (SHA-256 {then[:12]}… became {entry['sha256'][:12]}…)"
            raise unfetched(address, "changed at its address", what)
        except BrokenMedia as error:
            return {"address": address, "reason": error.reason, "detail": str(error)}

    if not todo:
        return
    with ThreadPoolExecutor(at_once, thread_name_prefix="fetch") as pool, progress.task("fetched", len(todo)) as bar:
        pending = [pool.submit(work, address) for address in todo]
        try:
            for done in as_completed(pending):
                entry = done.result()
                if entry.get("reason") == "changed at its address":
                    progress.note(f"warning: {entry['detail']}")
                bar.advance()
                yield entry
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def with_files(samples: Sequence[Sample], fetched: Fetched, quarantine: Quarantine | None) -> list[Sample]:
    """The samples with files in place of addresses. An item that lacks one keeps its addresses and is quarantined."""
    out = []
    for sample in samples:
        media = []
        for item in sample.media:
            paths = item.paths or (item.path or "",)
            lost = _lost(item, fetched)
            if lost is not None:
                if quarantine is not None:
                    quarantine.add(item, lost, sample_id=sample.id)
                media.append(item)
            else:
                media.append(_at(item, [fetched.files.get(path, path) for path in paths]))
        out.append(replace(sample, media=tuple(media)) if sample.media else sample)
    return out


def first_failure(sample: Sample, fetched: Fetched) -> BrokenMedia | None:
    """Why a sample cannot be used; None where all its media could be had."""
    return next((lost for item in sample.media if (lost := _lost(item, fetched)) is not None), None)


def on_disk(sample: Sample) -> bool:
    """Whether none of its media are addresses."""
    return not any(is_web_address(path) for item in sample.media for path in (item.paths or (item.path or "",)))


def _lost(item: Media, fetched: Fetched) -> BrokenMedia | None:
    return next((fetched.failures[p] for p in item.paths or (item.path or "",) if p in fetched.failures), None)


def _at(item: Media, paths: Sequence[str]) -> Media:
    return replace(item, path=paths[0]) if item.path is not None else replace(item, paths=tuple(paths))


def _addresses(samples: Iterable[Sample]) -> Iterator[tuple[str, Kind]]:
    for sample in samples:
        for item in sample.media:
            for path in item.paths or (item.path or "",):
                if is_web_address(path):
                    yield path, "video" if item.type == "video" else "image"


def _suffix(arrived: Arrived) -> str:
    """By what the server calls it, else by the address; only for people and viewers: what it is decides its content."""
    ending = PurePosixPath(urlsplit(arrived.final).path).suffix.lower()
    return _SUFFIXES.get(arrived.content_type) or (ending if ending in {*_SUFFIXES.values(), ".jpeg", ".tif"} else "")


def _read_record(record: Path | None) -> dict[str, dict[str, Any]]:
    """The last line of each address; half a line, which a killed run may have left, is none."""
    found: dict[str, dict[str, Any]] = {}
    if record is not None and record.is_file():
        for line in record.read_bytes().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                found[entry["address"]] = entry
    return found


def _add(record: Path | None, entry: Mapping[str, Any]) -> None:
    if record is None:
        return
    with record.open("ab+") as file:
        torn = file.tell() > 0 and not _ends_a_line(record)
        file.write(b"\n" * torn + json.dumps(entry, ensure_ascii=False).encode() + b"\n")


def _ends_a_line(file: Path) -> bool:
    with file.open("rb") as opened:
        opened.seek(-1, os.SEEK_END)
        return opened.read(1) == b"\n"
