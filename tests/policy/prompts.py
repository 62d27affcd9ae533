"""Prompts made by hand, for any family: random pixels in the places where its renderer would put them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from mmrl.policy.load import LoadedModel
from mmrl.types import Prompt, RolloutGroup, VisionInputs
from tests import toy


@dataclass(frozen=True)
class Image:
    """A picture of height × width visual tokens; equal seeds are equal pictures."""

    height: int
    width: int
    seed: int = 0


@dataclass(frozen=True)
class Video:
    """A clip of so many grid times, each height × width visual tokens."""

    times: int
    height: int
    width: int
    seconds: float = 1.0  # between grid times
    seed: int = 0


Shown = Image | Video

# Per kind: what each of its prompts shows. In "mixed" one picture is shown by two prompts.
KINDS: dict[str, list[list[Shown]]] = {
    "image": [[Image(2, 2)], [Image(3, 5)]],
    "several images": [[Image(2, 2), Image(2, 3)], [Image(1, 4, 1), Image(2, 2, 2), Image(1, 4, 1)]],
    "video": [[Video(3, 2, 2, 1.5)], [Video(2, 2, 3, 0.5)]],
    "clip of one time": [[Video(1, 2, 2)], [Video(1, 2, 3), Image(3, 2)]],
    "text": [[], []],
    "mixed": [[Image(2, 2)], [], [Video(4, 1, 2, 2.0), Image(2, 3)], [Image(2, 2)]],
}


def kinds(model_media: Sequence[str]) -> list[str]:
    """The kinds a family can be shown."""
    return [kind for kind in KINDS if "video" in model_media or kind != "video"]


def prompts_of(kind: str, model: LoadedModel) -> list[Prompt]:
    """The prompts of a kind; clips become pictures for a family that is shown none."""
    shown = KINDS[kind]
    if "video" not in model.policy.family.media:
        shown = [[Image(m.height, m.width, m.seed) if isinstance(m, Video) else m for m in one] for one in shown]
    return [prompt_of(f"{kind}-{i}", one, model, text=4 + 3 * i) for i, one in enumerate(shown)]


def groups_of(kind: str, model: LoadedModel, *, size: int = 4) -> list[RolloutGroup]:
    """Random completions of each prompt of a kind, vision placeholders among their tokens."""
    groups = [toy.random_group(p, size=size, seed=i) for i, p in enumerate(prompts_of(kind, model))]
    placeholder = model.policy.config.image_token_id
    first = groups[0].rollouts[0]
    written = toy.rollout([30, placeholder, 31], index=first.index)  # a placeholder in a completion is text
    return [RolloutGroup(prompt=groups[0].prompt, rollouts=(written, *groups[0].rollouts[1:])), *groups[1:]]


def prompt_of(id_: str, shown: Sequence[Shown], model: LoadedModel, *, text: int = 5) -> Prompt:
    """Some text, each item between its marks, and some text again."""
    family, config = model.policy.family, model.policy.config
    merge = family.merge_size(config)
    random = torch.Generator().manual_seed(len(id_))
    start, end = _marks(model)
    token_ids = torch.randint(40, 300, (text,), generator=random).tolist()
    slots: list[tuple[int, int]] = []
    patches, grids, seconds, digests = [], [], [], []
    kinds_: list[Literal["image", "video"]] = []
    for item in shown:
        times = item.times if isinstance(item, Video) else 1
        grid = (times, item.height * merge, item.width * merge)
        pixels = torch.randn(
            grid[0] * grid[1] * grid[2],
            _values(model),
            generator=torch.Generator().manual_seed(hash((item.seed, *grid)) % 2**31),
        )
        placeholder = config.video_token_id if isinstance(item, Video) else config.image_token_id
        frames = times if family.run_per_time else 1
        for frame in range(frames):
            if isinstance(item, Video) and family.run_per_time:
                stamp = f"<{frame * item.seconds:.1f} seconds>"
                token_ids.extend(model.processor.tokenizer(stamp, add_special_tokens=False).input_ids)
            count = times // frames * item.height * item.width
            token_ids.append(start)
            slots.append((len(token_ids), len(token_ids) + count))
            token_ids.extend([placeholder] * count + [end])
        patches.append(pixels)
        grids.append(grid)
        kinds_.append("video" if isinstance(item, Video) else "image")
        seconds.append(item.seconds if isinstance(item, Video) else 0.0)
        digests.append(hashlib.blake2b(pixels.numpy().tobytes() + repr(grid).encode()).hexdigest())
    token_ids.extend(torch.randint(40, 300, (3,), generator=random).tolist())
    vision = None
    if shown:
        vision = VisionInputs(
            patches=torch.cat(patches),
            grids=tuple(grids),
            kinds=tuple(kinds_),
            seconds_per_grid=tuple(seconds),
            digests=tuple(digests),
        )
    return Prompt(
        sample=toy.choice_sample(id_), text="", token_ids=tuple(token_ids), media_slots=tuple(slots), vision=vision
    )


def _values(model: LoadedModel) -> int:
    """Values of one patch."""
    vision = model.policy.config.vision_config
    return int(3 * getattr(vision, "temporal_patch_size", 1) * vision.patch_size**2)


def _marks(model: LoadedModel) -> tuple[int, int]:
    """Ids of the tokens that enclose a picture."""
    config, tokenizer = model.policy.config, model.processor.tokenizer
    if hasattr(config, "vision_start_token_id"):
        return config.vision_start_token_id, config.vision_end_token_id
    return tokenizer.convert_tokens_to_ids("<|image_start|>"), tokenizer.convert_tokens_to_ids("<|image_end|>")
