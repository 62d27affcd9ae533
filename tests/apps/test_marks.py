"""What is drawn on a picture or a time line, in pixels of the original and seconds."""

from __future__ import annotations

import pytest
from mmrl_apps.shared.marks import GOLD, gold_marks, marked_item, said_marks

from mmrl.types import Answer, Media, MediaView, Sample

VIEW = MediaView(width=200, height=100, spoken_width=1000, spoken_height=1000)
CLIP = MediaView(width=84, height=84, spoken_width=84, spoken_height=84, seconds=(0.0, 0.5), frames=(0, 12))


def test_a_gold_box_in_another_space_is_drawn_in_pixels():
    answer = Answer(type="boxes", value=((0.1, 0.2, 0.5, 1.0),), space="unit")
    (mark,) = gold_marks(answer, (200, 100))
    assert mark.who == GOLD
    assert mark.numbers == pytest.approx((20, 20, 100, 100))


def test_a_completion_speaks_its_models_space():
    answer = Answer(type="box", value=(0, 0, 10, 10))
    text = "<think>left of [1, 2, 3, 4]</think><answer>[100, 100, 500, 1000]</answer>"
    (mark,) = said_marks(text, who=3, answer=answer, view=VIEW)
    assert (mark.kind, mark.who, mark.label) == ("box", 3, "4")
    assert mark.numbers == pytest.approx((20, 10, 100, 100))


PICTURE, FILM = Media(type="image", path="a.png"), Media(type="video", path="a.mp4")


@pytest.mark.parametrize(
    ("answer", "media", "rewards", "item"),
    [
        ("box", (PICTURE, PICTURE), {}, 0),
        ("box", (PICTURE, PICTURE), {"t": [{"name": "format"}, {"name": "iou", "options": {"media": 1}}]}, 1),
        ("box", (PICTURE, PICTURE), {"default": [{"name": "iou", "options": {"media": 1}}]}, 1),
        ("box", (PICTURE, PICTURE), {"t": [{"name": "iou"}], "default": [{"options": {"media": 1}}]}, 0),
        ("box", (PICTURE,), {"t": [{"name": "iou", "options": {"media": 1}}]}, 0),  # the run would have refused it
        ("box", (PICTURE, PICTURE), {"t": [None, {"options": [1]}, {"options": {"media": "1"}}]}, 0),
        ("span", (PICTURE, FILM, FILM), {}, 1),
    ],
)
def test_places_are_on_the_item_that_the_rewards_look_at(answer, media, rewards, item):
    value = (1.0, 2.0) if answer == "span" else (0, 0, 10, 10)
    sample = Sample(id="s", task="t", question="?", answer=Answer(type=answer, value=value), media=media)
    assert marked_item(sample, rewards) == item


def test_without_a_view_the_text_speaks_the_answers_space():
    answer = Answer(type="point", value=(0.5, 0.5), space="unit")
    (mark,) = said_marks("<answer>(0.25, 0.5)</answer>", who=0, answer=answer, size=(80, 40))
    assert mark.numbers == pytest.approx((20, 20))


@pytest.mark.parametrize("said", ["no box", "[9, 9, 1, 1]", "[nan, 0, 1, 1]", "", "[" * 5000])
def test_what_is_no_place_is_not_drawn(said):
    assert said_marks(f"<answer>{said}</answer>", who=0, answer=Answer(type="box", value=(0, 0, 1, 1)), view=VIEW) == ()


def test_spans_are_seconds_and_a_reversed_one_is_none():
    answer = Answer(type="span", value=(1.0, 2.0))
    (mark,) = said_marks("<answer>0.5 to 1.5</answer>", who=0, answer=answer, view=CLIP)
    assert (mark.kind, mark.numbers) == ("span", (0.5, 1.5))
    assert said_marks("<answer>3 to 1</answer>", who=0, answer=answer, view=CLIP) == ()
    assert gold_marks(answer, (84, 84))[0].numbers == (1.0, 2.0)


def test_a_choice_draws_nothing():
    answer = Answer(type="choice", value="B")
    assert gold_marks(answer, (10, 10)) == ()
    assert said_marks("<answer>[1, 2, 3, 4]</answer>", who=0, answer=answer, view=VIEW) == ()


def test_without_an_answer_whatever_points_is_drawn():
    (box,) = said_marks("It is at [100, 100, 500, 1000].", who=0, view=VIEW)
    (span,) = said_marks("<answer>0:01 - 0:02</answer>", who=0, view=CLIP)
    assert (box.kind, span.kind) == ("box", "span")
