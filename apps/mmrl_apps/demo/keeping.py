"""Exchanges kept on disk as the traces of a run, so that the inspector opens them like any other's.

<folder>/traces/step_000007.jsonl     the eighth exchange: one group per model
<folder>/media/000007-0.png           copies of what was shown
"""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmrl.data.samples import sample_row
from mmrl.errors import RunError
from mmrl.traces.reader import TraceReader
from mmrl.traces.writer import TraceWriter
from mmrl.types import Answer, Dropped, Media, RolloutGroup, Sample, ScoredGroup
from mmrl_apps.demo.question import Question

MOST = 100_000  # exchanges in one folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one model answered."""

    model: str
    group: RolloutGroup
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A question and the answers to it."""

    question: Question
    replies: tuple[Reply, ...]


class Keeper:
    """Writes exchanges into one folder, each as a step of its own, from whichever thread asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def keep(self, exchange: Exchange) -> Path:
        """The trace file of this exchange. RunError where the disk refuses."""
        with self._lock:
            try:
                return self._keep(exchange)
            except OSError as error:
                raise RunError(
                    f"{self.folder}: the exchange could not be kept ({error.strerror or error}). Free or choose "
                    f"another folder (--keep)."
                ) from error

    def _keep(self, exchange: Exchange) -> Path:
        writer = TraceWriter(self.folder / "traces")
        steps = TraceReader(self.folder).steps()
        step = steps[-1] + 1 if steps else 0
        if len(steps) >= MOST:
            raise RunError(f"{self.folder} holds {len(steps):,} exchanges already. Choose another folder (--keep).")
        media = self._copied(exchange.question.sample.media, step)
        groups = []
        for number, reply in enumerate(exchange.replies):
            sample = replace(
                reply.group.prompt.sample,
                id=f"exchange-{step:06d}" + (f"-{number}" if number else ""),
                media=media,
                answer=reply.group.prompt.sample.answer if exchange.question.has_gold else _unknown(exchange.question),
                metadata=_facts(exchange.question, reply),
            )
            groups.append((_unscored(reply.group, sample), _why(sample.id, exchange.question)))
        writer.write(step, [], advantages=[], dropped_groups=groups)
        self._name(groups[0][0].group.prompt.sample, exchange.question.has_gold)
        return self.folder / "traces" / f"step_{step:06d}.jsonl"

    def _name(self, sample: Sample, has_gold: bool) -> None:
        folder = self.folder / "data"
        folder.mkdir(exist_ok=True)
        row = sample_row(sample, root=folder.resolve())
        if not has_gold:
            row = {"media": row.get("media", []), "note": "asked in the demo; its answer is not known"}
        with (folder / "exchanges.jsonl").open("ab") as file:
            file.write(json.dumps(row, ensure_ascii=True).encode() + b"\n")

    def _copied(self, media: Sequence[Media], step: int) -> tuple[Media, ...]:
        """The media as files of the kept folder."""
        target = self.folder / "media"
        target.mkdir(parents=True, exist_ok=True)
        count = 0

        def copy(path: str) -> str:
            nonlocal count
            out = target / f"{step:06d}-{count}{Path(path).suffix}"
            count += 1
            shutil.copyfile(path, out)
            return str(out.resolve())

        return tuple(
            replace(
                item,
                path=copy(item.path) if item.path is not None else None,
                paths=tuple(copy(path) for path in item.paths),
            )
            for item in media
        )


def _unscored(group: RolloutGroup, sample: Sample) -> ScoredGroup:
    """Not a number wherever a reward would have spoken."""
    count = len(group.rollouts)
    unknown = (math.nan,) * count
    return ScoredGroup(
        group=replace(group, prompt=replace(group.prompt, sample=sample)),
        results=tuple({} for _ in range(count)),
        totals=unknown,
        accuracy=unknown,
        format=unknown,
    )


def _unknown(question: Question) -> Answer:
    """An answer that says nothing but what kind was asked for, so that nothing is drawn as the known one."""
    kind = question.sample.answer.type
    if kind in ("box", "boxes", "point"):
        return Answer(type="boxes", value=())
    return Answer(type="spans", value=()) if kind in ("span", "spans") else Answer(type="text", value="")


def _why(sample_id: str, question: Question) -> Dropped:
    known = "its answer was known" if question.has_gold else "no answer was known"
    return Dropped(
        sample_id=sample_id,
        stage="filter",
        reason="asked in the demo",
        detail=f"Asked in the demo, not scored and not learnt from; {known}.",
    )


def _facts(question: Question, reply: Reply) -> dict[str, object]:
    sampling = question.sampling
    return {
        "model": reply.model,
        "seed": question.seed,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "max_tokens": sampling.max_tokens,
        "seconds": round(reply.seconds, 3),
        "gold": question.has_gold,
    }
