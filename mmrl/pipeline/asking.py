"""Asking a model about samples for curation: how hard they are, also blind, and what a run's traces say of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mmrl import build
from mmrl.config.load import changed
from mmrl.config.schema import Config
from mmrl.curation.difficulty import Ask
from mmrl.curation.lim import learning_impact
from mmrl.errors import DataError, MmrlError
from mmrl.pipeline.models import config_of_model
from mmrl.ranks import ALONE, Ranks, by_rank
from mmrl.rollout.engine import LosesGroups, Sampling, Tells
from mmrl.traces.reader import TraceReader
from mmrl.training.sharing import without_pixels
from mmrl.types import Dropped, Sample, ScoredGroup

T = TypeVar("T")
_MARKS = re.compile(r"[ \t]*<(?:image|video)>[ \t]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a model is asked."""

    rollouts: int  # completions of each sample
    temperature: float | None = None  # None: the config's
    max_tokens: int | None = None  # longest completion; None: the config's
    seed: int | None = None  # None: the config's
    blind: bool = False  # without media


@contextmanager
def asking(
    model: str,
    first: Sequence[Sample],
    *,
    config: Config | None,
    how: Asking,
    tell: Callable[[str], None],
    ranks: Ranks = ALONE,
) -> Iterator[tuple[Ask, Mapping[str, Any]]]:
    """(what asks `model` for completions of each sample and scores them, the settings that decide them).

    Prompts, rewards and the engine come from `config`, else from the run the model lies in; rewards are checked on the
    `first` samples. `tell` hears what happens to the engine. `ranks`: those that each have one.
    """
    found, sampling, settings = settings_of(model, config, how)
    with ExitStack() as opened:
        scorer = opened.enter_context(build.build_scorer(found, list(first)))
        policy = build.load_policy(found, model)
        renderer = build.build_renderer(found, policy)
        engine = opened.enter_context(build.open_engine(found, policy, ranks=ranks))

        def ask(samples: Sequence[Sample]) -> tuple[list[ScoredGroup], list[Dropped]]:
            shown = [without_media(sample) for sample in samples] if how.blind else samples
            prompts, unusable = renderer.render(shown)
            written = engine.generate(prompts, sampling, step=0)
            for notice in engine.take_notices() if isinstance(engine, Tells) else ():
                tell(notice)
            groups, dropped = scorer.score(written)
            lost = engine.take_dropped() if isinstance(engine, LosesGroups) else []
            return groups, [*unusable, *lost, *dropped]

        yield ask, settings


@dataclass(frozen=True, slots=True)
class _Over:
    """The first rank's last word."""

    result: Any
    failure: MmrlError | None


@dataclass(slots=True)
class Notices:
    """What happens to the engines of all ranks, told where somebody reads it: on the first."""

    ranks: Ranks
    show: Callable[[str], None]  # on the first rank
    unsaid: list[str] = field(default_factory=list)  # of any other, since the ranks last met

    def tell(self, text: str) -> None:
        """Of this rank's engine."""
        (self.show if self.ranks.first else self.unsaid.append)(text)

    def take(self) -> list[str]:
        """What the first rank is to be told now."""
        unsaid, self.unsaid = self.unsaid, []
        return unsaid


