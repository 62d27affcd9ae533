"""What the parts of the credit stage did to a step, as metrics: only of slots that the algorithm fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import TrainBatch

if TYPE_CHECKING:
    from mmrl.algorithms.algorithm import Algorithm


def credit_metrics(
    algorithm: Algorithm,
    batch: TrainBatch,
    *,
    bonus: Float[Tensor, " N"],
    plain: Float[Tensor, " N"],
    own: Bool[Tensor, " N"],
) -> dict[str, float]:
    """`credit/…` of one step.

    bonus: what shaping added to the totals. plain: advantages before they were reweighted. own: False for
    demonstrations.
    """
    size = float(batch.advantages.abs().mean())
    found = {"credit/advantage_size_mean": size}
    if algorithm.shaping:
        found["credit/bonus_mean"] = float(bonus.mean())
        found["credit/bonus_fraction"] = float((bonus != 0).float().mean())
    if algorithm.reweight:
        found["credit/reweighted_fraction"] = float((batch.advantages != plain).float().mean())
        before = float(plain.abs().mean())
        if before > 0:
            found["credit/reweight_factor"] = size / before
    if algorithm.divergence_weight:
        found["credit/divergence_weight_mean"] = float(batch.divergence_weight.mean())
    if algorithm.demonstrations:
        found["credit/demonstrations"] = float((~own).sum())
    mask = batch.loss_mask
    if algorithm.loss_mask:
        found["credit/masked_fraction"] = float((~mask.any(dim=1)).float().mean())
    weights = {"token": (algorithm.token_weights, batch.token_weights)}
    weights["regularizer"] = (algorithm.regularizer_weight, batch.regularizer_weight)
    for name, (parts, values) in weights.items():
        if parts and bool(mask.any()):
            found[f"credit/{name}_weight_mean"] = float(values[mask].mean())
            found[f"credit/{name}_weight_zero_fraction"] = float((values[mask] == 0).float().mean())
    return found
