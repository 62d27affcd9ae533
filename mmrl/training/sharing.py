"""How ranks share a step: each asks and scores its share of the samples, tells the others, and trains its own groups.

    samples ──share──▶ own groups ──exchange──▶ all groups, on every rank ──place──▶ which of them each rank trains

What all ranks know of a group is everything but its pixels, which stay where they were decoded: by far the most of it.
So credit, filters, samplers and traces see the whole step, and are computed alike everywhere. For training, groups are
placed so that ranks have equally many tokens, and only the pixels of those that move travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from mmrl.ranks import Ranks, by_rank
from mmrl.training.update import shares
from mmrl.types import Dropped, Prompt, RolloutGroup, ScoredGroup

UNEVEN = 1.05  # groups stay where they are while no rank has more than this share of the best placement's tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """What became of one round of asking, on all ranks together; the same on every rank but for the pixels."""

    scored: list[ScoredGroup]  # in the order in which their samples were asked
    dropped: list[Dropped]
    metrics: dict[str, float]
    holders: dict[str, int]  # sample id → the rank that has its group's pixels
    notices: list[str]  # what happened to the engines; of another than the first rank's it says so


def exchange(
    ranks: Ranks,
    order: Sequence[str],
    scored: Sequence[ScoredGroup],
    dropped: Sequence[Sequence[Dropped]],
    metrics: Mapping[str, float],
    notices: Sequence[str] = (),
) -> Exchanged:
    """Put together what each rank has of a round.

    `order`: the ids of all samples asked. `dropped`: in lists that follow each other, each in the order of samples.
    `notices`: what happened to this rank's engine.
    """
    if not ranks.several:
        mine = {group.group.prompt.sample.id: 0 for group in scored}
        flat = [drop for part in dropped for drop in part]
        return Exchanged(scored=list(scored), dropped=flat, metrics=dict(metrics), holders=mine, notices=list(notices))
    blind = [without_pixels(group) for group in scored]
    told = ranks.gather((blind, [list(part) for part in dropped], dict(metrics), list(notices)))
    at = {sample: position for position, sample in enumerate(order)}
    holders = {group.group.prompt.sample.id: rank for rank, (groups, *_) in enumerate(told) for group in groups}
    own = {group.group.prompt.sample.id: group for group in scored}
    groups = [own.get(group.group.prompt.sample.id, group) for part, *_ in told for group in part]
    drops = [
        sorted((drop for _, lists, *_ in told for drop in lists[number]), key=lambda drop: at[drop.sample_id])
        for number in range(len(dropped))
    ]
    merged: dict[str, float] = {}
    for _, _, figures, _ in told:
        for name, value in figures.items():
            counts = name.endswith(("_failed", "_timeouts", "/servers"))
            merged[name] = merged.get(name, 0.0) + value if counts else max(merged.get(name, value), value)
    return Exchanged(
        scored=sorted(groups, key=lambda group: at[group.group.prompt.sample.id]),
        dropped=[drop for part in drops for drop in part],
        metrics=merged,
        holders=holders,
        notices=by_rank([said for *_, said in told]),
    )


def place(
    ranks: Ranks, groups: Sequence[ScoredGroup], holders: Mapping[str, int], *, minibatches: int
) -> tuple[list[ScoredGroup], list[bool]]:
    """Say which groups this rank trains, and bring it their pixels. Returns the groups, and which are its own."""
    if not ranks.several:
        return list(groups), [True] * len(groups)
    held = [holders[group.group.prompt.sample.id] for group in groups]
    owners: list[int] = []
    for share in shares(range(len(groups)), minibatches):
        owners += balanced([_tokens(groups[i].group) for i in share], [held[i] for i in share], ranks.count)
    placed = list(groups)
    for i, (group, origin, target) in enumerate(zip(groups, held, owners, strict=True)):
        vision = group.group.prompt.vision
        if vision is None or origin == target:
            continue
        shape = (sum(t * h * w for t, h, w in vision.grids), vision.patches.shape[1])
        arrived = ranks.send(
            vision.patches if ranks.rank == origin else None,
            origin=origin,
            target=target,
            shape=shape,
            dtype=vision.patches.dtype,
        )
        if arrived is not None:
            prompt = replace(group.group.prompt, vision=replace(vision, patches=arrived))
            placed[i] = replace(group, group=replace(group.group, prompt=prompt))
        elif ranks.rank == origin:
            placed[i] = without_pixels(group)
    return placed, [owner == ranks.rank for owner in owners]


def balanced(tokens: Sequence[int], held: Sequence[int], ranks: int) -> list[int]:
    """The rank of each group, so that no rank has many more tokens than another and few groups move.

    The longest first, each to the rank with the least so far, says how even it can get. Groups stay where they are if
    that is nearly as even; else one after the other moves from the fullest rank to the emptiest while that helps.
    """
    loads = [0] * ranks
    for size in sorted(tokens, reverse=True):
        loads[loads.index(min(loads))] += size
    target = max(loads) * UNEVEN
    owners = list(held)
    loads = [sum(size for size, owner in zip(tokens, owners, strict=True) if owner == rank) for rank in range(ranks)]
    while max(loads) > target:
        full, empty = loads.index(max(loads)), loads.index(min(loads))
        after = {
            i: max(loads[full] - tokens[i], loads[empty] + tokens[i]) for i in range(len(tokens)) if owners[i] == full
        }
        best = min(after, key=lambda i: (after[i], i))
        if after[best] >= loads[full]:
            break
        owners[best] = empty
        loads[full] -= tokens[best]
        loads[empty] += tokens[best]
    return owners


def without_pixels(group: ScoredGroup) -> ScoredGroup:
    """What other ranks are told of a group, its twins included."""
    prompt = _blind(group.group.prompt)
    twins = {view: without_pixels(twin) for view, twin in group.twins.items()}
    return replace(group, group=replace(group.group, prompt=prompt), twins=twins)


def _blind(prompt: Prompt) -> Prompt:
    if prompt.vision is None:
        return prompt
    nothing = torch.empty(0, prompt.vision.patches.shape[1], dtype=prompt.vision.patches.dtype)
    return replace(prompt, vision=replace(prompt.vision, patches=nothing))


def _tokens(group: RolloutGroup) -> int:
    """Of its packed row: what its forward pass costs, nearly."""
    return len(group.prompt.token_ids) + sum(len(rollout.token_ids) for rollout in group.rollouts)
