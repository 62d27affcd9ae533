"""Writes the trace of a run, step by step.

A step's file appears whole or not at all: it is written beside its place and renamed into it. So a reader in another
process never sees half a step, `kill -9` never leaves one, and a resumed run that discards the steps after its
checkpoint and writes them again ends with the files an uninterrupted run would have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmrl.atomic import write_atomically
from mmrl.traces.codec import encode_line
from mmrl.traces.record import TraceDrop, TraceGroup, TraceRollout
from mmrl.types import Dropped, ScoredGroup

Stream = Sequence[Sequence[Sequence[float]]]  # group → rollout → token

_STEP_FILE = re.compile(r"step_(\d+)\.jsonl")


def step_path(folder: Path, step: int) -> Path:
    """Where a step's trace lives in the traces folder."""
    return folder / f"step_{step:06d}.jsonl"


def step_files(folder: Path) -> dict[int, Path]:
    """The steps that are on disk, in order, with their files."""
    found = ((_STEP_FILE.fullmatch(path.name), path) for path in folder.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in found if match))


class TraceWriter:
    """Writes into `runs/<name>/traces`; makes the folder where it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written_bytes = 0  # since this writer was made
        folder.mkdir(parents=True, exist_ok=True)

    def write(
        self,
        step: int,
        groups: Sequence[ScoredGroup],
        *,
        advantages: Sequence[Sequence[float]],
        dropped: Sequence[Dropped] = (),
        dropped_groups: Sequence[tuple[ScoredGroup, Dropped]] = (),
        streams: Mapping[str, Stream] | None = None,
    ) -> None:
        """Everything of one step. Writing a step again replaces it.

        groups: those that were trained on; `advantages[i][j]` and `streams[name][i][j][t]` belong to their rollouts.
        dropped_groups: scored, then left out by a filter. dropped: samples that never became a scored group.
        """
        streams = streams or {}
        _check_shapes(groups, advantages, streams)
        records = _records(step, groups, advantages, dropped, dropped_groups, streams)
        content = b"".join(encode_line(record) for record in records)
        write_atomically(step_path(self._folder, step), content)
        self.written_bytes += len(content)

    def discard_from(self, step: int) -> None:
        """Remove `step` and all later ones: the run goes on from a checkpoint made before them."""
        for unfinished in self._folder.glob(".step_*.tmp"):  # left by a process that was killed while it wrote
            unfinished.unlink()
        for found, path in reversed(step_files(self._folder).items()):  # from the end: killed midway, no gap is left
            if found >= step:
                path.unlink()


def _records(
    step: int,
    groups: Sequence[ScoredGroup],
    advantages: Sequence[Sequence[float]],
    dropped: Sequence[Dropped],
    dropped_groups: Sequence[tuple[ScoredGroup, Dropped]],
    streams: Mapping[str, Stream],
) -> Iterator[TraceGroup | TraceDrop]:
    for i, (scored, advantage) in enumerate(zip(groups, advantages, strict=True)):
        yield _traced(step, scored, advantage, {name: stream[i] for name, stream in streams.items()}, None)
    for scored, reason in dropped_groups:
        yield _traced(step, scored, [None] * len(scored.totals), {}, reason)
    for reason in dropped:
        yield TraceDrop(step=step, dropped=reason)


def _traced(
    step: int,
    scored: ScoredGroup,
    advantages: Sequence[float | None],
    streams: Mapping[str, Sequence[Sequence[float]]],
    dropped: Dropped | None,
) -> TraceGroup:
    prompt = scored.group.prompt
    return TraceGroup(
        step=step,
        sample=prompt.sample,
        prompt_text=prompt.text,
        prompt_tokens=len(prompt.token_ids),
        views=prompt.views,
        rollouts=tuple(
            TraceRollout(
                rollout=rollout,
                rewards=scored.results[j],
                total=scored.totals[j],
                accuracy=scored.accuracy[j],
                format=scored.format[j],
                advantage=advantages[j],
                streams={name: tuple(stream[j]) for name, stream in streams.items()},
            )
            for j, rollout in enumerate(scored.group.rollouts)
        ),
        dropped=dropped,
    )


def _check_shapes(
    groups: Sequence[ScoredGroup], advantages: Sequence[Sequence[float]], streams: Mapping[str, Stream]
) -> None:
    """One advantage per rollout and one stream value per token; anything else is a defect of the caller."""
    sizes = [len(scored.group.rollouts) for scored in groups]
    if [len(row) for row in advantages] != sizes:
        raise ValueError(f"trace: advantages have lengths {[len(row) for row in advantages]}, the groups {sizes}")
    lengths = [[len(rollout.token_ids) for rollout in scored.group.rollouts] for scored in groups]
    for name, stream in streams.items():
        if [[len(values) for values in row] for row in stream] != lengths:
            raise ValueError(f"trace: stream {name!r} must have one value per token of every rollout: {lengths}")
