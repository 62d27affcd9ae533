"""What every engine does alike: which ids may not be sampled, which end a completion, and what it becomes of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmrl.policy.policy import Policy
from mmrl.rollout.engine import Sampling
from mmrl.types import Completion, FinishReason, Prompt, Rollout, RolloutGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The tokens of one completion, as an engine sampled them."""

    token_ids: tuple[int, ...]  # [C], the end token included
    behavior_logprobs: tuple[float, ...]  # [C] under the distribution that was sampled
    policy_logprobs: tuple[float, ...]  # [C] under the untempered, untruncated one


def banned_ids(policy: Policy, tokenizer: Any) -> list[int]:
    """Ids that are never sampled: a placeholder would claim a picture that is not there, and ids beyond the
    tokenizer's are padding of the embedding table and mean nothing.
    """
    vocabulary = policy.config.get_text_config().vocab_size
    return sorted({*policy.family.never_sampled(policy.config, tokenizer), *range(len(tokenizer), vocabulary)})


def end_ids(policy: Policy, tokenizer: Any) -> list[int]:
    """Ids that end a completion: what the model's generation config says, and the tokenizer's end token."""
    generation = getattr(policy.model, "generation_config", None)
    listed = getattr(generation, "eos_token_id", None)
    ids = listed if isinstance(listed, list) else [listed]
    return sorted({int(i) for i in [*ids, tokenizer.eos_token_id] if i is not None})


def rollout_groups(
    prompts: Sequence[Prompt],
    written: Sequence[Sequence[Written]],
    seeds: Sequence[Sequence[int]],
    *,
    tokenizer: Any,
    end: Sequence[int],
    sampling: Sampling,
    version: int,
) -> list[RolloutGroup]:
    """One group per prompt of what was written to it with these seeds."""
    flat = [completion for group in written for completion in group]
    ids = [c.token_ids[:-1] if c.token_ids[-1] in end else c.token_ids for c in flat]
    texts = iter(tokenizer.batch_decode(ids))
    groups = []
    for prompt, completions, own in zip(prompts, written, seeds, strict=True):
        rollouts = []
        for index, (completion, seed) in enumerate(zip(completions, own, strict=True)):
            text = next(texts)
            finished = completion.token_ids[-1] in end or any(s in text for s in sampling.stop)
            rollouts.append(
                Rollout(
                    completion=Completion(
                        text=text,
                        token_count=len(completion.token_ids),
                        finish_reason=FinishReason.STOP if finished else FinishReason.LENGTH,
                        views=prompt.views,
                    ),
                    token_ids=completion.token_ids,
                    behavior_logprobs=completion.behavior_logprobs,
                    policy_logprobs=completion.policy_logprobs,
                    index=sampling.first_index + index,
                    seed=seed,
                    policy_version=version,
                )
            )
        groups.append(RolloutGroup(prompt=prompt, rollouts=tuple(rollouts)))
    return groups
