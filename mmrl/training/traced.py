"""What a trace keeps of every trained token, so that an inspector can colour them.

    entropy             nats of the next-token distribution         as the token's update saw it
    kl                  exp(d) − d − 1, d = reference − policy      where the algorithm has a reference
    ratio               policy / old policy, token or sequence      where a step makes several updates
    token_advantage     what the surrogate reads                    where it is not the rollout's own
    token_weight        multiplies the surrogate                    where some part weighs tokens
    correction          multiplies it besides (`mismatch.py`)       where the engine is corrected
    regularizer_weight  multiplies the regularizers                 where some part weighs them
    disagreement        of the group's next-token distributions     where some part asked for it
    answer_span         0 outside, 1 end of the tag, 2 the answer   where some part asked for it

A token that carries no loss has weight and advantage all the same: what it would have had.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mmrl.algorithms.algorithm import Algorithm
from mmrl.batch import Credited
from mmrl.traces.writer import Stream


def token_streams(algorithm: Algorithm, credited: Credited, measured: Mapping[str, Tensor]) -> dict[str, Stream]:
    """Stream → group → rollout → token, of the step's trained groups. `measured`: `Updated.tokens`, [N, T] each."""
    batch = credited.batch
    found = {name: values for name, values in measured.items() if name in ("entropy", "kl", "correction")}
    if batch.streams.old_logprobs is not None and "ratio" in measured:
        found["ratio"] = measured["ratio"]
    if bool((batch.token_advantages != batch.advantages[:, None])[batch.loss_mask].any()):
        found["token_advantage"] = batch.token_advantages
    if algorithm.token_weights:
        found["token_weight"] = batch.token_weights
    if algorithm.regularizer_weight:
        found["regularizer_weight"] = batch.regularizer_weight
    for name in ("disagreement", "answer_span"):
        values = getattr(batch.streams, name)
        if values is not None:
            found[name] = values
    lengths = [[len(rollout.token_ids) for rollout in group.group.rollouts] for group in credited.groups]
    return {name: _by_rollout(values, lengths) for name, values in found.items()}


def _by_rollout(values: Tensor, lengths: list[list[int]]) -> Stream:
    rows = iter(values.tolist())
    return [[next(rows)[:length] for length in group] for group in lengths]
