"""Drawing the next token: which distribution, and which token for a given uniform number."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmrl.rollout.engine import Sampling


def sampled_distribution(
    logits: Float[Tensor, "B V"], sampling: Sampling, banned: Int[Tensor, " K"]
) -> Float[Tensor, "B V"]:
    """Log-probabilities tokens are drawn from: banned ids removed, then temperature, then top-k, then top-p.

    Temperature 0 keeps the untempered distribution (the greedy choice is its maximum).
    """
    logits = logits.index_fill(-1, banned, -torch.inf)
    if sampling.temperature > 0 and sampling.temperature != 1.0:
        logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1.0:
        ordered, index = logits.sort(dim=-1, descending=True)
        probs = ordered.softmax(-1)
        before = probs.cumsum(-1) - probs  # probability of all likelier tokens; the likeliest always stays
        ordered = ordered.masked_fill(before >= sampling.top_p, -torch.inf)
        logits = torch.empty_like(logits).scatter_(-1, index, ordered)
    return logits.log_softmax(-1)


def draw(log_probs: Float[Tensor, "B V"], uniform: Float[Tensor, " B"], *, greedy: bool) -> Int[Tensor, " B"]:
    """Inverse-CDF sampling: the first token at which the cumulative probability exceeds the row's uniform number.

    Row by row, so that a rollout's tokens do not depend on who else is in the batch. Cumulated in float64: the last
    token of a large vocabulary keeps its probability.
    """
    if greedy:
        return log_probs.argmax(-1)
    cumulative = log_probs.double().exp().cumsum(-1)
    threshold = (uniform * cumulative[:, -1])[:, None]
    # A token of probability 0 never exceeds where its predecessor did not, so it cannot be drawn.
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1).clamp(max=log_probs.shape[-1] - 1)
