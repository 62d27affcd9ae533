"""One step's updates: micro-batches, the loss against step-wide totals, optimiser steps.

An update whose loss or gradient is infinite or not a number is *skipped*: its gradients are forgotten, the weights stay
those of the update before, and the groups it came from are handed back with the reason.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.algorithms.algorithm import Algorithm
from mmrl.backend.backend import TrainBackend
from mmrl.batch import Credited, Totals, TrainBatch
from mmrl.types import ScoredGroup


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
    # entropy (nats), kl (k3; where there is a reference)


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


def update(backend: TrainBackend, algorithm: Algorithm, credited: Credited, *, minibatches: int) -> Updated:
    """Train on the step's rollouts: `minibatches` optimiser steps over consecutive shares of the groups.

    The metrics are those of the updates that were made.
    """
    sums = _Sums()
    measured: dict[str, Tensor] = {}
    norms: list[float] = []
    rates: list[float] = []
    skipped: list[Skipped] = []
    tokens = 0.0
    first_row = 0
    for number, groups in enumerate(_shares(credited.groups, minibatches)):
        rows = torch.arange(first_row, first_row + sum(len(g.totals) for g in groups))
        first_row += len(rows)
        batch = credited.batch.select(rows)
        totals = Totals.of(batch, backend.add_up)
        if algorithm.couplings:  # compare this update's rollouts under the policy as it is now
            known = batch.streams.old_logprobs if number == 0 else None  # before the first update it is the old policy
            now = known if known is not None else backend.outputs([g.group for g in groups]).logprobs.cpu()
            batch = algorithm.couple(batch.select(torch.arange(len(rows)), width=now.shape[1]), now, totals)
        own, suspects, tokens_seen = _accumulate(backend, algorithm, groups, batch, totals)
        for name, values in tokens_seen.items():
            target = measured.setdefault(name, torch.zeros_like(credited.batch.token_weights))
            target[rows, : values.shape[1]] = values
        all_groups = tuple(sorted(set(batch.group.tolist())))
        if not math.isfinite(own.losses["total"]):
            backend.discard_gradients()
            skipped.append(Skipped(update=number, what="loss", groups=suspects or all_groups))
            continue
        norm, rate = backend.optimizer_step()
        if not math.isfinite(norm):
            skipped.append(Skipped(update=number, what="gradient", groups=all_groups))
            continue
        sums.add(own)
        tokens += totals.tokens
        norms.append(norm)
        rates.append(rate)
    with_reference = credited.batch.streams.ref_logprobs is not None
    metrics = {"optim/updates": float(len(norms))}
    if skipped:
        metrics["optim/skipped_updates"] = float(len(skipped))
    if norms:
        metrics |= _metrics(sums, tokens, norms, rates, with_reference=with_reference)
    return Updated(metrics=metrics, skipped=tuple(skipped), tokens=measured)


def _accumulate(
    backend: TrainBackend, algorithm: Algorithm, groups: Sequence[ScoredGroup], batch: TrainBatch, totals: Totals
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
        terms = algorithm.loss(outputs, micro, totals)
        backend.backward(terms.loss)
        value = float(terms.loss.detach())
        if not math.isfinite(value):
            bad = ~outputs.logprobs.detach().isfinite().all(dim=1)
            chosen = micro.group[bad] if bool(bad.any()) else micro.group
            suspects |= set(chosen.tolist())
        for name, values in terms.tokens.items():
            target = tokens.setdefault(name, torch.zeros_like(batch.token_weights))
            target[rows, : values.shape[1]] = values.to(target)
        losses = {"total": value, "surrogate": terms.surrogate, "divergence": terms.divergence}
        if algorithm.regularizers:
            losses["regularizers"] = terms.regularizers
        own.add(_Sums(losses=losses, per_token=terms.sums, maxima=terms.maxima))
    added = backend.add_up(torch.tensor([*own.losses.values(), *own.per_token.values()], dtype=torch.float64)).tolist()
    own.losses = dict(zip(own.losses, added, strict=False))
    own.per_token = dict(zip(own.per_token, added[len(own.losses) :], strict=True))
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
        "policy/behavior_gap_mean": mean["engine_gap"],
        "policy/behavior_gap_max": sums.maxima["engine_gap"],
        "optim/grad_norm": sum(norms) / updates,
        "optim/learning_rate": rates[-1],
    }
    if with_reference:
        metrics["policy/kl_mean"] = mean["kl"]
    return metrics


def _shares(groups: Sequence[ScoredGroup], count: int) -> list[Sequence[ScoredGroup]]:
    """`count` consecutive shares as equal as can be; fewer when there are fewer groups."""
    count = min(count, len(groups))
    bounds = [len(groups) * i // count for i in range(count + 1)]
    return [groups[a:b] for a, b in pairwise(bounds)]
