"""Carries out an algorithm's plan: demonstrations among the rollouts, and twins beside the groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from mmrl.algorithms.algorithm import Algorithm
from mmrl.errors import RunError
from mmrl.plan.part import Write
from mmrl.rollout.engine import RolloutEngine, Sampling
from mmrl.types import Completion, Prompt, Rollout, RolloutGroup, ScoredGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """How completions that no policy wrote come about."""

    write: Write  # (prompt, thought) → the gold answer in the prompt's form
    encode: Callable[[str], tuple[int, ...]]  # text → token ids, the end token last


def asked_groups(
    prompts: Sequence[Prompt],
    sizes: Sequence[int] | None,
    *,
    engine: RolloutEngine,
    algorithm: Algorithm,
    sampling: Sampling,
    step: int,
    by: Author | None,
) -> list[RolloutGroup]:
    """One group per prompt: the policy's rollouts, with the demonstrations the algorithm puts among them."""
    if not algorithm.demonstrations:
        return engine.generate(prompts, sampling, step=step, sizes=sizes)
    if by is None:
        raise RunError(f"algorithm {algorithm.name!r} demonstrates completions, and nobody was given to write them.")
    wanted = list(sizes) if sizes is not None else [sampling.group_size] * len(prompts)
    shown = [_demonstrated(prompt, algorithm, by, sampling.max_tokens) for prompt in prompts]
    left = [0 if alone else max(1, size - len(own)) for size, (alone, own) in zip(wanted, shown, strict=True)]
    asked = [i for i, count in enumerate(left) if count]
    written = engine.generate([prompts[i] for i in asked], sampling, step=step, sizes=[left[i] for i in asked])
    rollouts = {id(group.prompt): group.rollouts for group in written}  # without those the engine lost
    groups = []
    for i, (prompt, (_, own)) in enumerate(zip(prompts, shown, strict=True)):
        if left[i] and id(prompt) not in rollouts:
            continue
        before = rollouts.get(id(prompt), ())
        placed = tuple(replace(rollout, index=len(before) + n) for n, rollout in enumerate(own))
        groups.append(RolloutGroup(prompt=prompt, rollouts=(*before, *placed)))
    return groups


def twin_groups(
    groups: Sequence[RolloutGroup], *, engine: RolloutEngine, algorithm: Algorithm, sampling: Sampling, step: int
) -> dict[str, list[RolloutGroup]]:
    """Rollouts of the altered versions of these groups' prompts, by view; of the prompts that have such a version."""
    found: dict[str, list[RolloutGroup]] = {}
    for view in algorithm.views:
        sizes = [math.floor(view.share * len(group.rollouts)) for group in groups]
        altered = [
            (prompt, size)
            for group, size in zip(groups, sizes, strict=True)
            if size and (prompt := view(group.prompt, group.rollouts[0].seed)) is not None
        ]
        if altered:
            purpose = f"{sampling.purpose} {view.name}"  # randomness of its own
            found[view.name] = engine.generate(
                [prompt for prompt, _ in altered],
                replace(sampling, purpose=purpose),
                step=step,
                sizes=[size for _, size in altered],
            )
    return found


def with_twins(scored: Sequence[ScoredGroup], view: str, twins: Sequence[ScoredGroup]) -> list[ScoredGroup]:
    """The groups with their twins beside them."""
    by_sample = {twin.group.prompt.sample.id: twin for twin in twins}
    return [
        replace(group, twins={**group.twins, view: by_sample[group.group.prompt.sample.id]})
        if group.group.prompt.sample.id in by_sample
        else group
        for group in scored
    ]


def twin_metrics(scored: Sequence[ScoredGroup]) -> dict[str, float]:
    """How right the twins of each view were."""
    rates: dict[str, list[float]] = {}
    for group in scored:
        for view, twin in group.twins.items():
            rates.setdefault(view, []).append(fmean(twin.accuracy))
    return {f"rollout/{view}_accuracy": fmean(values) for view, values in sorted(rates.items())}


def _demonstrated(prompt: Prompt, algorithm: Algorithm, by: Author, max_tokens: int) -> tuple[bool, list[Rollout]]:
    """(whether the policy is not asked at all, the demonstrations of this prompt)."""
    found = []
    for part in algorithm.demonstrations:
        text = part(prompt, by.write)
        if text is None:
            continue
        ids = by.encode(text)
        if len(ids) > max_tokens:
            raise RunError(
                f"sample {prompt.sample.id!r}: its demonstration has {len(ids)} tokens, more than rollout.max_tokens "
                f"({max_tokens}) allows a completion. Raise rollout.max_tokens."
            )
        rollout = Rollout(
            completion=Completion(text=text, token_count=len(ids), views=prompt.views),
            token_ids=ids,
            behavior_logprobs=(math.nan,) * len(ids),  # sampled from nothing
            policy_logprobs=(math.nan,) * len(ids),
            index=0,
            seed=0,
            policy_version=0,
            origin=part.origin,
        )
        if part.alone:
            return True, [rollout]
        found.append(rollout)
    return False, found