def asked_by_all(ranks: Ranks, ask: Ask, work: Callable[[Ask], T], notices: Notices | None = None) -> T:
    """`work`, done by the first rank; what it asks, all ranks share. All call it, and all get what comes of it.

    Each rank asks with its own engine, so that those of all ranks are made, used and closed together, which an engine
    that meets the other ranks' needs. Groups come back in the order of the samples, without pixels. `notices`: what
    `ask` tells of each rank's engine.
    """
    heard = notices or Notices(ranks, lambda text: None)
    if not ranks.several:
        return work(ask)

    def together(samples: Sequence[Sample]) -> tuple[list[ScoredGroup], list[Dropped]]:
        groups: Sequence[ScoredGroup] = ()
        dropped: Sequence[Dropped] = ()
        failure: MmrlError | None = None
        try:
            groups, dropped = ask(ranks.share(samples))
        except MmrlError as error:
            failure = error
        told = ranks.gather(([without_pixels(group) for group in groups], list(dropped), failure, heard.take()))
        if ranks.first:
            for notice in by_rank([own for *_, own in told]):
                heard.show(notice)
        if any(failures := [failed for _, _, failed, _ in told if failed is not None]):
            raise failures[0]
        at = {sample.id: place for place, sample in enumerate(samples)}
        return (
            sorted((group for part, *_ in told for group in part), key=lambda g: at[g.group.prompt.sample.id]),
            sorted((drop for _, part, *_ in told for drop in part), key=lambda drop: at[drop.sample_id]),
        )

    if ranks.first:

        def leading(samples: Sequence[Sample]) -> tuple[list[ScoredGroup], list[Dropped]]:
            ranks.gather(list(samples))
            return together(samples)

        try:
            over = _Over(work(leading), None)
        except MmrlError as error:
            over = _Over(None, error)
        ranks.gather(over)
    else:
        nothing: Any = None  # what the others have to say while the first one leads
        while not isinstance(told := ranks.gather(nothing)[0], _Over):
            with suppress(MmrlError):  # which ends the first rank's work
                together(told)
        over = told
    if over.failure is not None:
        raise over.failure
    result: T = over.result
    return result


def settings_of(model: str, config: Config | None, how: Asking) -> tuple[Config, Sampling, dict[str, Any]]:
    """(the config with the options applied, how completions are drawn, all that the figures depend on)."""
    found = config or config_of_model(model)
    options = {"rollout.max_tokens": how.max_tokens, "run.seed": how.seed}
    overrides = [f"{key}={value}" for key, value in options.items() if value is not None]
    found = changed(found, overrides) if overrides else found
    rollout = found.rollout
    heat = rollout.temperature if how.temperature is None else how.temperature
    sampling = Sampling(
        group_size=how.rollouts,
        max_tokens=rollout.max_tokens,
        temperature=heat,
        top_p=rollout.top_p,
        top_k=rollout.top_k,
        stop=rollout.stop,
        purpose="difficulty",
    )
    settings = {
        "model": model,
        "rollouts": how.rollouts,
        "temperature": heat,
        "top_p": rollout.top_p,
        "top_k": rollout.top_k,
        "max_tokens": rollout.max_tokens,
        "seed": found.run.seed,
        "prompt": found.prompt.model_dump(mode="json"),
        "rewards": {task: [use.model_dump(mode="json") for use in uses] for task, uses in found.rewards.items()},
        "blind": how.blind,
    }
    return found, sampling, settings


def without_media(sample: Sample) -> Sample:
    """The question alone, its marks for media taken out."""
    lines = _MARKS.sub(" ", sample.question).split("\n")
    return replace(sample, media=(), question="\n".join(line.strip() for line in lines).strip() or sample.question)


def run_learning_impact(run: Path, *, steps_per_epoch: int | None = None) -> dict[str, float]:
    """Sample id → LIMR's score, from the traces of a run.

    An epoch is `steps_per_epoch` steps; by default the k-th time that a sample is asked counts as its epoch k, which is
    the same where a run asks every sample once an epoch. Samples without a score are not in the result.
    """
    reader = TraceReader(run)
    seen: dict[str, dict[int, list[float]]] = {}
    for group in reader.groups():
        epochs = seen.setdefault(group.sample.id, {})
        epoch = len(epochs) if steps_per_epoch is None else group.step // steps_per_epoch
        epochs.setdefault(epoch, []).extend(rollout.accuracy for rollout in group.rollouts)
    count = 1 + max((max(epochs) for epochs in seen.values()), default=-1)
    if count < 2:
        raise DataError(
            f"{run}: its traces cover {max(count, 0)} epoch(s), and a learning curve needs two. Train on, or give "
            f"--steps-per-epoch a smaller number"
        )
    table = np.full((len(seen), count), np.nan)
    for place, epochs in enumerate(seen.values()):
        for epoch, values in epochs.items():
            table[place, epoch] = np.mean(values)
    scores = learning_impact(table)
    return {id_: float(score) for id_, score in zip(seen, scores, strict=True) if not np.isnan(score)}
