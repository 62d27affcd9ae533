"""How large a run's prompts are: of its samples; of some that its recipe would draw; or, without either, assumed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmrl import build
from mmrl.config.schema import Config, VideoConfig
from mmrl.data.manifest import read_manifest
from mmrl.data.recipe import sample_recipe
from mmrl.errors import DataError
from mmrl.forecast.probe import samples_file
from mmrl.forecast.step import TEXT_TOKENS, Shown
from mmrl.policy.load import LoadedModel
from mmrl.policy.policy import Policy
from mmrl.types import Prompt, Sample

EXAMPLES = 24  # prompts that are rendered to learn their sizes
CLIP_EXAMPLES = 4  # … where they show clips
ASSUMED_VISUAL = 1280  # tokens, where neither samples nor the config tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the config says of the sizes of pictures and clips."""

    min_pixels: int | None
    max_pixels: int | None
    video: VideoConfig

    @classmethod
    def of(cls, config: Config) -> Limits:
        return cls(min_pixels=config.model.min_pixels, max_pixels=config.model.max_pixels, video=config.video)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What is known of a run's prompts."""

    shown: list[Shown]
    pictures: list[int]  # pixels of each prompt's largest picture, as the model is shown it; 0: none
    frames: list[int]  # … of the largest frame of its clips
    square: int  # pixels of a visual token
    limits: Limits  # within which they are shown
    source: str  # where the sizes are from, for people
    samples: int = 0  # there are to train on; 0: not known
    notes: tuple[str, ...] = ()  # what was assumed


def prompts_of(config: Config, policy: Policy, processor: Any, *, text_tokens: int, visual_tokens: int) -> Prompts:
    """`text_tokens`, `visual_tokens`: of a prompt, where the user says so; 0 and −1: they do not. `processor`: the
    model's, None where it is not here.
    """
    told = visual_tokens >= 0 or text_tokens > 0
    if processor is not None and not told:
        manifest = samples_file(config)
        if manifest is not None:
            samples = read_manifest(str(manifest))
            if rendered := _rendered(config, policy, processor, samples):
                text = f"{len(rendered)} of {manifest}'s samples, rendered"
                return _of(rendered, config, policy, source=text, samples=len(samples))
        elif config.data.recipe is not None:
            drawn = _drawn(config, policy, processor, config.data.recipe)
            if drawn is not None:
                return drawn
    notes = []
    if not text_tokens:
        notes.append(f"the samples are not here: {TEXT_TOKENS} text tokens a prompt are assumed (--text-tokens)")
    most = _most_visual(config, policy)
    if visual_tokens < 0:
        visual_tokens = most.tokens
        notes.append(f"the samples are not here: {visual_tokens} visual tokens a prompt, {most.why} (--visual-tokens)")
    merge = policy.family.merge_size(policy.config)
    assumed = Shown.assumed(text=text_tokens or TEXT_TOKENS, visual=visual_tokens, merge=merge)
    area = round(min(most.area, visual_tokens * _square(policy)))
    return Prompts(
        shown=[assumed],
        pictures=[0 if most.clip else area],
        frames=[area if most.clip else 0],
        square=_square(policy),
        limits=Limits.of(config),
        source="assumed",
        notes=tuple(notes),
    )


def prompts_within(
    before: Prompts, config: Config, policy: Policy, processor: Any, *, text_tokens: int, visual_tokens: int
) -> Prompts:
    """The same prompts within another config's limits of pictures and clips: rendered, drawn or assumed again.

    `visual_tokens` that the user told shrink as the largest picture or frame does.
    """
    if Limits.of(config) == before.limits:
        return before
    if visual_tokens > 0:
        clip = any(before.frames)
        was, now = max(before.frames + before.pictures), config.video.max_pixels if clip else config.model.max_pixels
        visual_tokens = min(visual_tokens, visual_tokens * (now or was) // was)
    return prompts_of(config, policy, processor, text_tokens=text_tokens, visual_tokens=visual_tokens)


def _drawn(config: Config, policy: Policy, processor: Any, recipe: str) -> Prompts | None:
    """Of rows that the recipe draws on the spot; None where it cannot."""
    with TemporaryDirectory(prefix="mmrl-plan-") as folder:
        try:
            found = sample_recipe(recipe, Path(folder) / "data", rows=EXAMPLES)
        except DataError:
            return None  # the build will say why; what is assumed instead is said
        if found is None:
            return None
        manifest, samples = found
        rendered = _rendered(config, policy, processor, read_manifest(str(manifest)))
    if not rendered:
        return None
    text = f"{len(rendered)} samples that {recipe} draws, rendered"
    return _of(rendered, config, policy, source=text, samples=samples)


def _rendered(config: Config, policy: Policy, processor: Any, samples: Sequence[Sample]) -> list[Prompt]:
    clips = any(media.type != "image" for sample in samples[:EXAMPLES] for media in sample.media)
    most = CLIP_EXAMPLES if clips else EXAMPLES
    renderer = build.build_renderer(config, LoadedModel(policy=policy, processor=processor))
    try:
        prompts, _ = renderer.render(samples[:: max(1, len(samples) // most)][:most])
    finally:
        renderer.close()
    return prompts


def _of(rendered: Sequence[Prompt], config: Config, policy: Policy, *, source: str, samples: int) -> Prompts:
    patch = int(policy.config.vision_config.patch_size) ** 2

    def largest(prompt: Prompt, kind: str) -> int:
        vision = prompt.vision
        if vision is None:
            return 0
        shown = zip(vision.grids, vision.kinds, strict=True)
        return max((height * width * patch for (_, height, width), one in shown if one == kind), default=0)

    return Prompts(
        shown=[Shown.of(prompt) for prompt in rendered],
        pictures=[largest(prompt, "image") for prompt in rendered],
        frames=[largest(prompt, "video") for prompt in rendered],
        square=_square(policy),
        limits=Limits.of(config),
        source=source,
        samples=samples,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Most:
    """The most that a prompt shows by the config's limits."""

    tokens: int  # visual ones
    area: float  # pixels that the picture, or a frame of the clip, may have
    clip: bool
    why: str


def _most_visual(config: Config, policy: Policy) -> _Most:
    square = _square(policy)
    picture = config.model.max_pixels // square if config.model.max_pixels is not None else None
    video = config.video
    if video != VideoConfig():
        times = video.max_frames / 2
        each = min((video.max_pixels or 768 * square), (video.total_pixels or 115_200 * square) / times) / square
        if times * each > (picture or 0):
            why = "the longest clip that video.max_frames and video.max_pixels allow"
            return _Most(tokens=round(times * each), area=each * square, clip=True, why=why)
    if picture is None:
        why = "assumed, since model.max_pixels is not set"
        return _Most(tokens=ASSUMED_VISUAL, area=math.inf, clip=False, why=why)
    why = "the largest picture that model.max_pixels allows"
    return _Most(tokens=picture, area=picture * square, clip=False, why=why)


def _square(policy: Policy) -> int:
    """Pixels of a visual token."""
    return int(int(policy.config.vision_config.patch_size) * policy.family.merge_size(policy.config)) ** 2
