"""One step's updates: micro-batches, the loss against step-wide totals, optimiser steps."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import torch

from mmrl.algorithms.algorithm import Algorithm
from mmrl.backend.backend import TrainBackend
from mmrl.batch import Credited, Totals
from mmrl.errors import RunError
from mmrl.types import ScoredGroup


def update(
    backend: TrainBackend, algorithm: Algorithm, credited: Credited, *, minibatches: int, step: int
) -> dict[str, float]:
    """Train on the step's rollouts: `minibatches` optimiser steps over consecutive shares of the groups.

    Returns the metrics of the whole step. Raises RunError when the gradient is not finite: the weights are then still
    those of the last good update.
    """
    sums: dict[str, float] = defaultdict(float)
    maxima: dict[str, float] = {}
    losses: dict[str, float] = defaultdict(float)
    norms: list[float] = []
    rates: list[float] = []
    tokens = 0.0
    first_row = 0
    for groups in _shares(credited.groups, minibatches):
        rows = torch.arange(first_row, first_row + sum(len(g.totals) for g in groups))
        first_row += len(rows)
        batch = credited.batch.select(rows)
        totals = Totals.of(batch)
        tokens += totals.tokens
        if algorithm.couplings:  # compare this update's rollouts under the policy as it is now
            known = batch.streams.old_logprobs if not norms else None  # before the first update it is the old policy
            now = known if known is not None else backend.outputs([g.group for g in groups]).logprobs.cpu()
            batch = algorithm.couple(batch.select(torch.arange(len(rows)), width=now.shape[1]), now, totals)
        for parts in backend.micro_batches([g.group for g in groups]):
            outputs, packed = backend.forward(parts, entropy=True)
            micro = batch.select(packed.rows.cpu(), width=outputs.logprobs.shape[1]).to(outputs.logprobs.device)
            terms = algorithm.loss(outputs, micro, totals)
            backend.backward(terms.loss)
            losses["total"] += float(terms.loss.detach())
            losses["surrogate"] += terms.surrogate
            losses["divergence"] += terms.divergence
            for name, value in terms.sums.items():
                sums[name] += value
            for name, value in terms.maxima.items():
                maxima[name] = max(maxima.get(name, -math.inf), value)
        if not math.isfinite(losses["total"]):
            backend.discard_gradients()
            raise RunError(_not_finite(step, groups, "loss"))
        norm, rate = backend.optimizer_step()
        norms.append(norm)
        rates.append(rate)
    updates = len(norms)
    mean = {name: value / max(tokens, 1.0) for name, value in sums.items()}
    metrics = {f"loss/{name}": value / updates for name, value in losses.items()}
    metrics |= {
        "loss/clip_fraction": mean["clipped"],
        "policy/ratio_mean": mean["ratio"],
        "policy/ratio_max": maxima["ratio"],
        "policy/entropy_mean": mean["entropy"],
        "policy/behavior_gap_mean": mean["engine_gap"],
        "policy/behavior_gap_max": maxima["engine_gap"],
        "optim/grad_norm": sum(norms) / updates,
        "optim/learning_rate": rates[-1],
        "optim/updates": float(updates),
    }
    if credited.batch.streams.ref_logprobs is not None:
        metrics["policy/kl_mean"] = mean["kl"]
    return metrics


def _shares(groups: Sequence[ScoredGroup], count: int) -> list[Sequence[ScoredGroup]]:
    """`count` consecutive shares as equal as can be; fewer when there are fewer groups."""
    count = min(count, len(groups))
    bounds = [len(groups) * i // count for i in range(count + 1)]
    return [groups[a:b] for a, b in pairwise(bounds)]


def _not_finite(step: int, groups: Sequence[ScoredGroup], what: str) -> str:
    names = ", ".join(g.group.prompt.sample.id for g in groups[:8])
    return (
        f"step {step}: the {what} is not finite (samples {names}{' …' if len(groups) > 8 else ''}). The weights are "
        "those of the update before. Look at these samples, or lower train.learning_rate; --resume goes on from the "
        "last checkpoint."
    )
