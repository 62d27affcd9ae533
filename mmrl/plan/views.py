"""Altered versions of a prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from mmrl.batch import NO_NEEDS, Need
from mmrl.types import Prompt, Sample, VisionItem


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffledFrames:
    """Every clip of the prompt with its frames in a random order; the text stays. T-GRPO, arXiv:2503.21776.

    Half as many rollouts as the group has, as in the authors' code. Pictures are left as they are: a prompt without a
    clip of two or more moments has no such version. Frames that a model merges into one moment (two in Qwen's towers)
    stay together: the order of moments is shuffled, not that within one.
    """

    share: float = 0.5
    name: ClassVar[str] = "shuffled_frames"
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, prompt: Prompt, seed: int) -> Prompt | None:
        vision = prompt.vision
        if vision is None or all(k != "video" or g[0] < 2 for k, g in zip(vision.kinds, vision.grids, strict=True)):
            return None
        random = torch.Generator().manual_seed(seed % 2**63)
        patches, digests = [], []
        for kind, item in zip(vision.kinds, vision.items(), strict=True):
            moments = item.grid[0]
            if kind == "video" and moments > 1:
                order = _shuffled(moments, random)
                patches.append(item.patches.view(moments, -1, item.patches.shape[1])[order].flatten(0, 1))
                digests.append(_digest(item, order.tolist()))
            else:
                patches.append(item.patches)
                digests.append(item.digest)
        return replace(prompt, vision=replace(vision, patches=torch.cat(patches), digests=tuple(digests)))

    def idle(self, samples: Sequence[Sample]) -> str | None:
        if any(media.type != "image" for sample in samples for media in sample.media):
            return None
        return "no training sample shows a clip, so there are no frames to shuffle and nothing to compare with"


def _shuffled(count: int, random: torch.Generator) -> torch.Tensor:
    """A random order that is not the given one."""
    while True:
        order = torch.randperm(count, generator=random)
        if order.tolist() != list(range(count)):
            return order


def _digest(item: VisionItem, order: list[int]) -> str:
    return hashlib.blake2b(f"{item.digest}{order}".encode(), digest_size=16).hexdigest()
