"""The RL stage. One step, top to bottom:

    collect   sampler → render → engine → rewards → filters, refilled within bounds; perhaps a step ahead (`ahead.py`)
    credit    streams the algorithm needs (begun while rewards are scored), then shape, advantage, weights: no gradient
    update    micro-batches, loss, optimiser steps
    tell      engine gets the new weights; traces and metrics are written; the watcher names what goes wrong

No step reaches back: rewards do not know the model, credit does not know the engine, the backend does not know the
algorithm's name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path

import torch

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.memory import Memory
from mmrl.backend.backend import TrainBackend
from mmrl.batch import Credited
from mmrl.curriculum.sampler import PromptSampler
from mmrl.errors import RunError
from mmrl.memory import peak_memory_mib
from mmrl.progress import Progress, ShowsFigures
from mmrl.ranks import ALONE, Ranks
from mmrl.rollout.engine import Rests, RolloutEngine, Sampling
from mmrl.traces.indexing import Indexing
from mmrl.traces.writer import Stream, TraceWriter
from mmrl.training.ahead import Ahead, Meanwhile
from mmrl.training.checkpoint import last_good
from mmrl.training.collect import Collected, Renderer, Scorer, collect
from mmrl.training.disk import full_disk_ends_the_run
from mmrl.training.in_flight import InFlight
from mmrl.training.interrupt import StopRequest, Terminated
from mmrl.training.metrics import MetricsLog, read_metrics, reproducible, rollout_metrics, staleness_metrics
from mmrl.training.mismatch import Correction
from mmrl.training.parity import ParityGate, pass_gate
from mmrl.training.planned import Author, twin_metrics
from mmrl.training.saver import CheckpointSaver, Keep
from mmrl.training.sharing import place
from mmrl.training.streams import Blacken, StepStreams
from mmrl.training.traced import token_streams
from mmrl.training.tracking import Tracker, Tracking
from mmrl.training.update import Skipped, update
from mmrl.training.watcher import Watcher, WatchSettings
from mmrl.types import Dropped, RolloutGroup, ScoredGroup

EMPTY_STEPS_TO_STOP = 5  # so many steps in a row without a single usable group end the run
NOT_FINITE = "not_finite"  # folder of the traces of skipped updates


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How long, how much at a time, how often what."""

    steps: int
    prompts_per_step: int
    max_refills: int
    minibatches: int
    checkpoint_every: int
    keep_checkpoints: Keep
    checkpoints_beside: bool  # write them beside the training where that is safe
    evaluate_every: int  # 0: never
    ahead: int = 0  # how many versions the weights that sample may be behind the trained ones
    stop_after_skipped: int = 3  # so many steps in a row whose loss or gradient was not finite end the run


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """Everything the loop works with; put together in `build/trainer.py`."""

    run_dir: Path
    settings: LoopSettings
    sampling: Sampling
    algorithm: Algorithm
    sampler: PromptSampler
    renderer: Renderer
    engine: RolloutEngine
    scorer: Scorer
    backend: TrainBackend
    decode: Callable[[Sequence[int]], str]  # token ids → text, special tokens included
    author: Author  # writes the completions that demonstrations need
    blacken: Blacken  # a prompt with some of its patches black
    memory: Memory  # of the algorithm's adaptive parts
    evaluate: Callable[[], dict[str, float]]  # metrics of the current weights on the validation split
    watch: WatchSettings  # from where on the watcher calls something trouble
    progress: Progress
    trackers: Sequence[Tracker] = ()  # where metrics go besides metrics.jsonl
    ranks: Ranks = ALONE
    sampling_within: Callable[[], AbstractContextManager[None]] = (
        nullcontext  # while open the engine may use the policy
    )
    correction: Correction | None = None  # of what the engine sampled from another policy than the trainer's
    in_flight: InFlight = field(default_factory=InFlight)  # groups of the coming step that are there already
    gate: ParityGate | None = None  # before the first step; None: the engine is the trained policy itself


