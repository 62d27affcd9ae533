"""How large a run's prompts are: of its samples; of some that its recipe would draw; or, without either, assumed."""

from __future__ import annotations

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
from mmrl.types import Sample

EXAMPLES = 24  # prompts that are rendered to learn their sizes
CLIP_EXAMPLES = 4  # … where they show clips
ASSUMED_VISUAL = 1280  # tokens, where neither samples nor the config tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What is known of a run's prompts."""

    shown: list[Shown]
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
            if shown := _rendered(config, policy, processor, samples):
                text = f"{len(shown)} of {manifest}'s samples, rendered"
                return Prompts(shown=shown, source=text, samples=len(samples))
        elif config.data.recipe is not None:
            drawn = _drawn(config, policy, processor, config.data.recipe)
            if drawn is not None:
                return drawn
    notes = []
    if not text_tokens:
        notes.append(f"the samples are not here: {TEXT_TOKENS} text tokens a prompt are assumed (--text-tokens)")
    if visual_tokens < 0:
        visual_tokens, why = _most_visual(config, policy)
        notes.append(f"the samples are not here: {visual_tokens} visual tokens a prompt, {why} (--visual-tokens)")
    merge = policy.family.merge_size(policy.config)
    assumed = Shown.assumed(text=text_tokens or TEXT_TOKENS, visual=visual_tokens, merge=merge)
    return Prompts(shown=[assumed], source="assumed", notes=tuple(notes))


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
        shown = _rendered(config, policy, processor, read_manifest(str(manifest)))
    if not shown:
        return None
    return Prompts(shown=shown, source=f"{len(shown)} samples that {recipe} draws, rendered", samples=samples)


def _rendered(config: Config, policy: Policy, processor: Any, samples: Sequence[Sample]) -> list[Shown]:
    clips = any(media.type != "image" for sample in samples[:EXAMPLES] for media in sample.media)
    most = CLIP_EXAMPLES if clips else EXAMPLES
    renderer = build.build_renderer(config, LoadedModel(policy=policy, processor=processor))
    try:
        prompts, _ = renderer.render(samples[:: max(1, len(samples) // most)][:most])
    finally:
        renderer.close()
    return [Shown.of(prompt) for prompt in prompts]


def _most_visual(config: Config, policy: Policy) -> tuple[int, str]:
    """(visual tokens of a prompt, why)."""
    square = (int(policy.config.vision_config.patch_size) * policy.family.merge_size(policy.config)) ** 2
    picture = config.model.max_pixels // square if config.model.max_pixels is not None else None
    video = config.video
    if video != VideoConfig():
        each = (video.max_pixels or 768 * square) / square
        clip = min(video.max_frames / 2 * each, (video.total_pixels or 115_200 * square) / square)
        if clip > (picture or 0):
            return round(clip), "the longest clip that video.max_frames and video.max_pixels allow"
    if picture is None:
        return ASSUMED_VISUAL, "assumed, since model.max_pixels is not set"
    return picture, "the largest picture that model.max_pixels allows"
