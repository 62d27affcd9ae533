"""Prompts of which one picture or clip is noise: whether its pixels reach a model shows in the answer's likelihood."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch

from mmrl.types import Prompt


def scrambled(prompt: Prompt, item: int) -> Prompt:
    """The prompt with every value of its `item`-th picture or clip drawn anew from a standard normal distribution,
    which is about the range of preprocessed pixels. The same for the same picture; text, sizes and times stay.

    Noise, not the item's own patches in another order: that would leave a plain picture as it is.
    """
    vision = prompt.vision
    if vision is None or not 0 <= item < len(vision.grids):
        raise IndexError(f"sample {prompt.sample.id!r} shows {0 if vision is None else len(vision.grids)} items")
    first = sum(time * height * width for time, height, width in vision.grids[:item])
    time, height, width = vision.grids[item]
    digest = hashlib.blake2b(f"{vision.digests[item]} scrambled".encode(), digest_size=16)
    random = torch.Generator().manual_seed(int.from_bytes(digest.digest()[:7], "big"))
    patches = vision.patches.clone()
    own = patches[first : first + time * height * width]
    own.copy_(torch.randn(own.shape, generator=random))
    digests = tuple(digest.hexdigest() if i == item else known for i, known in enumerate(vision.digests))
    return replace(prompt, vision=replace(vision, patches=patches, digests=digests))
