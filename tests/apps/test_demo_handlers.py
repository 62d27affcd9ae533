"""The demo without a browser: what stands on the page after each thing a visitor can do."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from mmrl_apps.demo.asking import Answered, Desk, Piece, Speaker, Started, Stopped
from mmrl_apps.demo.examples import Example, examples
from mmrl_apps.demo.models import Named, open_models
from mmrl_apps.demo.question import Form, question_of
from mmrl_apps.demo.reading import parts
from mmrl_apps.shared.guard import MediaGuard
from PIL import Image

from mmrl.data.manifest import read_manifest, validate_manifest
from mmrl.policy.render import Renderer
from mmrl.rollout.engine import Sampling
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.traces.reader import TraceReader
from mmrl.types import Answer, Media, Prompt, RolloutGroup, Sample
from tests import toy
from tests.apps.demo_setting import PlainRenderer, demo_of, last, scripted
from tests.clips import write_clip

BOXED = "<think>It is on the left.</think><answer>[10, 20, 30, 40]</answer>"
HOSTILE = (
    '<think></textarea><script>alert(1)</script></think><answer><img src=x onerror="alert(2)">${1+1}{{1}}</answer>'
)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An uploaded picture of 80 × 60 pixels."""
    (tmp_path / "uploaded").mkdir(exist_ok=True)
    path = tmp_path / "uploaded" / "cat.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)
    return path


def test_reasoning_and_answer_come_apart_and_the_box_is_drawn_in_the_picture_s_pixels(
    tmp_path: Path, picture: Path
) -> None:
    demo = demo_of(tmp_path, scripted(lambda sample, index: BOXED))
    page = last(demo, Form(question="Where is the cat?", kind="A box"), [picture])
    [pane] = page.panes
    assert (pane.reasoning, pane.answer, pane.note, pane.samples) == ("It is on the left.", "[10, 20, 30, 40]", "", "")
    assert page.drawing is not None
    assert 'viewBox="0 0 80 60"' in page.drawing
    assert "cat.png, 80 × 60" in page.drawing, "under the name it was uploaded with"
    assert re.search(r'<rect x="10\.0" y="20\.0" width="20\.0" height="20\.0"', page.drawing)
    assert "scripted has answered" in page.status


def test_a_span_is_drawn_on_the_clip_s_time_axis(tmp_path: Path) -> None:
    (tmp_path / "uploaded").mkdir()
    clip = write_clip(tmp_path / "uploaded" / "door.mp4", 16)
    demo = demo_of(tmp_path, scripted(lambda sample, index: "<answer>0.5 to 1.5</answer>"))
    page = last(demo, Form(question="When?", kind="A span of time"), [clip])
    assert page.drawing is not None
    assert "mm-timeline" in page.drawing
    assert "0.50–1.50 s" in page.drawing


def test_free_text_draws_boxes_but_takes_no_two_numbers_for_a_point(tmp_path: Path, picture: Path) -> None:
    said = iter(["<answer>3, 5</answer>", '<answer>[{"bbox_2d": [1, 2, 9, 8], "label": "dog"}]</answer>'])
    demo = demo_of(tmp_path, scripted(lambda sample, index: next(said)))
    first, second = (last(demo, Form(question="What?"), [picture]).drawing or "" for _ in range(2))
    assert "<svg" not in first
    assert "1 dog" in second


def test_what_a_model_writes_never_becomes_markup(tmp_path: Path, picture: Path) -> None:
    demo = demo_of(tmp_path, scripted(lambda sample, index: HOSTILE, name="<b>x</b>"))
    page = last(demo, Form(question="<i>What?</i>", samples=2, temperature=1.0), [picture])
    html = page.panes[0].samples + (page.drawing or "")
    for forbidden in ("<script", "<img src=x", "</textarea", "${", "{{"):
        assert forbidden not in html
    assert "&lt;script&gt;" in html
    assert page.panes[0].reasoning == "</textarea><script>alert(1)</script>", "the pane is a text field: text as it is"