def train(trainer: Trainer, *, start: int = 0) -> int:
    """Steps `start` … `settings.steps` − 1. Returns the number of steps done: fewer when the user asked to stop.

    Leaves a checkpoint at the end, whoever ended it, so that the same command with `--resume` goes on. Raises
    Terminated after a SIGTERM, once that checkpoint is on disk.
    """
    settings = trainer.settings
    first = trainer.ranks.first  # the rank that writes: what all compute alike is written once
    trainer.ranks.first_does(lambda: discard_from(trainer.run_dir, start))
    metrics = MetricsLog(trainer.run_dir / "metrics.jsonl")
    logged = read_metrics(trainer.run_dir / "metrics.jsonl") if start else []
    prompts_seen = logged[-1]["train/prompts_seen"] if logged else 0.0
    traces = TraceWriter(trainer.run_dir / "traces")
    watcher = Watcher(trainer.run_dir, trainer.watch, logged=logged)
    progress = trainer.progress
    hand_over(trainer, version=start)
    empty_steps = _steps_without(logged, "optim/updates")
    skipping_steps = _steps_skipped_last(logged)
    saver = CheckpointSaver(
        trainer.run_dir, settings.keep_checkpoints, beside=settings.checkpoints_beside, ranks=trainer.ranks
    )
    with (
        full_disk_ends_the_run(trainer.run_dir, lambda: last_good(trainer.run_dir)),
        StopRequest(progress.note) as stop,
        Tracking(trainer.trackers if first else (), start=start, tell=progress.note) as tracking,
        progress.task("training", settings.steps, done=start) as task,
        saver,
        Indexing(trainer.run_dir / "traces", tell=progress.note, wanted=first) as indexing,
        Ahead(
            partial(collect_step, trainer),
            trainer.in_flight,
            versions=settings.ahead,
            steps=settings.steps,
            renderer=trainer.renderer,
            ranks=trainer.ranks,
            tell=progress.note,
        ) as ahead,
    ):
        for step in range(start, settings.steps):
            collected, row = take_step(trainer, traces, step, ahead)
            indexing.look(traces.written_bytes)
            empty_steps = 0 if collected.kept else empty_steps + 1
            if empty_steps == EMPTY_STEPS_TO_STOP:
                raise RunError(_nothing_to_learn(step, collected))
            done = step + 1
            if settings.evaluate_every and done % settings.evaluate_every == 0:
                row |= trainer.evaluate()
            prompts_seen += len(collected.scored)
            row["train/prompts_seen"] = prompts_seen
            watched, warnings = watcher.look(step, row) if first else ({}, [])
            for warning in warnings:
                progress.note(f"step {step}: {warning.trouble}: {warning.message}. What to try: {warning.link}")
            if first:
                metrics.log(step, row | watched)
            tracking.log(step, row | watched)
            if isinstance(progress, ShowsFigures):
                progress.show_figures(step, row | watched)
            skipping_steps = skipping_steps + 1 if "optim/skipped_updates" in row else 0
            if skipping_steps >= settings.stop_after_skipped:
                raise RunError(_not_finite(trainer, step, skipping_steps))
            task.advance(1, reward=_figure(row, "reward/total_mean"), accuracy=_figure(row, "reward/accuracy_mean"))
            ending = trainer.ranks.gather(watcher.reason_to_stop)[0]
            asked_to_stop, terminated = map(
                any, zip(*trainer.ranks.gather((stop.requested, stop.terminated)), strict=True)
            )
            last = bool(ending) or asked_to_stop or done == settings.steps
            if last or done % settings.checkpoint_every == 0:
                saver.save(
                    step=done,
                    backend=trainer.backend,
                    sampler=trainer.sampler,
                    memory=trainer.memory,
                    in_flight=trainer.in_flight,
                    metrics=reproducible(row),
                    wait=last,
                )
            if terminated:
                raise Terminated(f"{done} of {settings.steps} steps are done and saved")
            if ending and done < settings.steps:
                raise RunError(_told_to_stop(trainer, done, ending))
            if asked_to_stop:
                return done
    return max(start, settings.steps)


def hand_over(trainer: Trainer, *, version: int) -> None:
    """Give the engine its first weights. Raises RunError where it then does not sample from the trained policy."""
    trainer.engine.load_weights(trainer.backend.weights(), version=version)
    if trainer.gate is None:
        return
    told = pass_gate(
        trainer.gate,
        engine=trainer.engine,
        backend=trainer.backend,
        renderer=trainer.renderer,
        decode=trainer.decode,
        step=version,
        ranks=trainer.ranks,
    )
    trainer.progress.note(told)
    # Once more: what the gate left in the engine's caches goes, so that a resumed run samples as one that was not.
    trainer.engine.load_weights(trainer.backend.weights(), version=version)


