"""Properties over generated gold answers: whatever the data set holds, the right answer wins and reads as itself."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmrl.errors import ConfigError
from mmrl.rewards.catalog import score
from mmrl.rewards.coordinates import read_boxes, read_point
from mmrl.rewards.gold import gold_answer, gold_completion
from mmrl.rewards.options import named_options
from mmrl.rewards.quantity import read_quantity
from mmrl.rewards.spans import read_spans, span_iou, union_iou
from mmrl.types import MediaView
from tests.rewards.world import said, sample

FAST = settings(max_examples=200, deadline=None, derandomize=True)
COORDINATES = st.floats(min_value=0, max_value=4000, allow_nan=False).map(lambda x: round(x, 3))
BOXES = st.tuples(COORDINATES, COORDINATES, st.floats(1, 900), st.floats(1, 900)).map(
    lambda b: (b[0], b[1], round(b[0] + b[2], 3), round(b[1] + b[3], 3))
)
SPANS = st.tuples(st.floats(0, 5000), st.floats(0.1, 500)).map(lambda s: (round(s[0], 2), round(s[0] + s[1], 2)))
VIEW = MediaView(width=640, height=427, spoken_width=644.0, spoken_height=420.0)


@FAST
@given(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30),
    st.sampled_from([None, "m", "%", "chairs"]),
)
def test_any_number_reads_as_itself(value: float, unit: str | None) -> None:
    assume(value == 0 or abs(value) > 1e-30)
    s = sample("number", value, unit=unit)
    quantity = read_quantity(gold_answer(s))
    assert quantity is not None
    assert quantity.value == pytest.approx(value, rel=1e-12)
    for name in ("number", "relative", "mra"):
        assert score(name, gold_completion(s), s).value == pytest.approx(1.0)


@FAST
@given(st.integers(0, 999))
def test_numbers_in_words_read_as_numbers(value: int) -> None:
    ones = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    small = (ones + "seventeen eighteen nineteen").split()
    tens = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

    def spelled(n: int) -> str:
        if n < 20:
            return small[n]
        if n < 100:
            return tens[n // 10] + (f"-{small[n % 10]}" if n % 10 else "")
        return f"{small[n // 100]} hundred" + (f" and {spelled(n % 100)}" if n % 100 else "")

    for text in (spelled(value), f"There are {spelled(value)} of them.", f"{value:,}", f" {value} "):
        quantity = read_quantity(text)
        assert quantity is not None, text
        assert quantity.value == value, text


@FAST
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_two_different_numbers_are_none(a: int, b: int) -> None:
    assume(a != b)
    for text in (
        f"{a} or {b}",
        f"{a}, {b}",
        f"between {a} and {b}",
        f"{a}-{b}",
        f"{a}; {b}",
        f"[{a}, {b}]",
        f"{a} = {b}",
    ):
        assert read_quantity(text) is None, text


@FAST
@given(BOXES)
def test_any_box_in_any_writing_is_the_box(box: tuple[float, float, float, float]) -> None:
    x1, y1, x2, y2 = box
    label = json.dumps([{"bbox_2d": list(box), "label": "a cat"}])
    for text in (
        str(list(box)),
        str(box),
        f"{x1},{y1},{x2},{y2}",
        f"<|box_start|>({x1},{y1}),({x2},{y2})<|box_end|>",
        f"```json\n{label}\n```",
        f"The cat is at {list(box)}.",
    ):
        found = read_boxes(text)
        assert found is not None, text
        assert [one.box for one in found] == [box], text
    s = sample("box", box)
    for views in ((), (VIEW,)):
        assert score("iou", gold_completion(s, views), s).value == pytest.approx(1.0, abs=1e-3)
    assert score("iou", said(f"[{x2}, {y2}, {x1}, {y1}]"), s).value == 0.0


@FAST
@given(COORDINATES, COORDINATES)
def test_any_point_in_any_writing_is_the_point(x: float, y: float) -> None:
    for text in (
        f"[{x}, {y}]",
        f"({x}, {y})",
        f"{x}, {y}",
        json.dumps({"point_2d": [x, y]}),
        f"x={x}, y={y}",
        f"click ({x},{y})",
    ):
        assert read_point(text) == (x, y), text


@FAST
@given(SPANS, SPANS)
def test_spans_read_as_themselves_and_iou_is_symmetric(a: tuple[float, float], b: tuple[float, float]) -> None:
    for text in (f"{a[0]} to {a[1]}", f"{a[0]}s - {a[1]}s", str(list(a)), json.dumps({"start": a[0], "end": a[1]})):
        assert read_spans(text) == [a], text
    assert read_spans(str([list(a), list(b)])) == [a, b]
    assert span_iou(a, b) == span_iou(b, a)
    assert union_iou([a], [b]) == pytest.approx(span_iou(a, b))
    assert union_iou([a, b], [b, a, a]) == pytest.approx(1.0)
    s = sample("spans", (a, b))
    assert score("spans_iou", gold_completion(s), s).value == pytest.approx(1.0)


WORDS = st.text(alphabet="abcdefgh xyz0123456789", min_size=1, max_size=12).map(lambda t: " ".join(t.split()))


@FAST
@given(st.lists(WORDS, min_size=2, max_size=8, unique=True), st.data())
def test_every_option_is_named_by_its_letter_and_by_its_letter_with_its_text(
    texts: list[str], data: st.DataObject
) -> None:
    assume(all(len(text) > 1 for text in texts))
    place = data.draw(st.integers(0, len(texts) - 1))
    letter = "ABCDEFGH"[place]
    s = sample("choice", letter, choices=tuple(texts))
    for answer in (letter, f"({letter})", f"{letter}. {texts[place]}", f"{letter}: {texts[place]}", texts[place]):
        assert named_options(answer, s) == {letter}, answer
    other = texts[(place + 1) % len(texts)]
    named = named_options(f"{letter}. {other}", s)
    assert named != {letter} or f" {other} " in f" {texts[place]} "


@pytest.mark.parametrize("kind", ["F32", "BF16"])
def test_bmas_reads_the_input_embeddings_of_a_model_folder(tmp_path: Path, kind: str) -> None:
    """Embeddings of red, car, bus: [1, 0], [0.6, 0.8], [0.8, 0.6]; "red bus" for "red car": rows max 1 and 0.96."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"red": 0, "car": 1, "bus": 2, "?": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    rows = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6], [0, 0]], dtype=np.float32)
    raw = rows.tobytes() if kind == "F32" else (rows.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    entry = {"dtype": kind, "shape": [4, 2], "data_offsets": [0, len(raw)]}
    header = json.dumps({"model.embed_tokens.weight": entry}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + raw)
    s = sample("text", "red car")
    assert score("bmas", said("red car"), s, model=str(tmp_path)).value == pytest.approx(1.0, abs=1e-6)
    assert score("bmas", said("red bus"), s, model=str(tmp_path)).value == pytest.approx(0.98, abs=2e-3)
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        score("bmas", said("red bus"), s, model=str(tmp_path / "nowhere"))
