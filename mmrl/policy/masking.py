"""Prompts whose pictures are partly blackened: what a policy would say if it saw less. PAPO, arXiv:2507.06448."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mmrl.types import Prompt


def black_patch(processor: Any) -> Float[Tensor, " F"]:
    """A patch of a black picture, as the model's preprocessing makes it."""
    values: Tensor = processor.image_processor(images=[Image.new("RGB", (112, 112))], return_tensors="pt")[
        "pixel_values"
    ]
    return values.reshape(-1, values.shape[-1])[0]


def blackened(prompt: Prompt, *, fraction: float, seed: int, black: Float[Tensor, " F"]) -> Prompt:
    """The prompt with each patch black with probability `fraction`, the same for the same seed; the text stays.

    The authors blacken squares of 14 pixels of the original picture; here it is the model's own patches (14 or 16
    pixels) after resizing, in every moment of a clip anew. A prompt without pictures is given back as it is.
    """
    if prompt.vision is None:
        return prompt
    vision = prompt.vision
    lots = torch.rand(len(vision.patches), generator=torch.Generator().manual_seed(seed % 2**63))
    patches = torch.where((lots < fraction)[:, None], black.to(vision.patches.dtype), vision.patches)
    digests = tuple(
        hashlib.blake2b(f"{digest} black {fraction} {seed}".encode(), digest_size=16).hexdigest()
        for digest in vision.digests
    )
    return replace(prompt, vision=replace(vision, patches=patches, digests=digests))
