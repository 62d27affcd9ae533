"""One step's updates: micro-batches, the loss against step-wide totals, optimiser steps.

What the engine sampled from is held against the policy at the step's start, and the tokens are weighed by it where a
correction is given (`mismatch.py`).

An update whose loss or gradient is infinite or not a number is *skipped*: its gradients are forgotten, the weights stay
those of the update before, and the groups it came from are handed back with the reason.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.algorithms.algorithm import Algorithm
from mmrl.backend.backend import TrainBackend
from mmrl.batch import Credited, Totals, TrainBatch
from mmrl.objective.divergence import NoDivergence
from mmrl.training.mismatch import Correction, corrected, mismatch, mismatch_metrics
from mmrl.types import ScoredGroup

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An update that was not made."""

    update: int  # of the step, from 0
    what: str  # "loss" or "gradient": what was infinite or not a number
    groups: tuple[int, ...]  # of the step: where it came from; all of the update's where that cannot be told


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """What became of a step's updates."""

    metrics: dict[str, float]
    skipped: tuple[Skipped, ...] = ()
    tokens: dict[str, Float[Tensor, "N T"]] = field(default_factory=dict)  # of each token, as its update saw it: ratio,
    # entropy (nats), kl (k3; where there is a reference), correction (weight; where there is one)


@dataclass(slots=True)
class _Sums:
    """What the micro-batches of the made updates add up to."""

    losses: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    per_token: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    maxima: dict[str, float] = field(default_factory=dict)

    def add(self, other: _Sums) -> None:
        for name, value in other.losses.items():
            self.losses[name] += value
        for name, value in other.per_token.items():
            self.per_token[name] += value
        for name, value in other.maxima.items():
            self.maxima[name] = max(self.maxima.get(name, -math.inf), value)


def update(
    backend: TrainBackend,
    algorithm: Algorithm,
    credited: Credited,
    *,
    minibatches: int,
    own: Sequence[bool] | None = None,
    correction: Correction | None = None,
) -> Updated:
    """Train on the step's rollouts: `minibatches` optimiser steps over consecutive shares of the groups.

    Every rank is given the whole step; it computes the groups it owns (`own`, by default all of them), each group
    belonging to one rank. What is returned is alike on all ranks. The metrics are those of the updates that were made.
    """
    sums = _Sums()
    measured: dict[str, Tensor] = {}
    norms: list[float] = []
    rates: list[float] = []
    skipped: list[Skipped] = []
    tokens = 0.0
    owned = [True] * len(credited.groups) if own is None else list(own)
    for number, share in enumerate(shares(range(len(credited.groups)), minibatches)):
        chosen = [g for g in share if owned[g]]
        groups = [credited.groups[g] for g in chosen]
        rows = torch.isin(credited.batch.group, torch.tensor(chosen, dtype=torch.long)).nonzero().squeeze(1)
        batch = credited.batch.select(rows)
        totals = Totals.of(batch, backend.add_up)
        if algorithm.couplings:  # compare this update's rollouts under the policy as it is now
            known = batch.streams.old_logprobs if number == 0 else None  # before the first update it is the old policy
            now = known if known is not None else backend.outputs([g.group for g in groups]).logprobs.cpu()
            batch = algorithm.couple(batch.select(torch.arange(len(rows)), width=now.shape[1]), now, totals)
        summed, suspects, tokens_seen = _accumulate(backend, algorithm, groups, batch, totals, correction)
        for name, values in tokens_seen.items():
            target = measured.setdefault(name, torch.zeros_like(credited.batch.token_weights))
            target[rows, : values.shape[1]] = values
        if not math.isfinite(summed.losses["total"]):
            backend.discard_gradients()
            flags = torch.zeros(len(credited.groups)).index_fill(0, torch.tensor(suspects, dtype=torch.long), 1.0)
            spoilt = tuple(backend.add_up(flags).nonzero().squeeze(1).tolist())
            skipped.append(Skipped(update=number, what="loss", groups=spoilt or tuple(share)))
            continue
        norm, rate = backend.optimizer_step()
        if not math.isfinite(norm):
            skipped.append(Skipped(update=number, what="gradient", groups=tuple(share)))
            continue
        sums.add(summed)
        tokens += totals.tokens
        norms.append(norm)
        rates.append(rate)
    with_reference = credited.batch.streams.ref_logprobs is not None
    metrics = {"optim/updates": float(len(norms))}
    if skipped:
        metrics["optim/skipped_updates"] = float(len(skipped))
    if norms:
        metrics |= _metrics(sums, tokens, norms, rates, with_reference=with_reference)
    everyone = {name: backend.add_up(values) for name, values in sorted(measured.items())}  # each row from its rank
    return Updated(metrics=metrics, skipped=tuple(skipped), tokens=everyone)


