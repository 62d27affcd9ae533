"""A prompt as vLLM's engine takes it after its own preprocessing, which is thereby left out.

Ours go in as they are: token ids, patches, grids, and the runs of visual tokens. vLLM's processor is asked one thing
only: how the named tensors of a model split into items.

Families: those whose patches and grids vLLM takes under the names of the Qwen processors. Whether a clip has a run of
visual tokens per grid time is theirs to say: counting runs does not tell where a clip has one grid time.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from mmrl.policy.family import Family
from mmrl.rollout.asked import Asked
from mmrl.types import VisionInputs

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")

_NAMES = {"image": ("pixel_values", "image_grid_thw"), "video": ("pixel_values_videos", "video_grid_thw")}


def engine_input(asked: Asked, family: Family, processor: Any) -> Any:
    """vLLM's `EngineInput`. `processor`: vLLM's multimodal processor of the model."""
    from vllm.inputs import mm_input, tokens_input

    if asked.vision is None:
        return tokens_input(list(asked.token_ids))
    hashes: dict[str, list[str]] = {}
    ranges: dict[str, list[Any]] = {}
    for kind, name, place in zip(asked.vision.kinds, _names(asked.vision), _ranges(asked, family), strict=True):
        hashes.setdefault(kind, []).append(name)
        ranges.setdefault(kind, []).append(place)
    return mm_input(list(asked.token_ids), _items(asked.vision, processor), hashes, ranges)


def media_features(asked: Asked, family: Family, processor: Any) -> list[Any]:
    """The prompt's items as vLLM's models read them when they compute positions."""
    if asked.vision is None:
        return []
    items = {kind: iter(found) for kind, found in _items(asked.vision, processor).items()}
    return [
        SimpleNamespace(modality=kind, data=next(items[kind]), mm_position=place)
        for kind, place in zip(asked.vision.kinds, _ranges(asked, family), strict=True)
    ]


def _items(vision: VisionInputs, processor: Any) -> Any:
    from vllm.multimodal.inputs import MultiModalKwargsItems

    data: Any = {}
    shown = vision.items()
    for kind, (patches, grids) in _NAMES.items():
        chosen = [i for i, k in enumerate(vision.kinds) if k == kind]
        if not chosen:
            continue
        data[patches] = torch.cat([shown[i].patches for i in chosen])
        data[grids] = torch.tensor([shown[i].grid for i in chosen])
        if kind == "video":
            data["second_per_grid_ts"] = torch.tensor([vision.seconds_per_grid[i] for i in chosen])
    return MultiModalKwargsItems.from_hf_inputs(data, processor._get_mm_fields_config(data, {}))


def _names(vision: VisionInputs) -> list[str]:
    """Names under which vLLM keeps an item's features and what was computed from them. Positions depend on a clip's
    time as well, so it is part of the name: else a clip shown at another rate would find the keys of this one.
    """
    return [
        f"{digest}@{seconds!r}" if kind == "video" else digest
        for kind, digest, seconds in zip(vision.kinds, vision.digests, vision.seconds_per_grid, strict=True)
    ]


def _ranges(asked: Asked, family: Family) -> list[Any]:
    """Per item, where its visual tokens are. A clip with a run per grid time covers what stands between its runs,
    masked out, and begins with the mark before the first: there vLLM looks for its frames, also for a single one.
    """
    from vllm.multimodal.inputs import PlaceholderRange

    assert asked.vision is not None
    found = []
    slots = iter(asked.media_slots)
    for kind, (times, _, _) in zip(asked.vision.kinds, asked.vision.grids, strict=True):
        if not (kind == "video" and family.run_per_time):
            first, stop = next(slots)
            found.append(PlaceholderRange(offset=first, length=stop - first))
            continue
        own = [next(slots) for _ in range(times)]
        mark, stop = own[0][0] - 1, own[-1][1]
        visual = torch.zeros(stop - mark, dtype=torch.bool)
        for begin, end in own:
            visual[begin - mark : end - mark] = True
        found.append(PlaceholderRange(offset=mark, length=stop - mark, is_embed=visual))
    return found
