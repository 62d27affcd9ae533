"""The demo in a real Chromium: a tiny model beside one that says what it is told to, hostile things among it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageDraw

from mmrl.types import Sample
from tests import toy
from tests.apps.demo_setting import demo_of, scripted
from tests.apps.test_demo_handlers import real

if TYPE_CHECKING:
    from mmrl_apps.demo.handlers import Demo
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

SAID = {
    "Give the box of the square.": "<think>The square is at the top.</think><answer>[40, 10, 70, 45]</answer>",
    "Attack": "<think></textarea><script>document.title='hit'</script></think>"
    "<answer><img src=x onerror=\"document.title='hit'\">${document.title='hit'}{{document.title}}@children</answer>",
}


def _script(sample: Sample, index: int) -> str:
    if sample.question == "Fail":
        raise RuntimeError("out of memory")
    return SAID.get(sample.question, f"<think>Let me look.</think><answer>{index // 2}</answer>")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[tuple[str, Demo]]:
    """(address, demo) of a page that is served."""
    pytest.importorskip("gradio")
    from mmrl_apps.demo.app import build
    from mmrl_apps.demo.examples import examples
    from mmrl_apps.demo.uploads import Limits
    from mmrl_apps.shared.serving import Serving, serve

    from mmrl.policy.load import load_model

    folder = tmp_path_factory.mktemp("demo")
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploaded")
    demo = demo_of(
        folder,
        real(load_model(str(tiny_folder))),
        scripted(_script, name="scripted"),
        examples=examples(folder / "examples", config=None, run=None),
        limits=Limits(file_bytes=2**20),
    )
    page = build(demo, title="tiny", facts="transformers on cpu")
    yield serve(page, Serving(largest_upload="1mb"), wait=False), demo
    page.close()
    demo.sessions.close()
    demo.uploads.close()
    if before is None:
        del os.environ["GRADIO_TEMP_DIR"]
    else:
        os.environ["GRADIO_TEMP_DIR"] = before


@pytest.fixture
def pictures_of_two(tmp_path: Path) -> list[Path]:
    """A square where the scripted model says that it is; and noise."""
    square = Image.new("RGB", (96, 80), "#dfe6ea")
    ImageDraw.Draw(square).rectangle((42, 12, 68, 43), fill="#b3341f")
    square.save(tmp_path / "square.png")
    return [tmp_path / "square.png", *toy.noise_pictures(tmp_path, sizes=((56, 56),))]


def _open(page: Page, address: str, query: str = "") -> None:
    page.goto(f"{address.rstrip('/')}/{query}")
    page.wait_for_selector("#mm-ask")


def _set(page: Page, label: str, value: str) -> None:
    if not page.get_by_label(f"number input for {label}").first.is_visible():
        page.locator("#mm-sampling > button").click()
        page.get_by_label(f"number input for {label}").first.wait_for()
        page.wait_for_timeout(500)  # a slider that has just been unfolded puts its first value in once more
    box = page.get_by_label(f"number input for {label}").first
    box.fill(value)
    box.press("Tab")


def _ask(page: Page, question: str | None, until: str = "have answered|answered: ") -> None:
    if question is not None:
        page.locator("#mm-question textarea").fill(question)
    page.evaluate("document.querySelector('#mm-status p').textContent = 'asking'")  # not to take the last one for ours
    page.locator("#mm-ask").click()
    page.wait_for_function("text => new RegExp(text).test(document.querySelector('#mm-status').innerText)", arg=until)


def test_a_question_about_an_uploaded_picture_gets_a_streamed_answer(
    page: Page, served: tuple[str, Demo], pictures_of_two: list[Path], screenshots: Path
) -> None:
    _open(page, served[0])
    assert "Nothing to look at yet" in page.locator("#mm-seen").inner_text()
    page.locator("#mm-files input[type=file]").set_input_files([str(path) for path in pictures_of_two])
    page.wait_for_function("document.querySelectorAll('#mm-seen img').length == 2")
    _set(page, "Longest completion", "800")
    page.evaluate(
        """() => { window.seen = []; setInterval(() => {
            const text = document.querySelector('#mm-reasoning-0 textarea').value;
            if (text && text !== window.seen.at(-1)) window.seen.push(text); }, 20) }"""
    )
    _ask(page, "Give the box of the square.", until="2 models have answered")
    grown = page.evaluate("window.seen")
    assert len(grown) >= 2, "the tiny model's text came in pieces"  # how many: as the machine has time to draw
    assert len(grown[0]) < len(grown[-1])
    assert page.locator("#mm-reasoning-1 textarea").input_value() == "The square is at the top."
    assert page.locator("#mm-answer-1 textarea").input_value() == "[40, 10, 70, 45]"
    page.locator("#mm-kind input").click()
    page.get_by_role("option", name="A box", exact=True).click()
    _ask(page, None, until="2 models have answered")
    page.wait_for_selector("#mm-drawing svg rect", state="attached")
    assert page.locator("#mm-drawing svg rect").first.get_attribute("width") == "30.0"
    page.locator("#mm-sampling > button").click()
    page.locator("#mm-drawing").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#mm-drawing img').complete")
    page.screenshot(path=screenshots / "demo-upload.png", full_page=True)


def test_samples_votes_and_keeping(page: Page, served: tuple[str, Demo], screenshots: Path) -> None:
    address, demo = served
    _open(page, address)
    page.locator("#mm-examples button").nth(2).click()
    page.wait_for_function("document.querySelector('#mm-question textarea').value.startsWith('How many')")
    _set(page, "Samples", "4")
    _set(page, "Temperature", "1")
    _set(page, "Longest completion", "60")
    _ask(page, None, until="2 models have answered")
    page.wait_for_selector("#mm-samples-1 table")
    assert "50 %" in page.locator("#mm-samples-1").inner_text()
    page.locator("#mm-samples-1 summary").first.click()
    assert "Let me look." in page.locator("#mm-samples-1 details").first.inner_text()
    assert "The known answer" in page.locator("#mm-drawing").inner_text()
    assert not (demo.keeper.folder / "traces").exists()
    page.locator("#mm-keep").click()
    page.wait_for_function("document.querySelector('#mm-kept').innerText.includes('Kept in')")
    [kept] = (demo.keeper.folder / "traces").iterdir()
    assert len(kept.read_text().splitlines()) == 2
    page.screenshot(path=screenshots / "demo-samples.png", full_page=True)


def test_a_span_is_drawn_on_an_example_s_clip_and_clear_empties_the_page(page: Page, served: tuple[str, Demo]) -> None:
    _open(page, served[0])
    number = next(i for i, e in enumerate(served[1].examples) if e.sample.answer.type == "span")
    page.locator("#mm-examples button").nth(number).click()
    page.wait_for_selector("#mm-seen video")
    _set(page, "Longest completion", "10")
    _ask(page, None, until="2 models have answered")
    page.wait_for_selector("#mm-drawing .mm-timeline")
    page.locator("#mm-clear").click()
    page.wait_for_function("document.querySelector('#mm-status').innerText.includes('Cleared')")
    assert "Nothing to look at yet" in page.locator("#mm-seen").inner_text()
    assert page.locator("#mm-question textarea").input_value() == ""
    assert page.locator("#mm-answer-1 textarea").input_value() == ""


def test_hostile_text_is_shown_and_does_nothing(page: Page, served: tuple[str, Demo]) -> None:
    _open(page, served[0])
    _set(page, "Samples", "2")
    _set(page, "Temperature", "1")
    _set(page, "Longest completion", "400")
    _ask(page, "Attack", until="2 models have answered")
    page.wait_for_selector("#mm-samples-1 table")
    page.wait_for_timeout(300)
    assert page.title() != "hit"
    assert page.locator("#mm-samples-1 img, #mm-samples-1 script").count() == 0
    assert "<img src=x onerror=" in page.locator("#mm-answer-1 textarea").input_value()
    assert "${document.title='hit'}{{document.title}}@children" in page.locator("#mm-samples-1 td").first.inner_text()


def test_a_failing_model_is_a_message_and_the_next_question_works(page: Page, served: tuple[str, Demo]) -> None:
    _open(page, served[0])
    _set(page, "Longest completion", "80")
    _ask(page, "Fail", until="out of memory")
    assert "The model failed (RuntimeError: out of memory)" in page.locator("#mm-note-1").inner_text()
    _ask(page, "Give the box of the square.", until="2 models have answered")
    assert page.locator("#mm-answer-1 textarea").input_value() == "[40, 10, 70, 45]"


def test_stop_ends_a_long_answer(page: Page, served: tuple[str, Demo]) -> None:
    _open(page, served[0])
    _set(page, "Longest completion", "4096")
    page.locator("#mm-question textarea").fill("Go on for ever")
    page.keyboard.press("Shift+Enter")
    page.wait_for_function("document.querySelector('#mm-status').innerText.includes('is writing')")
    page.locator("#mm-stop").click()
    page.wait_for_function("document.querySelector('#mm-status').innerText.includes('Stopped while')")
    assert "Stopped while" in page.locator("#mm-status").inner_text()


def test_a_bad_upload_and_an_empty_question_are_said(page: Page, served: tuple[str, Demo], tmp_path: Path) -> None:
    (tmp_path / "page.png").write_bytes(b"<script>alert(1)</script>")
    _open(page, served[0])
    page.locator("#mm-ask").click()
    page.wait_for_function("document.querySelector('#mm-status').innerText.includes('no question yet')")
    page.locator("#mm-files input[type=file]").set_input_files(str(tmp_path / "page.png"))
    refused = page.get_by_text("page.png cannot be used: unknown format")
    refused.wait_for()
    assert refused.count() >= 1


def test_the_page_works_from_the_keyboard_alone(page: Page, served: tuple[str, Demo]) -> None:
    _open(page, served[0])
    _set(page, "Longest completion", "5")
    page.locator("#mm-question textarea").focus()
    page.keyboard.type("Give the box of the square.")
    for _ in range(4):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "mm-ask":
            break
    assert page.evaluate("document.activeElement.id") == "mm-ask"
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#mm-status').innerText.includes('have answered')")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(
    chromium: Browser, served: tuple[str, Demo], theme: str, screenshots: Path
) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    page = context.new_page()
    _open(page, served[0], f"?__theme={theme}")
    _set(page, "Longest completion", "60")
    _ask(page, "Give the box of the square.", until="2 models have answered")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ink, ground = page.evaluate(
        """() => { const p = document.querySelector('#mm-status p');
            let on = p, ground = 'rgba(0, 0, 0, 0)';
            while (on && ground === 'rgba(0, 0, 0, 0)') { ground = getComputedStyle(on).backgroundColor;
                on = on.parentElement }
            return [getComputedStyle(p).color, ground] }"""
    )
    assert _contrast(ink, ground) > 4.5
    page.screenshot(path=screenshots / f"demo-phone-{theme}.png", full_page=True)
    context.close()


def test_files_of_the_machine_cannot_be_fetched(page: Page, served: tuple[str, Demo], tmp_path: Path) -> None:
    """By the file route, by a path in place of an upload, by climbing out of the upload folder."""
    address, demo = served
    _open(page, address)
    (demo.keeper.folder.parent / "secret.txt").write_text("secret")
    (demo.keeper.folder.parent / "secret.png").write_bytes(b"secret")
    secrets = [
        "/etc/passwd",
        str(demo.keeper.folder.parent / "secret.txt"),
        f"{demo.keeper.folder.parent}/uploaded/../secret.txt",
        str(Path(__file__)),
        "pyproject.toml",
    ]
    for secret in secrets:
        for route in ("file=", "file/"):
            reply = page.request.get(f"{address.rstrip('/')}/gradio_api/{route}{secret}")
            assert reply.status >= 400, f"{route}{secret}: {reply.status}"
            assert "secret" not in reply.text() or "secret." in reply.text()
    config = page.request.get(f"{address.rstrip('/')}/config").json()
    assert str(demo.keeper.folder.parent) not in json.dumps(config["dependencies"])
    ask = next(d["id"] for d in config["dependencies"] if len(d["inputs"]) > 10)
    payload = {
        "data": ["What?", "Free text", "", 1, 0, 1, 0, 5, 0, 16, [{"path": secrets[0] + ".png"}], None, None, False],
        "fn_index": ask,
        "session_hash": "intruder",
    }
    reply = page.request.post(f"{address.rstrip('/')}/gradio_api/queue/join", data=payload)
    if reply.status < 400:
        events = page.request.get(f"{address.rstrip('/')}/gradio_api/queue/data?session_hash=intruder").text()
        assert '"success": true' not in events
        assert "root:" not in events


def test_a_password_is_asked_for_where_one_is_set(chromium: Browser, tmp_path: Path) -> None:
    from mmrl_apps.demo.app import build
    from mmrl_apps.shared.serving import Serving, serve

    demo = demo_of(tmp_path, scripted(_script))
    page = build(demo, title="locked", facts="")
    address = serve(page, Serving(password="open sesame"), wait=False).rstrip("/")
    try:
        context = chromium.new_context()
        assert context.request.get(f"{address}/config").status == 401
        assert context.request.get(f"{address}/gradio_api/file=/etc/passwd").status >= 400
        wrong = context.request.post(f"{address}/login", form={"username": "mmrl", "password": "x"})
        assert wrong.status == 400
        right = context.request.post(f"{address}/login", form={"username": "mmrl", "password": "open sesame"})
        assert right.status == 200
        assert context.request.get(f"{address}/config").status == 200
        context.close()
    finally:
        page.close()
        demo.sessions.close()


def _contrast(first: str, second: str) -> float:
    """WCAG 2 contrast of two colours as the browser writes them."""
    lights = []
    for colour in (first, second):
        parts = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
        linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)