def _accumulate(
    backend: TrainBackend,
    algorithm: Algorithm,
    groups: Sequence[ScoredGroup],
    batch: TrainBatch,
    totals: Totals,
    correction: Correction | None,
) -> tuple[_Sums, tuple[int, ...], dict[str, Tensor]]:
    """Forward and backward of one update.

    Returns its sums over all ranks, the groups that spoilt its loss, and what was measured of each token, [B, T].
    """
    own = _Sums()
    tokens: dict[str, Tensor] = {}
    suspects: set[int] = set()
    for parts in backend.micro_batches([g.group for g in groups]):
        outputs, packed = backend.forward(parts, entropy=True, learn_entropy=algorithm.learns_entropy)
        rows = packed.rows.cpu()
        micro = batch.select(rows, width=outputs.logprobs.shape[1]).to(outputs.logprobs.device)
        apart = mismatch(outputs.logprobs, micro, correction)
        terms = algorithm.loss(outputs, corrected(micro, apart.weights), totals)
        backend.backward(terms.loss)
        value = float(terms.loss.detach())
        if not math.isfinite(value):
            bad = ~outputs.logprobs.detach().isfinite().all(dim=1)
            chosen = micro.group[bad] if bool(bad.any()) else micro.group
            suspects |= set(chosen.tolist())
        seen = terms.tokens if apart.weights is None else {**terms.tokens, "correction": apart.weights}
        for name, values in seen.items():
            target = tokens.setdefault(name, torch.zeros_like(batch.token_weights))
            target[rows, : values.shape[1]] = values.to(target)
        losses = {"total": value, "surrogate": terms.surrogate}
        if not isinstance(algorithm.divergence, NoDivergence):
            losses["divergence"] = terms.divergence
        if algorithm.regularizers:
            losses["regularizers"] = terms.regularizers
        own.add(_Sums(losses=losses, per_token=terms.sums | apart.sums, maxima=terms.maxima | apart.maxima))
    added = backend.add_up(torch.tensor([*own.losses.values(), *own.per_token.values()], dtype=torch.float64)).tolist()
    own.losses = dict(zip(own.losses, added, strict=False))
    own.per_token = dict(zip(own.per_token, added[len(own.losses) :], strict=True))
    own.maxima = dict(zip(own.maxima, backend.most(list(own.maxima.values())), strict=True))
    return own, tuple(sorted(suspects)), tokens


def _metrics(
    sums: _Sums, tokens: float, norms: Sequence[float], rates: Sequence[float], *, with_reference: bool
) -> dict[str, float]:
    updates = len(norms)
    mean = {name: value / max(tokens, 1.0) for name, value in sums.per_token.items()}
    metrics = {f"loss/{name}": value / updates for name, value in sums.losses.items()}
    metrics |= {
        "loss/clip_fraction": mean["clipped"],
        "policy/ratio_mean": mean["ratio"],
        "policy/ratio_max": sums.maxima["ratio"],
        "policy/entropy_mean": mean["entropy"],
        "optim/grad_norm": sum(norms) / updates,
        "optim/learning_rate": rates[-1],
    }
    if with_reference:
        metrics["policy/kl_mean"] = mean["kl"]
    return metrics | mismatch_metrics(sums.per_token, sums.maxima)


def shares(things: Sequence[T], count: int) -> list[Sequence[T]]:
    """`count` consecutive shares as equal as can be; fewer when there are fewer things."""
    count = min(count, len(things))
    if not count:
        return []
    bounds = [len(things) * i // count for i in range(count + 1)]
    return [things[a:b] for a, b in pairwise(bounds)]
