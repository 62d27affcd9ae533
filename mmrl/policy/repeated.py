"""The same log-probabilities computed the slow way: every completion with its own copy of prompt and pictures.

The reference the packed forward is tested against. Nothing is shared with `packed.py`: one plain call of the Hugging
Face decoder per completion, positions given explicitly, its own causal mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch

from mmrl.batch import PolicyOutputs
from mmrl.policy.policy import Policy
from mmrl.types import RolloutGroup


def repeated_outputs(policy: Policy, groups: Sequence[RolloutGroup]) -> PolicyOutputs:
    """Log-probabilities and entropies [B, T] of all completions, in order; differentiable."""
    model = cast(Any, policy.model)
    family, config = policy.family, policy.config
    logprob_rows, entropy_rows = [], []
    for group in groups:
        prompt = group.prompt
        start = family.prompt_positions(prompt, config)
        following = int(start.max()) + 1
        for rollout in group.rollouts:
            size, count = len(prompt.token_ids), len(rollout.token_ids)
            branch = torch.arange(following, following + count).expand(3, -1)
            ids = torch.tensor([[*prompt.token_ids, *rollout.token_ids]])
            embedded = family.token_embedding(model)(ids)
            visual: dict[str, Any] = {}
            if prompt.vision is not None:
                features = family.encode_vision(model, prompt.vision.patches, prompt.vision.grids).to(embedded.dtype)
                slots = torch.tensor([i for first, stop in prompt.media_slots for i in range(first, stop)])
                embedded = embedded.index_copy(1, slots, features[:1])
                if len(features) > 1:
                    shown = torch.zeros(1, size + count, dtype=torch.bool)
                    shown[0, slots] = True
                    visual = {"visual_pos_masks": shown, "deepstack_visual_embeds": list(features[1:])}
            hidden = family.language_model(model)(
                inputs_embeds=embedded,
                position_ids=torch.cat([start, branch], dim=1)[:, None],
                attention_mask=torch.ones(1, size + count, dtype=torch.long),
                use_cache=False,
                **visual,
            ).last_hidden_state
            log_probs = model.lm_head(hidden)[0, size - 1 : -1].float().log_softmax(-1)  # [C, V]
            logprob_rows.append(log_probs.gather(-1, ids[0, size:, None]).squeeze(-1))
            entropy_rows.append(-(log_probs.exp() * log_probs).sum(-1))
    pad = torch.nn.utils.rnn.pad_sequence
    return PolicyOutputs(logprobs=pad(logprob_rows, batch_first=True), entropy=pad(entropy_rows, batch_first=True))