def test_several_samples_are_counted_by_meaning(tmp_path: Path) -> None:
    answers = ["<answer>B</answer>", "<answer> green.</answer>", "<answer>A</answer>", "no idea"]
    demo = demo_of(tmp_path, scripted(lambda sample, index: answers[index]))
    form = Form(question="Which?", kind="One of the options", options="red\n\ngreen\nblue", samples=4, temperature=0.7)
    html = last(demo, form).panes[0].samples
    assert "<b>50 %</b> agree" in html
    rows = re.findall(r"<tr><td.*?</tr>", html, re.DOTALL)
    assert [re.sub(r"<[^>]+>|\s+", " ", row).split() for row in rows] == [
        ["B", "2", "1,", "2"],
        ["A", "1", "3"],
        ["no", "answer", "that", "counts", "1", "4"],
    ]


def test_two_models_answer_side_by_side_and_one_that_fails_leaves_the_other(tmp_path: Path, picture: Path) -> None:
    def fail(sample: Sample, index: int) -> str:
        raise RuntimeError("weights are broken")

    demo = demo_of(tmp_path, scripted(fail, name="trained"), scripted(lambda sample, index: BOXED, name="base"))
    page = last(demo, Form(question="Where?", kind="A box"), [picture])
    assert page.panes[0].note == "The model failed (RuntimeError: weights are broken)."
    assert page.panes[1].answer == "[10, 20, 30, 40]"
    again = last(demo, Form(question="Where?", kind="A box"), [picture])
    assert again.panes[1].answer == "[10, 20, 30, 40]"


def test_pieces_arrive_before_the_answer_is_finished(
    tmp_path: Path, picture: Path, tiny_model: toy.LoadedModel
) -> None:
    """A real model: its text grows token by token, and the last page is what it wrote."""
    speaker = real(tiny_model)
    question = question_of(
        Form(question="What is it?", max_tokens=24, samples=2, temperature=1.0, seed=3),
        [Media(type="image", path=str(picture))],
    )
    texts: dict[int, str] = {0: "", 1: ""}
    kinds = []
    for event in Desk([speaker]).ask(question, threading.Event()):
        kinds.append(type(event).__name__)
        if isinstance(event, Piece):
            texts[event.index] += event.text
    assert kinds[0] == "Started"
    assert kinds[-1] == "Answered"
    assert kinds.count("Piece") > 10
    [group] = speaker.engine.generate(speaker.renderer.render([question.sample])[0], question.sampling, step=3)
    assert [texts[0], texts[1]] == [rollout.completion.text for rollout in group.rollouts]


def test_the_same_seed_gives_the_same_completion_and_another_another(
    tmp_path: Path, picture: Path, tiny_model: toy.LoadedModel
) -> None:
    demo = demo_of(tmp_path, replace(real(tiny_model), answer_tag=""))
    form = Form(question="What is it?", max_tokens=12, temperature=1.5, seed=1)
    said = [last(demo, one, [picture]).panes[0].answer for one in (form, form, replace(form, seed=2))]
    assert said[0] == said[1] != said[2]


def test_stop_ends_the_writing_at_the_next_token(tiny_model: toy.LoadedModel) -> None:
    question = question_of(Form(question="What?", max_tokens=4000), [])
    stop = threading.Event()
    events = []
    for event in Desk([real(tiny_model)]).ask(question, stop):
        events.append(event)
        if isinstance(event, Started):
            stop.set()
    assert isinstance(events[-1], Stopped)
    assert len(events) < 10


def test_a_reader_that_leaves_frees_the_models_for_the_next(tiny_model: toy.LoadedModel) -> None:
    desk = Desk([real(tiny_model)])
    long = question_of(Form(question="What?", max_tokens=4000), [])
    reading = desk.ask(long, threading.Event())
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    short = question_of(Form(question="What?", max_tokens=2), [])
    assert type(list(desk.ask(short, threading.Event()))[-1]).__name__ == "Answered"


