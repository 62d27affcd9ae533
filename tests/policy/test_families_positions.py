"""Rotary positions: worked numbers, transformers' where it is right, and where it is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmrl.policy.families import FAMILIES
from mmrl.policy.grid_positions import Run, grid_positions
from mmrl.policy.load import LoadedModel
from mmrl.types import Prompt
from tests.policy.prompts import Image, Shown, Video, prompt_of

ROTARY = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def test_text_counts_up_and_a_picture_spans_its_grid() -> None:
    """Two words, a picture of 2 × 3 tokens, two words: 0 1 | from 2, rows and columns | 5 6."""
    found = grid_positions(10, [Run(first=2, times=(0,), height=2, width=3)])
    assert found.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]


def test_text_follows_the_longest_axis() -> None:
    """A clip of 3 grid times 2 apart, 1 × 2 tokens each, after one word: its times reach 5, so text goes on at 6."""
    found = grid_positions(9, [Run(first=1, times=(0, 2, 4), height=1, width=2)])
    assert found.tolist() == [
        [0, 1, 1, 3, 3, 5, 5, 6, 7],
        [0, 1, 1, 1, 1, 1, 1, 6, 7],
        [0, 1, 2, 1, 2, 1, 2, 6, 7],
    ]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3)),
        max_size=4,
    ),
    st.integers(0, 3),
)
def test_tokens_after_a_run_lie_beyond_all_before(items: list[tuple[int, int, int, int, int]], rest: int) -> None:
    """Gaps of text, grids of any size, any step of time: what follows begins 1 beyond the maximum so far."""
    runs, at = [], 0
    for gap, times, height, width, step in items:
        runs.append(Run(first=at + gap, times=tuple(step * k for k in range(times)), height=height, width=width))
        at = runs[-1].stop
    found = grid_positions(at + rest + 1, runs)
    for run in runs:
        if run.stop < found.shape[1]:
            assert int(found[:, run.stop].min()) == int(found[:, : run.stop].max()) + 1
    text = [i for i in range(found.shape[1]) if not any(run.first <= i < run.stop for run in runs)]
    assert all(len(set(found[:, i].tolist())) == 1 for i in text)


def hugging_face(model: LoadedModel, prompt: Prompt) -> Tensor:
    """What transformers makes of the prompt."""
    config, vision = model.policy.config, prompt.vision
    assert vision is not None
    ids = torch.tensor([prompt.token_ids])
    types = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
    by_kind = {k: [g for g, of in zip(vision.grids, vision.kinds, strict=True) if of == k] for k in ("image", "video")}
    inputs: dict[str, Any] = {f"{k}_grid_thw": torch.tensor(grids) for k, grids in by_kind.items() if grids}
    seconds = [s for s, kind in zip(vision.seconds_per_grid, vision.kinds, strict=True) if kind == "video"]
    if seconds and model.policy.family.name == "qwen2_5_vl":
        inputs["second_per_grid_ts"] = torch.tensor(seconds)
    inner: Any = model.policy.model.model
    positions, _ = inner.get_rope_index(ids, mm_token_type_ids=types, **inputs)
    return torch.as_tensor(positions[:, 0])


@pytest.mark.parametrize("family", ROTARY)
@pytest.mark.parametrize(
    "shown", [[Image(2, 3)], [Image(1, 4), Image(3, 1), Image(2, 2)], [Video(2, 2, 3, 1.0)]], ids=["1", "3", "clip"]
)
def test_positions_are_transformers_where_media_are_no_longer_than_wide(
    family: str, shown: list[Shown], family_models: dict[str, LoadedModel]
) -> None:
    model = family_models[family]
    prompt = prompt_of("p", shown, model)
    assert torch.equal(model.policy.family.prompt_positions(prompt, model.policy.config), hugging_face(model, prompt))


@pytest.mark.parametrize("family", ROTARY)
def test_positions_after_a_long_clip(family: str, family_models: dict[str, LoadedModel]) -> None:
    """A clip of 5 grid times, 1 × 2 tokens each, 1.5 seconds apart, then text.

    Qwen2-VL counts times 0 … 4, Qwen2.5-VL half seconds 0 3 6 9 12; text goes on at 5 and at 13 from the clip's start.
    transformers 5 lets it go on at 2: inside the clip. Qwen3-VL shows frames one by one: both agree.
    """
    model = family_models[family]
    prompt = prompt_of("p", [Video(5, 1, 2, 1.5)], model)
    ours = FAMILIES[family].prompt_positions(prompt, model.policy.config)
    theirs = hugging_face(model, prompt)
    stop = prompt.media_slots[-1][1]
    assert torch.equal(ours[:, :stop], theirs[:, :stop])
    if family == "qwen3_vl":
        assert torch.equal(ours, theirs)
        return
    start = int(ours[0, prompt.media_slots[0][0]])
    assert ours[:, stop].tolist() == [start + {"qwen2_vl": 5, "qwen2_5_vl": 13}[family]] * 3
    assert theirs[:, stop].tolist() == [start + 2] * 3