def discard_from(run_dir: Path, start: int) -> None:
    """Remove what an earlier process logged and traced after the checkpoint that this one goes on from."""
    MetricsLog(run_dir / "metrics.jsonl").discard_from(start)
    for folder in ("traces", NOT_FINITE):
        if (run_dir / folder).is_dir():
            TraceWriter(run_dir / folder).discard_from(start)


def collect_step(trainer: Trainer, step: int, *, ranks: Ranks, meanwhile: Meanwhile | None) -> Collected:
    """The groups of one step, by the weights that the engine has."""
    return collect(
        sampler=trainer.sampler,
        renderer=trainer.renderer,
        engine=trainer.engine,
        scorer=trainer.scorer,
        algorithm=trainer.algorithm,
        sampling=trainer.sampling,
        prompts=trainer.settings.prompts_per_step,
        max_refills=trainer.settings.max_refills,
        step=step,
        author=trainer.author,
        meanwhile=meanwhile,
        ranks=ranks,
        sampling_within=trainer.sampling_within,
    )


def take_step(trainer: Trainer, traces: TraceWriter, step: int, ahead: Ahead) -> tuple[Collected, dict[str, float]]:
    """Collect, credit, update, tell. Returns what was collected and the step's metrics."""
    began = time.perf_counter()
    minibatches = trainer.settings.minibatches
    trainer.backend.begin_step()
    streams = StepStreams(
        trainer.backend,
        trainer.algorithm,
        minibatches=minibatches,
        decode=trainer.decode,
        blacken=trainer.blacken,
        ranks=trainer.ranks,
    )
    collected = ahead.take(step, streams.prepare if streams.worth_preparing else None)
    collected.kept, own_groups = place(trainer.ranks, collected.kept, collected.holders, minibatches=minibatches)
    if isinstance(trainer.engine, Rests):
        trainer.engine.rest()
    for notice in collected.notices:
        trainer.progress.note(f"step {step}: {notice}")
    filtered = [drop for _, drop in collected.filtered]
    own = [group for scored in collected.scored if (group := scored.own()) is not None]
    row = rollout_metrics(own, [*collected.dropped, *filtered]) | collected.metrics | twin_metrics(collected.scored)
    row |= staleness_metrics(own, version=step)
    collecting = time.perf_counter()
    credited = credit(trainer, collected, streams, own_groups, step=step) if collected.kept else None
    tokens: dict[str, Stream] = {}
    if credited is not None:
        trainer.memory.known = credited.memory
        updated = update(
            trainer.backend,
            trainer.algorithm,
            credited,
            minibatches=minibatches,
            own=own_groups,
            correction=trainer.correction,
        )
        row |= {**credited.metrics, **updated.metrics}
        tokens = token_streams(trainer.algorithm, credited, updated.tokens)
        if updated.skipped and trainer.ranks.first:
            write_skipped(trainer, step, credited, updated.skipped, tokens)
    waited = ahead.refresh(lambda: trainer.engine.load_weights(trainer.backend.weights(), version=step + 1))
    trained = time.perf_counter()
    if trainer.ranks.first:
        write_trace(traces, step, collected, credited, tokens)
    return collected, row | {
        "time/step_seconds": trained - began,
        "time/rollout_seconds": collected.rollout_seconds,
        "time/reward_seconds": collected.reward_seconds,
        "time/update_seconds": trained - collecting - waited,
        "time/waited_seconds": waited,
        "time/tokens_per_second": _completion_tokens(collected.scored) / (trained - began),
        "memory/peak_mib": peak_memory_mib(),
    }


def credit(trainer: Trainer, collected: Collected, streams: StepStreams, own: Sequence[bool], *, step: int) -> Credited:
    """Lay out the streams that some part of the algorithm asked for, then let it give credit."""
    groups = [g.group for g in collected.kept]
    return trainer.algorithm.credit(
        collected.kept,
        streams=streams.assemble(groups, own),
        max_tokens=trainer.sampling.max_tokens,
        step=step,
        steps=trainer.settings.steps,
        memory=trainer.memory.known,
        drift=drift(trainer, groups, own),
        dropped=collected.filtered,
    )


def drift(trainer: Trainer, groups: list[RolloutGroup], own: Sequence[bool]) -> dict[str, float]:
    """How far the policy has moved on earlier rollouts that adaptive parts want read again (`Adaptive.revisits`)."""
    again = trainer.algorithm.revisits([g for g, mine in zip(groups, own, strict=True) if mine], trainer.memory.known)
    if not any(trainer.ranks.most([len(again)])):
        return {}
    now = trainer.backend.outputs(again).logprobs.cpu()
    moved: dict[str, float] = {}
    for row, group in zip(now, again, strict=True):
        then = torch.tensor(group.rollouts[0].policy_logprobs)
        moved[group.prompt.sample.id] = float((row[: len(then)] - then).abs().mean())
    return {sample: value for part in trainer.ranks.gather(moved) for sample, value in part.items()}


