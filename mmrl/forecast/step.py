"""What one rank's step consists of: its prompts, its completions, and how both are laid out for a pass.

Where the samples and the model's processor are on the disk, prompts are rendered as the run will render them. Else they
are assumed: a text of so many tokens, and a picture or clip as large as the config's limits allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mmrl.backend.passes import Passes
from mmrl.config.schema import Config
from mmrl.policy.family import Grid
from mmrl.policy.packed import Part, first_fit
from mmrl.policy.policy import Policy
from mmrl.training.update import shares
from mmrl.types import Answer, Completion, Prompt, Rollout, RolloutGroup, Sample

TEXT_TOKENS = 128  # of a prompt whose samples are not there: question, options and the form that is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One prompt."""

    tokens: int  # text and visual tokens
    visual: int  # visual ones among them
    grids: tuple[Grid, ...] = ()  # (1, height, width) in patches of each picture and of each grid time of a clip

    @property
    def patches(self) -> int:
        """The tower's input; 0: text only."""
        return sum(height * width for _, height, width in self.grids)

    @classmethod
    def assumed(cls, *, text: int, visual: int, merge: int) -> Shown:
        """One picture, as nearly square as so many visual tokens allow."""
        high = next((side for side in range(math.isqrt(visual), 0, -1) if visual % side == 0), 0)
        grids: tuple[Grid, ...] = ((1, high * merge, visual // high * merge),) if high else ()
        return cls(tokens=text + visual, visual=visual, grids=grids)

    @classmethod
    def of(cls, prompt: Prompt) -> Shown:
        """A rendered one."""
        grids = prompt.vision.grids if prompt.vision is not None else ()
        return cls(
            tokens=len(prompt.token_ids),
            visual=sum(stop - first for first, stop in prompt.media_slots),
            grids=tuple((1, height, width) for times, height, width in grids for _ in range(times)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One micro-batch, as the packed forward sees it."""

    positions: int  # of the decoder, padding included
    scored: int  # completion tokens: what the head is used for
    patches: int  # of the pictures it shows, each once
    pairs: float  # (query, key) pairs that the attention kernel computes


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rank's share of a step."""

    prompts: tuple[Shown, ...]
    group_size: int
    completion: int  # tokens of every completion
    updates: tuple[tuple[Pass, ...], ...]  # micro-batches of each update
    samples: int  # there are to train on; 0: not known
    source: str  # where the prompts' sizes are from, for people

    @property
    def rollouts(self) -> int:
        return len(self.prompts) * self.group_size

    @property
    def passes(self) -> list[Pass]:
        """All micro-batches."""
        return [one for update in self.updates for one in update]

    @property
    def patches(self) -> int:
        """Of all prompts."""
        return sum(prompt.patches for prompt in self.prompts)

    @property
    def visual(self) -> int:
        """Visual tokens of all prompts."""
        return sum(prompt.visual for prompt in self.prompts)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(prompt.tokens for prompt in self.prompts)


def step_of(
    config: Config,
    policy: Policy,
    prompts: Sequence[Shown],
    *,
    ranks: int,
    completion: int,
    source: str,
    samples: int = 0,
) -> Step:
    """A rank's step. `prompts`: as many as there are examples of; they are repeated to `rollout.prompts_per_step`."""
    rollout, train = config.rollout, config.train
    own = math.ceil(rollout.prompts_per_step / ranks)
    chosen = tuple(prompts[i % len(prompts)] for i in range(own))
    passes = Passes(policy, tokens=train.micro_batch_tokens, pad_id=0, device=torch.device("cpu"))
    groups = [_group(i, shown, rollout.group_size, completion) for i, shown in enumerate(chosen)]
    updates = [
        tuple(_pass(parts, policy, chosen) for parts in passes.split(groups[share[0] : share[-1] + 1]))
        for share in shares(range(own), train.minibatches)
    ]
    return Step(
        prompts=chosen,
        group_size=rollout.group_size,
        completion=completion,
        updates=tuple(updates),
        samples=samples,
        source=source,
    )


def _group(number: int, shown: Shown, size: int, completion: int) -> RolloutGroup:
    sample = Sample(id=str(number), task="", question="", answer=Answer(type="text", value=""))
    prompt = Prompt(sample=sample, text="", token_ids=(0,) * shown.tokens)
    ids = (0,) * completion
    none = (0.0,) * completion
    rollouts = tuple(
        Rollout(
            completion=Completion(text="", token_count=completion),
            token_ids=ids,
            behavior_logprobs=none,
            policy_logprobs=none,
            index=i,
            seed=0,
            policy_version=0,
        )
        for i in range(size)
    )
    return RolloutGroup(prompt=prompt, rollouts=rollouts)


def _pass(parts: Sequence[Part], policy: Policy, shown: Sequence[Shown]) -> Pass:
    rows = first_fit(parts) if policy.family.packs else [[part] for part in parts]
    length = max(sum(part.tokens for part in row) for row in rows)
    pairs = 0.0
    for part in parts:
        prompt = len(part.prompt.token_ids)
        own = [len(branch) - 1 for branch in part.branches]
        pairs += prompt**2 / 2 + sum(prompt * count + count**2 / 2 for count in own)
    if policy.kernel == "sdpa":
        pairs = float(len(rows) * length**2)
    pictures = {part.prompt.sample.id: shown[int(part.prompt.sample.id)].patches for part in parts}
    return Pass(
        positions=len(rows) * length,
        scored=sum(len(branch) for part in parts for branch in part.branches),
        patches=sum(pictures.values()),
        pairs=pairs,
    )