def test_questions_of_two_visitors_are_answered_one_after_the_other(tmp_path: Path) -> None:
    inside, most = 0, 0
    lock = threading.Lock()

    def script(sample: Sample, index: int) -> str:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.05)
        with lock:
            inside -= 1
        return f"<answer>{sample.question}</answer>"

    demo = demo_of(tmp_path, scripted(script))
    said: dict[str, str] = {}

    def visit(name: str) -> None:
        said[name] = last(demo, Form(question=f"I am {name}"), visitor=name).panes[0].answer

    threads = [threading.Thread(target=visit, args=(name,)) for name in ("ann", "bob", "cem")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {name: f"I am {name}" for name in ("ann", "bob", "cem")}
    assert most == 1


def test_an_exchange_is_kept_on_request_and_read_by_the_trace_reader(tmp_path: Path, picture: Path) -> None:
    demo = demo_of(
        tmp_path,
        scripted(lambda sample, index: BOXED, name="trained"),
        scripted(lambda sample, index: "?", name="base"),
    )
    assert "ask something first" in demo.keep("ann")
    last(demo, Form(question="Where?", kind="A box", seed=5), [picture])
    assert not (tmp_path / "kept").exists(), "nothing is kept that was not asked for"
    assert demo.keep("ann").startswith(f"Kept in {tmp_path / 'kept'}")
    assert demo.keep("ann").startswith("Already kept")
    last(demo, Form(question="And now?"), [picture], keep=True)
    demo.leave("ann")
    reader = TraceReader(tmp_path / "kept")
    assert reader.steps() == [0, 1]
    first, second = reader.read(0).groups
    assert first.rollouts[0].rollout.completion.text == BOXED
    assert [group.sample.metadata["model"] for group in (first, second)] == ["trained", "base"]
    assert first.sample.metadata["seed"] == 5
    assert first.sample.question == "Where?"
    assert first.views[0].width == 80
    assert first.sample.answer == Answer(type="boxes", value=()), "no answer that nobody knows"
    assert math.isnan(first.rollouts[0].total)
    assert first.dropped is not None
    assert first.dropped.reason == "asked in the demo"
    with Image.open(first.sample.media[0].path or "") as kept:
        assert kept.size == (80, 60), "the trace keeps its own copy"
    MediaGuard([tmp_path / "kept" / "data" / "exchanges.jsonl"]).check(first.sample.media[0])
    assert not validate_manifest(tmp_path / "kept" / "data" / "exchanges.jsonl").sound, "nobody trains on it unawares"


def test_a_kept_question_whose_answer_is_known_is_a_sample_again(tmp_path: Path, picture: Path) -> None:
    sample = Sample(
        id="a",
        task="box",
        question="Give the box.",
        media=(Media(type="image", path=str(picture)),),
        answer=Answer(type="box", value=(1.0, 2.0, 9.0, 8.0)),
    )
    demo = demo_of(tmp_path, scripted(lambda sample, index: BOXED), examples=[Example(origin="scenes", sample=sample)])
    chosen = demo.choose("ann", 0)
    assert not isinstance(chosen, str)
    last(demo, chosen[0], keep=True)
    [kept] = read_manifest(tmp_path / "kept" / "data" / "exchanges.jsonl")
    assert (kept.id, kept.question, kept.answer) == ("exchange-000000", "Give the box.", sample.answer)
    with Image.open(kept.media[0].path or "") as copy:
        assert copy.size == (80, 60)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("in the way")
    demo = demo_of(tmp_path, scripted(lambda sample, index: BOXED))
    page = last(demo, Form(question="What?"), keep=True)
    assert "could not be kept" in page.status
    assert page.panes[0].answer == "[10, 20, 30, 40]"


def test_an_example_fills_the_form_and_its_answer_is_drawn_until_the_question_is_changed(
    tmp_path: Path, picture: Path
) -> None:
    sample = Sample(
        id="a",
        task="box",
        question="Give the box.",
        media=(Media(type="image", path=str(picture)),),
        answer=Answer(type="box", value=(1.0, 2.0, 9.0, 8.0)),
    )
    demo = demo_of(tmp_path, scripted(lambda sample, index: BOXED), examples=[Example(origin="scenes", sample=sample)])
    chosen = demo.choose("ann", 0)
    assert not isinstance(chosen, str)
    form, html = chosen
    assert (form.question, form.kind) == ("Give the box.", "A box")
    assert "data:image/png" in html
    drawing = last(demo, form).drawing or ""
    assert "The known answer: <b>[1, 2, 9, 8]</b>" in drawing
    assert "The known answer" not in (last(demo, replace(form, question="Another one.")).drawing or "")
    assert demo.choose("ann", 7) == "There is no such example."
    assert "Nothing to look at yet" in demo.clear("ann")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (Form(question="  "), "There is no question yet"),
        (Form(question="x" * 4001), "4,001 characters"),
        (Form(question="?", kind="A song"), "Unknown kind of answer"),
        (Form(question="?", kind="One of the options", options="only"), "at least two options"),
        (Form(question="?", kind="A box"), "only be given about a picture"),
        (Form(question="?", samples=3), "would all be the same"),
        (Form(question="?", samples=1000), "Samples must be a number from 1 to 16"),
        (Form(question="?", temperature=float("nan")), "Temperature must be a number"),
        (Form(question="?", max_tokens=10**9), "Longest completion must be"),
        (Form(question="?", top_p=0), "Top-p must be above 0"),
        (Form(question="?", top_k=2.5), "Top-k must be a whole number"),
        (Form(question="?", seed=None), "Seed must be a number"),  # type: ignore[arg-type]
        (Form(question=["?"]), "The question must be text"),  # type: ignore[arg-type]
    ],
)
def test_a_form_that_cannot_be_asked_says_which_control_to_change(tmp_path: Path, form: Form, said: str) -> None:
    demo = demo_of(tmp_path, scripted(lambda sample, index: BOXED))
    assert said in last(demo, form).status


