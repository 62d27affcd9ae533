"""GRPO-CARE's measure of consistency (arXiv:2506.16141): would a reference model give this answer to this reasoning?

p = exp of the mean log-probability of the answer's tokens given the prompt and the reasoning, at most `cap`: what the
algorithm's bonus compares among the accurate rollouts of a group (`credit/consistency.py`), here told as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from mmrl.backend.passes import Passes
from mmrl.credit.answer_span import ANSWER, answer_spans
from mmrl.credit.consistency import ConsistencyBonus, answer_likelihood
from mmrl.evaluation.completion_store import CompletionStore
from mmrl.evaluation.stored_engine import prompt_key
from mmrl.policy.policy import Policy
from mmrl.types import Rollout, RolloutGroup


class AnswerLikelihood:
    """Of every rollout of some groups, by one reference model; kept in `store`, where there is one.

    `policy`: the reference model. `care`: how the likelihood is taken.
    """

    def __init__(
        self,
        policy: Policy,
        tokenizer: Any,
        *,
        device: str,
        micro_batch_tokens: int = 16384,
        care: ConsistencyBonus | None = None,
        store: CompletionStore | None = None,
    ) -> None:
        self._policy = policy
        self._tokenizer = tokenizer
        self._device = torch.device(device)
        self._tokens = micro_batch_tokens
        self._care = care or ConsistencyBonus()
        self._store = store

    def __call__(self, groups: Sequence[RolloutGroup]) -> list[list[float | None]]:
        """In [0, cap]; None where no whole answer block was found."""
        keys = [[self._key(group, rollout) for rollout in group.rollouts] for group in groups]
        known = {key: self._store.get(key) for own in keys for key in own} if self._store is not None else {}
        missing = [group for group, own in zip(groups, keys, strict=True) if any(not known.get(key) for key in own)]
        fresh = dict(zip((id(group) for group in missing), self._measured(missing), strict=True))
        found: list[list[float | None]] = []
        for group, own in zip(groups, keys, strict=True):
            values = fresh[id(group)] if id(group) in fresh else [known[key]["likelihood"] for key in own]  # type: ignore[index]
            found.append(values)
            if self._store is not None:
                self._store.add({key: {"likelihood": value} for key, value in zip(own, values, strict=True)})
        return found

    @torch.no_grad()
    def _measured(self, groups: Sequence[RolloutGroup]) -> list[list[float | None]]:
        if not groups:
            return []
        policy, care = self._policy, self._care
        was_training = policy.training
        policy.eval()
        passes = Passes(policy, tokens=self._tokens, pad_id=int(self._tokenizer.pad_token_id), device=self._device)
        try:
            outputs = passes.outputs(policy, policy, groups, entropy=False, disagreement=False)
        finally:
            policy.train(was_training)
        span = answer_spans(groups, self._decode)
        logprobs = outputs.logprobs.cpu().float()[:, : span.shape[1]]
        likely = answer_likelihood(
            logprobs, span, arithmetic=care.likelihood == "arithmetic", with_tag_end=care.span_includes_gt
        ).clamp(max=care.cap)
        told = (span == ANSWER).any(dim=1).tolist()
        values = iter([round(value, 6) if said else None for value, said in zip(likely.tolist(), told, strict=True)])
        return [[next(values) for _ in group.rollouts] for group in groups]

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _key(self, group: RolloutGroup, rollout: Rollout) -> str:
        care = self._care
        settings = [care.likelihood, care.cap, care.span_includes_gt]
        content = json.dumps(["likelihood", prompt_key(group.prompt), rollout.token_ids, settings])
        return hashlib.sha256(content.encode()).hexdigest()