def write_skipped(
    trainer: Trainer, step: int, credited: Credited, skipped: Sequence[Skipped], tokens: dict[str, Stream]
) -> None:
    """The groups that spoilt an update, as a trace of their own beside the run's: to look at and to replay."""
    chosen = sorted({group for skip in skipped for group in skip.groups})
    batch = credited.batch
    TraceWriter(trainer.run_dir / NOT_FINITE).write(
        step,
        [credited.groups[group] for group in chosen],
        advantages=[batch.advantages[batch.group == group].tolist() for group in chosen],
        streams={name: [stream[group] for group in chosen] for name, stream in tokens.items()},
    )
    names = ", ".join(credited.groups[group].group.prompt.sample.id for group in chosen[:8])
    trainer.progress.note(
        f"step {step}: {len(skipped)} of {trainer.settings.minibatches} updates skipped, the "
        f"{' and the '.join(sorted({skip.what for skip in skipped}))} was not finite "
        f"(samples {names}{' …' if len(chosen) > 8 else ''}; saved in {NOT_FINITE}/)"
    )


def write_trace(
    traces: TraceWriter, step: int, collected: Collected, credited: Credited | None, tokens: dict[str, Stream]
) -> None:
    """Every rollout of the step with its advantage and its tokens' streams; what was left out with the reason."""
    advantages: list[list[float]] = []
    if credited is not None:
        flat = iter(credited.batch.advantages.tolist())
        advantages = [[next(flat) for _ in group.totals] for group in collected.kept]
    twins = [
        (twin, Dropped(sample_id=twin.group.prompt.sample.id, stage="view", reason=view))
        for group in collected.scored
        for view, twin in group.twins.items()
    ]
    traces.write(
        step,
        collected.kept,
        advantages=advantages,
        streams=tokens,
        dropped=collected.dropped,
        dropped_groups=[*collected.filtered, *twins],
    )


def _figure(row: dict[str, float], name: str) -> float:
    return round(row.get(name, 0.0), 3)


def _completion_tokens(scored: list[ScoredGroup]) -> int:
    return sum(len(r.token_ids) for g in scored for r in g.group.rollouts)


def _steps_skipped_last(logged: Sequence[dict[str, float]]) -> int:
    """How many steps in a row, up to the last one logged, had a skipped update."""
    return sum(1 for _ in takewhile(lambda row: "optim/skipped_updates" in row, reversed(logged)))


def _steps_without(logged: Sequence[dict[str, float]], name: str) -> int:
    """How many steps in a row, up to the last one logged, did not log this metric."""
    return sum(1 for _ in takewhile(lambda row: name not in row, reversed(logged)))


def _not_finite(trainer: Trainer, step: int, steps: int) -> str:
    return (
        f"steps {step - steps + 1}–{step} each had an update whose loss or gradient was not finite. None of them was "
        f"made: the weights are those of the update before. The samples are in {trainer.run_dir / NOT_FINITE}, as "
        "traces. Look at them, or lower train.learning_rate; --resume goes on from the last checkpoint. "
        "train.stop_after_skipped says how many such steps are allowed. See docs/failures/not-finite.md."
    )


def _told_to_stop(trainer: Trainer, done: int, reason: str) -> str:
    return (
        f"stopped after step {done - 1}, as watch.stop_on asks: {reason}. The checkpoint is in {trainer.run_dir}; "
        "--resume with watch.stop_on=[] goes on in spite of it."
    )


def _nothing_to_learn(step: int, collected: Collected) -> str:
    reasons = [d.reason for d in collected.dropped] + [d.reason for _, d in collected.filtered]
    counted = ", ".join(f"{reasons.count(r)} × {r}" for r in dict.fromkeys(reasons)) or "no samples"
    return (
        f"steps {step - EMPTY_STEPS_TO_STOP + 1}–{step} had no group to learn from (last step: {counted}). "
        "Choose samples the policy sometimes gets right, train it a little first, or loosen the algorithm's filters. "
        "See docs/failures/nothing-to-learn.md."
    )