def test_a_question_with_the_model_s_own_marks_is_a_message(tmp_path: Path, tiny_model: toy.LoadedModel) -> None:
    demo = demo_of(tmp_path, real(tiny_model))
    page = last(demo, Form(question="What is <|image_pad|> <image>?", max_tokens=4))
    assert "the question marks image" in page.panes[0].note


def test_a_file_that_is_refused_is_said_and_not_asked_about(tmp_path: Path, picture: Path) -> None:
    picture.with_name("bad.png").write_bytes(b"no picture")
    asked: list[Sample] = []

    def script(sample: Sample, index: int) -> str:
        asked.append(sample)
        return BOXED

    demo = demo_of(tmp_path, scripted(script))
    html, said = demo.look("ann", [str(picture.with_name("bad.png"))])
    assert said.startswith("bad.png cannot be used: unknown format")
    assert "Nothing to look at yet" in html
    assert last(demo, Form(question="?"), [picture.with_name("bad.png")]).status == said
    assert asked == []
    assert "cat.png, 80 × 60" in demo.look("ann", [str(picture)])[0]


@pytest.mark.parametrize(
    ("text", "finished", "reasoning", "answer"),
    [
        ("<thi", False, "", ""),
        ("<think>so", False, "so", ""),
        ("<think>so</think><ans", False, "so", ""),
        ("<think>so</think><answer>4", False, "so", "4"),
        ("<think>so</think><answer>4</ans", False, "so", "4"),
        ("<think>so</think><answer>4</answer>", True, "so", "4"),
        ("1 < 2", False, "1 < 2", ""),
        ("just text", True, "just text", ""),
        ("<think>so</think><answer>[1, 2", True, "so", "[1, 2"),
    ],
)
def test_parts_of_an_unfinished_completion(text: str, finished: bool, reasoning: str, answer: str) -> None:
    found = parts(text, "answer", finished=finished)
    assert (found.reasoning, found.answer) == (reasoning, answer)


def test_a_form_without_tags_is_all_answer() -> None:
    assert parts(" four ", "", finished=True).answer == "four"


def test_the_worlds_give_examples_of_pictures_clips_and_several_pictures(tmp_path: Path) -> None:
    found = examples(tmp_path, config=None, run=None)
    kinds = {(example.origin, example.sample.answer.type) for example in found}
    assert {("scenes", "box"), ("scenes", "point"), ("clips", "span"), ("room", "number")} <= kinds
    assert max(len(example.sample.media) for example in found) > 1
    for example in found:
        question = question_of(
            Form(
                question=example.sample.question,
                kind=_name(example.sample),
                options="\n".join(example.sample.choices),
            ),
            example.sample.media,
            example=replace(example.sample, media=example.sample.media),
        )
        assert question.has_gold


