"""Sample → Prompt: the chat is rendered, the pictures decoded and preprocessed, once per sample.

A sample whose picture cannot be used is dropped with the reason; a sample whose text contains the model's own vision
marks is a data-set defect and raised.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from mmrl.data.images import load_image
from mmrl.errors import DataError, MediaError
from mmrl.policy.family import Family
from mmrl.policy.forms import Mode, question_text
from mmrl.types import Dropped, MediaView, Prompt, Sample, VisionInputs

CACHE_BYTES = 256 * 2**20  # of preprocessed pixels kept between steps


class Renderer:
    """Renders samples for one model. Prompts are kept, up to `CACHE_BYTES` of pixels, least recently used first out."""

    def __init__(
        self,
        processor: Any,
        family: Family,
        config: Any,
        *,
        mode: Mode = "think_answer",
        system: str | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self._processor = processor
        self._family = family
        self._config = config
        self._mode: Mode = mode
        self._system = system
        size = processor.image_processor.size
        self._size = {
            "shortest_edge": min_pixels or size["shortest_edge"],
            "longest_edge": max_pixels or size["longest_edge"],
        }
        self._cache: OrderedDict[str, tuple[Sample, Prompt]] = OrderedDict()
        self._cached_bytes = 0
        self.images_preprocessed = 0  # for benchmarks

    def render(self, samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]:
        """Prompts of the samples that can be used, in order, and what was dropped and why."""
        prompts, dropped = [], []
        for sample in samples:
            try:
                prompts.append(self._prompt(sample))
            except MediaError as error:
                reason = str(getattr(error, "reason", "unusable media"))
                dropped.append(Dropped(sample_id=sample.id, stage="media", reason=reason, detail=str(error)))
        return prompts, dropped

    def _prompt(self, sample: Sample) -> Prompt:
        known = self._cache.get(sample.id)
        if known is not None and known[0] is sample:
            self._cache.move_to_end(sample.id)
            return known[1]
        prompt = self._render(sample)
        self._cache[sample.id] = (sample, prompt)
        self._cached_bytes += _bytes(prompt)
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            _, (_, oldest) = self._cache.popitem(last=False)
            self._cached_bytes -= _bytes(oldest)
        return prompt

    def _render(self, sample: Sample) -> Prompt:
        images = []
        for media in sample.media:
            if media.type != "image" or media.path is None:
                raise DataError(
                    f"sample {sample.id!r}: media of type {media.type!r} cannot be rendered yet; only images can."
                )
            images.append(load_image(media.path))
        text = self._processor.apply_chat_template(self._messages(sample), add_generation_prompt=True, tokenize=False)
        vision, views = self._vision(images) if images else (None, ())
        token_ids, slots = self._expand(sample, text, vision)
        return Prompt(
            sample=sample, text=text, token_ids=tuple(token_ids), media_slots=tuple(slots), vision=vision, views=views
        )

    def _messages(self, sample: Sample) -> list[dict[str, Any]]:
        question = question_text(sample, self._mode)
        content: list[dict[str, str]] = []
        pieces = question.split("<image>")
        if len(pieces) == 1:
            content.extend({"type": "image"} for _ in sample.media)
            content.append({"type": "text", "text": question})
        else:
            for i, piece in enumerate(pieces):
                if i:
                    content.append({"type": "image"})
                if piece:
                    content.append({"type": "text", "text": piece})
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if self._system is not None:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": self._system}]})
        return messages

    def _vision(self, images: Sequence[Any]) -> tuple[VisionInputs, tuple[MediaView, ...]]:
        self.images_preprocessed += len(images)
        features = self._processor.image_processor(images=list(images), size=self._size, return_tensors="pt")
        patches: torch.Tensor = features["pixel_values"].contiguous()
        grids = tuple((int(t), int(h), int(w)) for t, h, w in features["image_grid_thw"])
        views = []
        for image, grid in zip(images, grids, strict=True):
            width, height = self._family.spoken_size(grid, self._config)
            views.append(MediaView(width=image.width, height=image.height, spoken_width=width, spoken_height=height))
        vision = VisionInputs(
            patches=patches,
            grids=grids,
            kinds=tuple("image" for _ in grids),
            seconds_per_grid=(0.0,) * len(grids),
            digests=_digests(patches, grids),
        )
        return vision, tuple(views)

    def _expand(
        self, sample: Sample, text: str, vision: VisionInputs | None
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids with each placeholder repeated once per visual token, and where those are."""
        placeholder = self._config.image_token_id
        merged = self._config.vision_config.spatial_merge_size**2
        counts = [t * h * w // merged for t, h, w in vision.grids] if vision is not None else []
        ids: list[int] = self._processor.tokenizer(text, add_special_tokens=False).input_ids
        found = sum(i == placeholder for i in ids)
        if found != len(counts):
            raise DataError(
                f"sample {sample.id!r}: the rendered prompt has {found} image placeholders for {len(counts)} images. "
                "The question must not contain the model's own vision tokens; mark images with <image>."
            )
        expanded: list[int] = []
        slots: list[tuple[int, int]] = []
        for token in ids:
            if token == placeholder:
                count = counts[len(slots)]
                slots.append((len(expanded), len(expanded) + count))
                expanded.extend([placeholder] * count)
            else:
                expanded.append(token)
        return expanded, slots


def _digests(patches: torch.Tensor, grids: Sequence[tuple[int, int, int]]) -> tuple[str, ...]:
    digests = []
    for item, grid in zip(patches.split([t * h * w for t, h, w in grids]), grids, strict=True):
        digest = hashlib.blake2b(repr(grid).encode(), digest_size=16)
        digest.update(memoryview(item.numpy()))
        digests.append(digest.hexdigest())
    return tuple(digests)


def _bytes(prompt: Prompt) -> int:
    return 0 if prompt.vision is None else prompt.vision.patches.numel() * prompt.vision.patches.element_size()
