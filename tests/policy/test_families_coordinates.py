"""Boxes and points between the original picture and what each family speaks, through its own processor's resizing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmrl.policy.coordinates import written
from mmrl.policy.families import FAMILIES
from mmrl.policy.forms import target_text
from mmrl.policy.load import LoadedModel
from mmrl.policy.render import Renderer
from mmrl.rewards.catalog import REWARDS
from mmrl.types import Answer, Completion, MediaView, Prompt
from tests import toy

SIZES = ((56, 56), (120, 90), (31, 33), (5, 7), (300, 20), (19, 260), (701, 399))  # odd, tiny, elongated


def view_of(model: LoadedModel, width: int, height: int, folder: Path) -> tuple[MediaView, Prompt]:
    path = folder / f"{width}x{height}.png"
    Image.fromarray(np.full((height, width, 3), 128, dtype=np.uint8)).save(path)
    [prompt], dropped = Renderer(model.processor, model.policy.family, model.policy.config).render(
        [toy.choice_sample(f"{width}x{height}", [path])]
    )
    assert not dropped
    return prompt.views[0], prompt


@pytest.mark.parametrize(("width", "height"), SIZES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_edges_map_to_edges_and_points_round_trip(
    family: str, width: int, height: int, family_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    model = family_models[family]
    view, prompt = view_of(model, width, height, tmp_path)
    assert (view.width, view.height) == (width, height)
    assert view.to_spoken(width, height) == pytest.approx((view.spoken_width, view.spoken_height))
    assert view.to_spoken(0, 0) == (0, 0)
    x, y = width * 0.3, height * 0.8
    assert view.to_original(*view.to_spoken(x, y)) == pytest.approx((x, y))
    assert view.to_spoken(*view.to_original(7.0, 3.0)) == pytest.approx((7.0, 3.0))
    fixed = {"0-1000": 1000, "0-1": 1}.get(FAMILIES[family].coordinates)
    if fixed is not None:
        assert (view.spoken_width, view.spoken_height) == (fixed, fixed)
    else:
        assert prompt.vision is not None
        _, rows, columns = prompt.vision.grids[0]
        assert (view.spoken_width, view.spoken_height) == (columns * 14, rows * 14)


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(120, 90, (112, 84)), (5, 7, (56, 84)), (300, 20, (308, 28))]
)
def test_qwen2_5_vl_speaks_the_size_after_smart_resize(
    width: int, height: int, expected: tuple[int, int], family_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    """120 × 90: to multiples of 28. 5 × 7: enlarged until it has 56² pixels. 300 × 20: 28 is the least side."""
    view, _ = view_of(family_models["qwen2_5_vl"], width, height, tmp_path)
    assert (view.spoken_width, view.spoken_height) == expected


def test_more_pixels_than_allowed_shrink_what_is_spoken(family_models: dict[str, LoadedModel], tmp_path: Path) -> None:
    """The grid that was used counts, not the defaults: 400 × 200 with at most 28² · 8 pixels is 112 × 56."""
    path = tmp_path / "wide.png"
    Image.new("RGB", (400, 200)).save(path)
    model = family_models["qwen2_5_vl"]
    renderer = Renderer(model.processor, model.policy.family, model.policy.config, max_pixels=28 * 28 * 8)
    [prompt], _ = renderer.render([toy.choice_sample("wide", [path])])
    assert (prompt.views[0].spoken_width, prompt.views[0].spoken_height) == (112, 56)
    assert prompt.views[0].to_original(56, 28) == (200, 100)


def test_all_families_mean_the_same_place(family_models: dict[str, LoadedModel], tmp_path: Path) -> None:
    """The middle of the left half of a 120 × 90 picture: (250, 500) in thousandths, (28, 42) of 112 × 84 pixels."""
    spoken = {name: view_of(model, 120, 90, tmp_path)[0].to_spoken(30, 45) for name, model in family_models.items()}
    expected = dict.fromkeys(("qwen2_vl", "qwen3_vl", "qwen3_5"), (250.0, 500.0))
    expected |= {"qwen2_5_vl": (28.0, 42.0), "lfm2_vl": (0.25, 0.5)}
    assert {name: spoken[name] for name in expected} == expected


# Of a 120 × 90 picture, in the space of the answer; then what each family writes.
ANSWERS = [
    (
        Answer(type="box", value=(30, 45, 61, 90)),
        {
            "qwen2_vl": "[250, 500, 508, 1000]",
            "qwen2_5_vl": "[28, 42, 57, 84]",
            "qwen3_vl": "[250, 500, 508, 1000]",
            "lfm2_vl": "[0.25, 0.5, 0.508, 1]",
        },
    ),
    (
        Answer(type="point", value=(0.5, 0.1), space="unit"),
        {"qwen2_vl": "[500, 100]", "qwen2_5_vl": "[56, 8]", "qwen3_vl": "[500, 100]", "lfm2_vl": "[0.5, 0.1]"},
    ),
    (
        Answer(type="boxes", value=((0, 0, 100, 500), (10, 10, 1000, 1000)), space="norm1000"),
        {
            "qwen2_vl": "[[0, 0, 100, 500], [10, 10, 1000, 1000]]",
            "qwen2_5_vl": "[[0, 0, 11, 42], [1, 1, 112, 84]]",
            "qwen3_vl": "[[0, 0, 100, 500], [10, 10, 1000, 1000]]",
            "lfm2_vl": "[[0, 0, 0.1, 0.5], [0.01, 0.01, 1, 1]]",
        },
    ),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS, ids=["box", "point", "boxes"])
@pytest.mark.parametrize("family", FAMILIES)
def test_cold_starts_write_what_rewards_read(
    family: str, answer: Answer, expected: dict[str, str], family_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    """The target in the model's coordinates is nearly worth the full reward: rounding is all it loses."""
    _, prompt = view_of(family_models[family], 120, 90, tmp_path)
    sample = replace(prompt.sample, answer=answer)
    target = target_text(sample, "answer", "", prompt.views)
    assert target == f"<answer>{expected['qwen3_vl' if family == 'qwen3_5' else family]}</answer>"
    name = {"box": "iou", "boxes": "iou_set", "point": "point_in_box"}[answer.type]
    if name == "point_in_box":
        sample = replace(sample, answer=Answer(type="box", value=(58, 6, 62, 12)))
    score = REWARDS[name].function(Completion(text=target, views=prompt.views), sample)
    assert score.value > 0.9


def test_a_box_that_rounding_would_close_keeps_an_area() -> None:
    view = MediaView(width=4000, height=4000, spoken_width=1000, spoken_height=1000)
    assert written((8, 8, 9, 9), "pixels", view) == [2, 2, 3, 3]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    family=st.sampled_from(list(FAMILIES)),
)
def test_any_size_round_trips_in_order(
    width: int, height: int, x: float, y: float, family: str, family_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    """Any picture whose sides are within 1 : 200. A point further right is further right in what is spoken."""
    if max(width, height) / min(width, height) > 180:
        return
    view, _ = view_of(family_models[family], width, height, tmp_path)
    point = (x * width, y * height)
    spoken = view.to_spoken(*point)
    assert view.to_original(*spoken) == pytest.approx(point, abs=1e-6)
    assert 0 <= spoken[0] <= view.spoken_width * (1 + 1e-9)
    further = view.to_spoken(point[0] + 1, point[1] + 1)
    assert further[0] > spoken[0]
    assert further[1] > spoken[1]
