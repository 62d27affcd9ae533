"""What samples show and ask, as numbers that equal samples share."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.media_index import file_number, wanted_of
from mmrl.curation.near_text import normalized, signatures
from mmrl.curation.scan import Extracted, Scan, mixed, number_of
from mmrl.types import LETTERS, Answer, Sample

Numbers = NDArray[np.uint64]
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_option = lru_cache(maxsize=1 << 14)(normalized)  # options repeat from row to row


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The extract of `dedup`, `decontaminate` and `split`; only what is asked for is computed."""

    media: bool = True  # which files, and their paths as `extra`
    asked: bool = False  # question with options, and answer
    question: bool = False  # the question in lower case
    near_text: bool = False  # what two samples whose questions are merely alike must share, and the signatures
    group: str = ""  # a metadata key
    strata: bool = False  # task, answer type and, of one-letter answers, the letter

    def __call__(self, samples: Sequence[Sample]) -> Extracted:
        columns: dict[str, NDArray[Any]] = {}
        if self.question:
            columns["question"] = _numbers(" ".join(s.question.split()).casefold() for s in samples)
        if self.asked:
            columns["asked"] = _numbers("\0".join((" ".join(s.question.split()), *s.choices)) for s in samples)
            columns["answer"] = _numbers(answer_text(s.answer) for s in samples)
        flat: dict[str, NDArray[Any]] = {}
        extra = None
        if self.media:
            files = [wanted_of(sample.media) for sample in samples]
            columns["files"] = np.array([len(found) for found in files], dtype=np.int32)
            numbers = [file_number(path, kind) for found in files for path, kind in found]
            flat["file"] = np.array(numbers, dtype=np.uint64)
            flat["clip"] = _numbers(
                f"{item.type}\0{item.start}\0{item.end}"
                for sample in samples
                for item in sample.media
                for _ in range(max(1, len(item.paths)))
            )
            extra = sorted({wanted for found in files for wanted in found})
        if self.near_text:
            columns["bag"] = _numbers(_bag(sample) for sample in samples)
            columns["signature"] = signatures([sample.question for sample in samples])
        if self.group:
            values = [sample.metadata.get(self.group) for sample in samples]
            columns["grouped"] = np.array([value is not None for value in values], dtype=bool)
            columns["group"] = _numbers(str(value) for value in values)
        if self.strata:
            letters = [s.answer.value if s.answer.type == "choice" else "" for s in samples]
            columns["stratum"] = _numbers(
                f"{s.task}\0{s.answer.type}\0{letter}" for s, letter in zip(samples, letters, strict=True)
            )
        return Extracted(columns=columns, flat=flat, extra=extra)


def answer_text(answer: Answer) -> str:
    """Equal for answers that mean the same; a set of letters has no order."""
    if answer.type == "choice":
        return f"choice {answer.value}"
    value = sorted(answer.value) if answer.type == "choices" else answer.value
    return json.dumps([answer.type, value, answer.unit, answer.space], ensure_ascii=False)


def _bag(sample: Sample) -> str:
    """Right answer in words, options in any order, and every number of the question: near is not another number."""
    options = [_option(choice) for choice in sample.choices]
    if options and sample.answer.type in ("choice", "choices"):
        answer = "\2".join(sorted(options[LETTERS.index(letter)] for letter in sample.answer.value))
    else:
        answer = answer_text(sample.answer)
    return "\0".join((answer, *sorted(options), "\1", *sorted(_NUMBER.findall(sample.question))))


def _numbers(texts: Any) -> Numbers:
    return np.array([number_of(text) for text in texts], dtype=np.uint64)


def row_of_file(scan: Scan) -> NDArray[np.int64]:
    """For each entry of flat["file"] the row that names it."""
    return np.repeat(np.arange(scan.rows), scan.column("files"))


def shown(scan: Scan, names: Numbers) -> Numbers:
    """One number a row for the media it shows, in order, with what part of a clip. names: of each flat entry."""
    counts = scan.column("files").astype(np.int64)
    ends = np.cumsum(counts)
    place = np.arange(len(names), dtype=np.uint64) - np.repeat(ends - counts, counts).astype(np.uint64)
    each = mixed(names, scan.flat["clip"], place) if len(names) else np.zeros(0, dtype=np.uint64)
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(each, dtype=np.uint64)])
    whole: Numbers = sums[ends] - sums[ends - counts] + counts.astype(np.uint64)
    return whole
