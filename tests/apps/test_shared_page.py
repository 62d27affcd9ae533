"""The pieces in a real page: model text stays text, marks lie on their picture, light and dark can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import pytest
from mmrl_apps.shared.marks import gold_marks, said_marks
from mmrl_apps.shared.markup import fragment, message
from mmrl_apps.shared.pictures import show_media
from mmrl_apps.shared.serving import Serving, read_password, serve
from PIL import Image

from mmrl.errors import ConfigError
from mmrl.types import Answer, Media

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE = (
    "<script>alert('a')</script><img src=x onerror=\"alert('b')\">${alert('c')}{{#if value}}{{constructor}}{{/if}}"
    "@children </p></div><h1>big</h1> [link](javascript:alert('d')) **bold** &lt;b&gt; `${alert('e')}`"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("shared") / "ground.png"
    Image.new("RGB", (120, 80), "#888").save(path)
    answer = Answer(type="box", value=(30, 20, 90, 60))
    media = show_media([Media(type="image", path=str(path))], (), None)
    marks = gold_marks(answer, (120, 80)) + said_marks("<answer>[0, 0, 60, 40]</answer>", who=1, answer=answer)
    with gr.Blocks() as blocks:
        gr.HTML(message(HOSTILE), elem_id="hostile")
        gr.HTML(fragment("media.html.j2", media=media, marks=[marks]), elem_id="media")
    yield serve(blocks, Serving(), wait=False)
    blocks.close()


def test_hostile_text_is_shown_as_it_was_written(page: Page, address: str):
    page.goto(address)
    page.wait_for_selector("#hostile .mm-message")
    assert page.inner_text("#hostile .mm-message") == HOSTILE
    assert page.locator("#hostile").locator("script, img, h1, b, a").count() == 0


def test_marks_lie_where_they_belong(page: Page, address: str, screenshots: Path):
    page.goto(address)
    picture = page.wait_for_selector("#media img")
    box = page.wait_for_selector("#media .gold rect", state="attached")
    assert picture is not None
    assert box is not None
    outer, inner = picture.bounding_box(), box.bounding_box()
    assert outer is not None
    assert inner is not None
    scale = outer["width"] / 120
    assert inner["x"] - outer["x"] == pytest.approx(30 * scale, abs=4)
    assert inner["width"] == pytest.approx(60 * scale, abs=6)
    page.screenshot(path=screenshots / "shared.png")


def test_a_page_that_others_can_reach_needs_a_password(tmp_path: Path):
    for opening in ({"host": "0.0.0.0"}, {"share": True}):
        with pytest.raises(ConfigError, match="password"):
            Serving(**opening)
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    assert Serving(host="0.0.0.0", password=read_password(secret)).password == "open sesame"
    secret.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        read_password(secret)
