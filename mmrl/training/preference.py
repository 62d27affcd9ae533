"""Direct preference optimisation (DPO) on made pairs: the right target against one whose answer was altered.

    loss = −(1/P) Σ log σ(z),   z = β [(log π(w) − log π_ref(w)) − (log π(l) − log π_ref(l))]

Rafailov et al. 2023, arXiv:2305.18290 eq. 7; log π is the sum over a completion's tokens, π_ref the policy as the stage
began. The rejected completion is the target of the same sample with another answer, reasoning included, as in vsGRPO's
DPO baseline (arXiv:2504.00883 §4.2), which does not say how answers are altered: here another option, or another number
near by, drawn once per sample.

The loss compares a pair's two completions, which may lie in different micro-batches. So one pass without gradient gives
every z first; the micro-batches then follow the exact slopes ∂loss/∂log π(w) = −β σ(−z)/P and, of the rejected one, its
negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.backend.backend import TrainBackend
from mmrl.errors import DataError
from mmrl.tensors import masked_sum
from mmrl.types import Answer, RolloutGroup, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLoss:
    """The loss of some pairs, its slopes, and how many are in the right order already."""

    value: Float[Tensor, ""]  # mean over the step's pairs of −log σ(z); a rank's share of it
    slopes: Float[Tensor, " N"]  # ∂value/∂log π of each completion: w, l, w, l, …
    preferred: Float[Tensor, ""]  # pairs with z > 0, a tie counting half


def pair_loss(policy: Float[Tensor, " N"], reference: Float[Tensor, " N"], *, beta: float, pairs: float) -> PairLoss:
    """`policy` and `reference` hold log-probabilities of whole completions: w, l, w, l, …; `pairs`: of all ranks."""
    moved = policy - reference
    z = beta * (moved[0::2] - moved[1::2])
    push = -beta * torch.sigmoid(-z) / pairs
    return PairLoss(
        value=torch.nn.functional.softplus(-z).sum() / pairs,
        slopes=torch.stack([push, -push], dim=1).flatten(),
        preferred=(z > 0).sum() + 0.5 * (z == 0).sum(),
    )


def sequence_logprobs(backend: TrainBackend, groups: Sequence[RolloutGroup]) -> Float[Tensor, " N"]:
    """log π of every completion of the groups, in order, without gradient."""
    logprobs = backend.outputs(groups).logprobs.cpu()
    lengths = torch.tensor([len(r.token_ids) for g in groups for r in g.rollouts], dtype=torch.long)
    return masked_sum(logprobs, torch.arange(logprobs.shape[1]) < lengths[:, None])


def accumulate(
    backend: TrainBackend, groups: Sequence[RolloutGroup], reference: Mapping[str, tuple[float, float]], *, beta: float
) -> tuple[float, float]:
    """Add the gradient of one step's pairs (groups of two: w, l). Returns (loss, share preferred), of all ranks.

    reference: sample id → log π_ref of (w, l).
    """
    pairs = float(backend.add_up(torch.tensor(float(len(groups)), dtype=torch.float64)))
    known = torch.tensor([value for group in groups for value in reference[group.prompt.sample.id]])
    found = pair_loss(sequence_logprobs(backend, groups), known, beta=beta, pairs=pairs)
    for parts in backend.micro_batches(groups):
        outputs, packed = backend.forward(parts)
        slopes = found.slopes[packed.rows.cpu()].to(outputs.logprobs)
        mask = packed.mask[: len(packed.rows)]  # an idle micro-batch has a row of nobody's
        backend.backward((slopes * masked_sum(outputs.logprobs, mask)).sum())
    told = torch.stack([found.value, found.preferred / pairs]).to(torch.float64)
    loss, preferred = backend.add_up(told).tolist()
    return loss, preferred


def altered(sample: Sample, random: np.random.Generator) -> Sample:
    """The sample with a wrong answer in place of the right one. DataError for answers that this is not defined for."""
    answer = sample.answer
    if answer.type == "choice":
        wrong = [letter for letter in sample.letters if letter != answer.value]
        return replace(sample, answer=Answer(type="choice", value=wrong[int(random.integers(len(wrong)))]))
    if answer.type == "number":
        value = float(answer.value)
        reach = max(1, round(abs(value) / 2))
        steps = [step for step in range(-reach, reach + 1) if step != 0]
        return replace(sample, answer=replace(answer, value=value + steps[int(random.integers(len(steps)))]))
    raise DataError(
        f"sample {sample.id!r}: sft.preference, and {{other}} in sft.thoughts, need an answer of which a wrong one can "
        f"be made, a choice or a number; this one is of type {answer.type!r}. Leave such samples out, or do without."
    )