def _name(sample: Sample) -> str:
    from mmrl_apps.demo.question import NAMES

    return NAMES[sample.answer.type]


def test_an_engine_that_cannot_stream_answers_at_once() -> None:
    class Plain:
        """Only what the edge asks of every engine."""

        def __init__(self) -> None:
            inner = ScriptedEngine(lambda sample, index: BOXED)
            self.generate: Callable[..., list[RolloutGroup]] = inner.generate
            self.load_weights = inner.load_weights

    speaker = Speaker(name="plain", engine=Plain(), renderer=PlainRenderer(), answer_tag="answer")
    events = list(Desk([speaker]).ask(question_of(Form(question="?"), []), threading.Event()))
    assert [type(event).__name__ for event in events] == ["Started", "Piece", "Answered"]


def real(model: toy.LoadedModel) -> Speaker:
    """A tiny model as the page has it."""
    renderer = Renderer(model.processor, model.policy.family, model.policy.config)
    engine = TransformersEngine(model.policy, model.processor.tokenizer, run_seed=0)
    return Speaker(name="tiny", engine=engine, renderer=renderer, answer_tag="answer")


def test_the_prompt_asks_for_the_kind_of_answer(tiny_model: toy.LoadedModel) -> None:
    question = question_of(Form(question="How many?", kind="A number"), [])
    [prompt], _ = real(tiny_model).renderer.render([question.sample])
    assert isinstance(prompt, Prompt)
    assert "give the number inside <answer>" in prompt.text
    assert isinstance(question.sampling, Sampling)


def test_an_answer_that_was_cut_is_shown_and_neither_counted_nor_drawn(tmp_path: Path, picture: Path) -> None:
    demo = demo_of(tmp_path, scripted(lambda sample, index: BOXED[:-3]))
    page = last(demo, Form(question="Where?", kind="A box", samples=2, temperature=1.0), [picture])
    assert page.panes[0].answer.startswith("[10, 20, 30, 40]")
    assert "no complete <answer>" in page.panes[0].note
    assert "none gave an answer that counts" in page.panes[0].samples
    assert "<rect" not in (page.drawing or "")


def test_models_outside_of_a_run_are_asked_for_reasoning_and_answer(tiny_folder: Path) -> None:
    from mmrl_apps.demo.models import Named, open_models

    with open_models([Named(given="tiny", path=str(tiny_folder))]) as opened:
        assert (opened.run, opened.device, opened.speakers[0].answer_tag) == (None, "cpu", "answer")
    with open_models([Named(given="tiny", path=str(tiny_folder))], mode="vanilla") as opened:
        assert opened.speakers[0].answer_tag == ""
        [prompt], _ = opened.speakers[0].renderer.render([question_of(Form(question="Who?"), []).sample])
        assert "and nothing else" in prompt.text


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_both_models_stream_with_vllm(tiny_folder: Path, tmp_path: Path):
    """The same model twice, so that both must say the same."""
    named = [Named(given=name, path=str(tiny_folder)) for name in ("trained", "base")]
    form = Form(question="What is it?", samples=2, max_tokens=12, seed=3, temperature=1.0)
    with open_models(named, engine_name="vllm") as opened:
        demo = demo_of(tmp_path, *opened.speakers)
        question = question_of(form, ())
        events = list(demo.desk.ask(question, threading.Event()))
    answered = [event for event in events if isinstance(event, Answered)]
    assert [event.speaker for event in answered] == [0, 1]
    for event in answered:
        pieces = [piece for piece in events if isinstance(piece, Piece) and piece.speaker == event.speaker]
        assert len(pieces) > 4  # not whole answers
        for rollout in event.group.rollouts:
            own = "".join(piece.text for piece in pieces if piece.index == rollout.index)
            assert own == rollout.completion.text
    texts = [[rollout.completion.text for rollout in event.group.rollouts] for event in answered]
    assert texts[0] == texts[1]
