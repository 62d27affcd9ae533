"""Sample → Prompt: the chat is rendered, the media decoded and preprocessed, once per sample.

A sample whose picture or clip cannot be used is dropped with the reason; a sample whose text contains the model's own
vision marks is a data-set defect and raised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmrl.data.quarantine import Quarantine
from mmrl.data.video import ClipReader
from mmrl.data.video_plan import ClipRules
from mmrl.errors import DataError, MediaError
from mmrl.policy.family import Family
from mmrl.policy.forms import Mode, question_text
from mmrl.policy.pixels import Pixels, PixelStore
from mmrl.policy.preprocess import Preprocessed, Preprocessor
from mmrl.policy.spelling import ShownItem, Spelling
from mmrl.policy.vision_check import check_vision
from mmrl.types import Dropped, Prompt, Sample

CACHE_BYTES = 256 * 2**20

_MARK = re.compile("<image>|<video>")


class Renderer:
    """Renders samples for one model. Pixels are kept, up to `cache_bytes`, and the prompts made of them."""

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
        clips: ClipReader | None = None,
        rules: ClipRules | None = None,
        quarantine: Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """`min_pixels`, `max_pixels`: area of a picture after resizing; `rules`: frames of clips and their area.
        `quarantine`: the file that remembers media that cannot be used; None: this process alone does. `cache_bytes`:
        of preprocessed pixels kept between steps.
        """
        self._processor = processor
        self._family = family
        self._config = config
        self._mode: Mode = mode
        self._system = system
        self._preprocessor = Preprocessor(
            processor, family, config, min_pixels=min_pixels, max_pixels=max_pixels, clips=clips, rules=rules
        )
        self._pixels = PixelStore(self._preprocessor, Quarantine(quarantine), capacity_bytes=cache_bytes)

    @property
    def images_preprocessed(self) -> int:
        """So far, for benchmarks."""
        return self._preprocessor.images_preprocessed

    @property
    def clips_preprocessed(self) -> int:
        """So far, for benchmarks."""
        return self._preprocessor.clips_preprocessed

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

    def prepare(self, samples: Sequence[Sample]) -> None:
        """A hint that these samples are probably rendered next: their media are preprocessed in the background."""
        self._pixels.prepare([(sample.id, sample.media) for sample in samples])

    def close(self) -> None:
        """End background work and the decoding process. The renderer can still be used."""
        self._pixels.close()
        self._preprocessor.close()

    def _prompt(self, sample: Sample) -> Prompt:
        if not sample.media:
            return self._render(sample, None)
        pixels = self._pixels.get(sample.media, sample_id=sample.id)
        known = pixels.prompts.get(sample.id)
        if known is None or known[0] is not sample:
            known = (sample, self._render(sample, pixels))
            pixels.prompts[sample.id] = known
        return known[1]

    def _render(self, sample: Sample, pixels: Pixels | None) -> Prompt:
        text = self._processor.apply_chat_template(self._messages(sample), add_generation_prompt=True, tokenize=False)
        items = pixels.items if pixels is not None else ()
        token_ids, slots = self._expand(sample, text, items)
        prompt = Prompt(
            sample=sample,
            text=text,
            token_ids=tuple(token_ids),
            media_slots=tuple(slots),
            vision=pixels.vision if pixels is not None else None,
            views=tuple(item.view for item in items),
        )
        check_vision(prompt, merge=self._family.merge_size(self._config) if items else 1)
        return prompt

    def _messages(self, sample: Sample) -> list[dict[str, Any]]:
        question = question_text(sample, self._mode)
        kinds = ["image" if media.type == "image" else "video" for media in sample.media]
        marks = [mark.strip("<>") for mark in _MARK.findall(question)]
        content: list[dict[str, str]] = []
        if not marks:
            content.extend({"type": kind} for kind in kinds)
            content.append({"type": "text", "text": question})
        elif marks != kinds:
            raise DataError(
                f"sample {sample.id!r}: the question marks {', '.join(marks)}, and media lists "
                f"{', '.join(kinds) or 'nothing'}. Give each item one mark of its kind, in the order of media."
            )
        else:
            for i, piece in enumerate(_MARK.split(question)):
                if i:
                    content.append({"type": kinds[i - 1]})
                if piece:
                    content.append({"type": "text", "text": piece})
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if self._system is not None:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": self._system}]})
        return messages

    def _expand(
        self, sample: Sample, text: str, items: Sequence[Preprocessed]
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids with each placeholder repeated once per visual token of its run, and where those runs are."""
        placeholders = {kind: int(getattr(self._config, f"{kind}_token_id")) for kind in self._family.media}
        names = [self._processor.tokenizer.convert_ids_to_tokens(i) for i in placeholders.values()]
        spellings = [self._spelling(item, placeholders[item.kind]) for item in items]
        runs = [run for spelling in spellings for run in spelling.runs]
        written = self._processor.tokenizer(
            _spelled(sample, text, spellings, names), add_special_tokens=False
        ).input_ids
        stand_ins = set(placeholders.values())
        if sum(token in stand_ins for token in written) != len(runs):
            raise DataError(_stray(sample, text, len(items), names))
        expanded: list[int] = []
        slots: list[tuple[int, int]] = []
        for token in written:
            if token in stand_ins:
                count = runs[len(slots)]
                slots.append((len(expanded), len(expanded) + count))
                expanded.extend([token] * count)
            else:
                expanded.append(token)
        return expanded, slots

    def _spelling(self, item: Preprocessed, placeholder: int) -> Spelling:
        return self._family.spell(
            ShownItem(
                kind=item.kind,
                placeholder=self._processor.tokenizer.convert_ids_to_tokens(placeholder),
                grid=item.grid,
                merge=self._family.merge_size(self._config),
                frames=item.view.frames,
                frame_rate=item.frame_rate,
            )
        )


def _spelled(sample: Sample, text: str, spellings: Sequence[Spelling], placeholders: Sequence[str]) -> str:
    """The rendered chat with each item's piece replaced, in order."""
    pieces: list[str] = []
    at = 0
    for spelling in spellings:
        found = text.find(spelling.replaces, at)
        if found < 0:
            raise DataError(_stray(sample, text, len(spellings), placeholders))
        pieces += [text[at:found], spelling.text]
        at = found + len(spelling.replaces)
    return "".join([*pieces, text[at:]])


def _stray(sample: Sample, text: str, items: int, placeholders: Sequence[str]) -> str:
    shown = sum(text.count(name) for name in placeholders)
    return (
        f"sample {sample.id!r}: the rendered prompt has {shown} placeholders for {items} media items. The question "
        "must not contain the model's own vision tokens; mark pictures with <image> and clips with <video>."
    )
