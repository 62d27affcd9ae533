"""Sampling with the policy itself, in the trainer's process: the default engine, on CPU or one GPU.

Every prompt is prefilled once; its keys and values exist once for all its rollouts (`policy/shared_prefix.py`).
Finished rollouts leave the batch. Each rollout draws its tokens with its own uniform numbers (`seeds.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmrl.policy.adapters import has_adapters
from mmrl.policy.attention import PackedAttention
from mmrl.policy.packed import Part, pack_rows
from mmrl.policy.policy import Policy
from mmrl.policy.row_cache import RowCache
from mmrl.policy.shared_prefix import SharedPrefixCache
from mmrl.rollout.certain_text import CertainText
from mmrl.rollout.completions import Written, banned_ids, end_ids, rollout_groups
from mmrl.rollout.engine import Sampling
from mmrl.rollout.sampling import draw, sampled_distribution
from mmrl.rollout.seeds import rollout_seed, uniforms
from mmrl.rollout.threads import step_operations, threads_for
from mmrl.types import Prompt, Rollout, RolloutGroup

COMPACT_BELOW = 0.9  # rows are dropped from the batch when fewer than this share of them are unfinished


class TransformersEngine:
    """Samples from a `Policy` with its Hugging Face modules and a key-value cache.

    Given the very module that is being trained, weights need no copying: `load_weights` then only notes the version.
    """

    def __init__(self, policy: Policy, tokenizer: Any, *, run_seed: int, device: str = "cpu") -> None:
        self._policy = policy
        self._tokenizer = tokenizer
        self._run_seed = run_seed
        self._device = torch.device(device)
        self._version = 0
        self._banned = torch.tensor(banned_ids(policy, tokenizer), device=self._device)
        self._end = torch.tensor(end_ids(policy, tokenizer), device=self._device)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, version: int) -> None:
        own = dict(self._policy.model.named_parameters())
        # Adapters, and parameters that DeepSpeed spreads over ranks: only the trainer's own module has them.
        if has_adapters(self._policy.model) or any(hasattr(value, "ds_id") for value in own.values()):
            weights = ()
        with torch.no_grad():
            for name, value in weights:
                if own[name].data_ptr() != value.data_ptr():
                    own[name].copy_(value)
        self._version = version

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        if not prompts:
            return []
        was_training = self._policy.training
        self._policy.eval()
        try:
            if self._policy.family.packs:
                return self._generate(prompts, sampling, step, sizes=sizes)
            return self._by_length(prompts, sampling, step, sizes=sizes)
        finally:
            self._policy.train(was_training)

    def stream(self, prompt: Prompt, sampling: Sampling, *, on_text: Callable[[str], None]) -> Rollout:
        """One rollout; `on_text` gets each piece of its text as soon as it is certain."""
        one = replace(sampling, group_size=1)
        return self.stream_group(prompt, one, on_text=lambda index, text: on_text(text)).rollouts[0]

    @torch.no_grad()
    def stream_group(
        self, prompt: Prompt, sampling: Sampling, *, step: int = 0, on_text: Callable[[int, str], None]
    ) -> RolloutGroup:
        """One group, the same that `generate` gives, its rollouts written side by side.

        `on_text(index, piece)` is called after every token of a rollout with what became certain of its text, which may
        be nothing: what it raises ends the writing.
        """
        text = CertainText(self._tokenizer, end=self._end.tolist(), group_size=sampling.group_size, on_text=on_text)
        self._policy.eval()
        group = self._generate([prompt], sampling, step, watch=text.show)[0]
        text.finish(group)
        return group

    def _by_length(
        self, prompts: Sequence[Prompt], sampling: Sampling, step: int, *, sizes: Sequence[int] | None
    ) -> list[RolloutGroup]:
        """Prompts of equal length together: what a `RowCache` can hold."""
        done: dict[int, RolloutGroup] = {}
        for length in sorted({len(prompt.token_ids) for prompt in prompts}):
            alike = [i for i, prompt in enumerate(prompts) if len(prompt.token_ids) == length]
            counts = None if sizes is None else [sizes[i] for i in alike]
            groups = self._generate([prompts[i] for i in alike], sampling, step, sizes=counts)
            done.update(zip(alike, groups, strict=True))
        return [done[i] for i in range(len(prompts))]

    def _generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        step: int,
        *,
        sizes: Sequence[int] | None = None,
        watch: Callable[[int, Sequence[int]], None] | None = None,
    ) -> list[RolloutGroup]:
        counts = list(sizes) if sizes is not None else [sampling.group_size] * len(prompts)
        seeds = [
            rollout_seed(self._run_seed, sampling.purpose, step, prompt.sample.id, sampling.first_index + i)
            for prompt, size in zip(prompts, counts, strict=True)
            for i in range(size)
        ]
        cache, logits, following = self._prefill(prompts, counts, sampling)
        numbers = torch.stack([torch.from_numpy(uniforms(seed, sampling.max_tokens)) for seed in seeds])
        longest = max(len(prompt.token_ids) for prompt in prompts) + sampling.max_tokens
        with threads_for(step_operations(self._policy.config, rollouts=len(seeds), keys=longest), self._device):
            tokens = self._decode(cache, logits, following, numbers.to(self._device), sampling, watch)
        return self._groups(prompts, counts, tokens, seeds, sampling)

    def _decode(
        self,
        cache: SharedPrefixCache | RowCache,
        logits: Float[Tensor, "N V"],
        following: Int[Tensor, " N"],
        numbers: Float[Tensor, "N max_tokens"],
        sampling: Sampling,
        watch: Callable[[int, Sequence[int]], None] | None,
    ) -> _Decoded:
        """Token after token, from the first one's logits and the positions that come next."""
        tokens = _Decoded(len(logits), sampling.max_tokens, self._device)
        rows = torch.arange(len(logits), device=self._device)  # rollouts still being written
        active = torch.ones(len(logits), dtype=torch.bool, device=self._device)  # of `rows`
        for t in range(sampling.max_tokens):
            behavior = sampled_distribution(logits, sampling, self._banned)
            chosen = draw(behavior, numbers[rows, t], greedy=sampling.temperature == 0)
            tokens.add(rows[active], t, chosen[active], behavior[active], logits[active].log_softmax(-1))
            if watch is not None:
                for row in rows[active].tolist():
                    watch(row, tokens.tail(row, t + 1))
            ended = torch.isin(chosen, self._end)
            if sampling.stop:
                ended |= self._stopped(tokens, rows, sampling.stop)
            active = active & ~ended
            remaining = int(active.sum())
            if remaining == 0 or t + 1 == sampling.max_tokens:
                break
            if remaining < COMPACT_BELOW * len(rows):
                keep = active.nonzero().squeeze(-1)
                cache.keep(keep)
                rows, chosen, following = rows[keep], chosen[keep], following[keep]
                active = active[keep]
            hidden = self._policy.hidden_states(
                self._policy.family.token_embedding(self._policy.model)(chosen[:, None]),
                positions=(following + t).expand(3, -1)[..., None],
                attention=None,
                cache=cache,
            )
            logits = self._policy.logits(hidden[:, 0])
        return tokens

    def _prefill(
        self, prompts: Sequence[Prompt], counts: Sequence[int], sampling: Sampling
    ) -> tuple[SharedPrefixCache | RowCache, Tensor, Int[Tensor, " N"]]:
        """Every prompt once. Returns the cache and, per rollout, the last logits and the next position."""
        rows = [[Part(prompt=prompt, branches=(), rows=())] for prompt in prompts]
        policy = self._policy
        packed = pack_rows(rows, policy.family, policy.config, pad_id=self._tokenizer.pad_token_id).to(self._device)
        cache = SharedPrefixCache() if policy.family.packs else RowCache(policy.config.get_text_config())
        embedded = policy.embed(packed)
        hidden = policy.hidden_states(
            embedded.tokens,
            positions=packed.positions,
            attention=PackedAttention(packed.layout),
            cache=cache,
            visual=embedded.visual,
        )
        lengths = torch.tensor([len(p.token_ids) for p in prompts], device=self._device)
        logits = policy.logits(hidden[torch.arange(len(prompts), device=self._device), lengths - 1])
        real = torch.arange(packed.token_ids.shape[1], device=self._device)[None, :] < lengths[:, None]
        last = packed.positions.masked_fill(~real[None], -1).amax(dim=(0, 2))
        sizes = torch.tensor(counts, device=self._device)
        cache.branch(sizes, room=sampling.max_tokens, lengths=lengths)
        return cache, logits.repeat_interleave(sizes, dim=0), (last + 1).repeat_interleave(sizes)

    def _stopped(self, tokens: _Decoded, rows: Int[Tensor, " B"], stop: Sequence[str]) -> Bool[Tensor, " B"]:
        """Which rows contain a stop string: only the tail that can hold it is decoded."""
        tail = max(len(s.encode()) for s in stop) + 8  # a token is at least one byte; 8 for a character cut in two
        texts = self._tokenizer.batch_decode([tokens.tail(int(row), tail) for row in rows])
        return torch.tensor([any(s in text for s in stop) for text in texts], device=self._device)

    def _groups(
        self,
        prompts: Sequence[Prompt],
        counts: Sequence[int],
        tokens: _Decoded,
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[RolloutGroup]:
        written = iter(tokens.rows())
        numbers = iter(seeds)
        return rollout_groups(
            prompts,
            [[next(written) for _ in range(count)] for count in counts],
            [[next(numbers) for _ in range(count)] for count in counts],
            tokenizer=self._tokenizer,
            end=self._end.tolist(),
            sampling=sampling,
            version=self._version,
        )


class _Decoded:
    """Tokens and log-probabilities of N rollouts as they are written."""

    def __init__(self, count: int, width: int, device: torch.device) -> None:
        self._ids = torch.zeros(count, width, dtype=torch.long, device=device)
        self._behavior = torch.zeros(count, width, device=device)
        self._policy = torch.zeros(count, width, device=device)
        self._lengths = torch.zeros(count, dtype=torch.long, device=device)

    def add(self, rows: Tensor, t: int, chosen: Tensor, behavior: Tensor, policy: Tensor) -> None:
        """Token t of these rows, with the distributions it was drawn from and that the policy had."""
        self._ids[rows, t] = chosen
        self._behavior[rows, t] = behavior.gather(-1, chosen[:, None]).squeeze(-1)
        self._policy[rows, t] = policy.gather(-1, chosen[:, None]).squeeze(-1)
        self._lengths[rows] = t + 1

    def tail(self, row: int, count: int) -> list[int]:
        """The last tokens of one rollout."""
        length = int(self._lengths[row])
        return [int(i) for i in self._ids[row, max(0, length - count) : length]]

    def rows(self) -> list[Written]:
        """Every rollout at its own length."""
        columns = zip(
            self._ids.tolist(), self._behavior.tolist(), self._policy.tolist(), self._lengths.tolist(), strict=True
        )
        return [
            Written(token_ids=tuple(ids[:n]), behavior_logprobs=tuple(behavior[:n]), policy_logprobs=tuple(policy[:n]))
            for ids, behavior, policy, n in columns
        ]
