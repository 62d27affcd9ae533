"""Our positions against those of the real vLLM, where it is installed: `pip install vllm`, or its CPU build."""

from __future__ import annotations

import importlib
import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmrl.policy.load import LoadedModel
from mmrl.types import Prompt
from tests.policy.prompts import Image, Shown, Video, prompt_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

CLASSES = {
    "qwen2_vl": ("qwen2_vl", "Qwen2VLForConditionalGeneration"),
    "qwen2_5_vl": ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
    "qwen3_vl": ("qwen3_vl", "Qwen3VLForConditionalGeneration"),
}
FRAME_RATES = (1.0, 2.0, 3.0, 0.7, 29.97, 23.976, 7.3)


def vllm_positions(model: LoadedModel, prompt: Prompt) -> tuple[Any, int]:
    """What vLLM's model class makes of the prompt's tokens and media, without its weights."""
    file, name = CLASSES[model.policy.family.name]
    module = importlib.import_module(f"vllm.model_executor.models.{file}")
    cls = getattr(module, name)
    vision = prompt.vision
    assert vision is not None
    features, first = [], 0
    for grid, kind, seconds in zip(vision.grids, vision.kinds, vision.seconds_per_grid, strict=True):
        framed = kind == "video" and model.policy.family.run_per_time
        runs = grid[0] if framed else 1
        slots = prompt.media_slots[first : first + runs]
        # Qwen3-VL counts the marks and times between frames as part of a clip, and looks for the frames itself.
        offset, length = slots[0][0] - (1 if framed else 0), slots[-1][1] - slots[0][0]
        data: dict[str, Any] = {f"{kind}_grid_thw": SimpleNamespace(data=torch.tensor(grid))}
        if kind == "video" and file == "qwen2_5_vl":  # only its processor hands them on
            data["second_per_grid_ts"] = SimpleNamespace(data=torch.tensor(seconds))
        position = SimpleNamespace(offset=offset, length=length, is_embed=None)
        features.append(SimpleNamespace(modality=kind, data=data, mm_position=position))
        first += runs
    fake = cls.__new__(cls)
    torch.nn.Module.__init__(fake)
    fake.config = model.policy.config
    positions, delta = fake.get_mrope_input_positions(list(prompt.token_ids), features)
    return positions, int(delta)


@pytest.mark.parametrize("family", CLASSES)
@pytest.mark.parametrize(
    "shown",
    [
        [Image(2, 3)],
        [Image(1, 4), Image(3, 1), Image(2, 2)],
        *([Video(9, 1, 2, 2 / rate)] for rate in FRAME_RATES),
        [Image(2, 2), Video(3, 2, 3, 1.0), Video(6, 1, 1, 0.4)],
        [Video(1, 2, 2), Image(2, 3)],
    ],
    ids=str,
)
def test_positions_are_vllm_s(family: str, shown: list[Shown], family_models: dict[str, LoadedModel]) -> None:
    model = family_models[family]
    prompt = prompt_of("p", shown, model)
    theirs, delta = vllm_positions(model, prompt)
    ours = model.policy.family.prompt_positions(prompt, model.policy.config)
    assert ours.tolist() == theirs.tolist()
    assert int(ours.max()) + 1 - len(prompt.token_ids) == delta  # where its completion goes on
