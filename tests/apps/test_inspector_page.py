"""The inspector in a real browser: every tab, mouse and keyboard, light and dark, wide and narrow; and a real run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mmrl_apps.inspector.app import build
from mmrl_apps.inspector.handlers import Handlers
from mmrl_apps.inspector.inspector import Inspector
from mmrl_apps.shared.serving import Serving, serve

from tests.apps.made_run import HOSTILE, group_of, make_run, make_samples, write_step

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    make_run(runs)
    make_run(tmp_path_factory.mktemp("more"), name="other", rate=0.1).rename(runs / "other")
    return runs


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    inspector = Inspector([folder])
    inspector.refresh()
    inspector.follow()
    blocks = build(inspector)
    yield serve(blocks, Serving(), wait=False)
    blocks.close()
    inspector.close()


def settled(page: Page) -> None:
    """Nothing is being loaded, and what was drawn has its place."""
    page.wait_for_function("() => !document.querySelector('.progress-text, .generating, .pending')")
    page.wait_for_timeout(250)


def open_group(page: Page, address: str, sample: str) -> None:
    page.goto(f"{address}?run=made&sample={sample}&tab=groups")
    page.locator(f"#groups a:has-text('{sample}')").first.click()
    page.wait_for_selector(f"#group h2:has-text('{sample}')")
    settled(page)


def test_filter_open_a_group_and_leaf_through(page: Page, address: str, screenshots: Path):
    page.goto(f"{address}?run=made")
    page.wait_for_selector("#groups table")
    assert page.locator("#groups tbody tr").count() == 7
    settled(page)
    page.screenshot(path=screenshots / "inspector-groups.png")
    page.fill("#text textarea, #text input", "wide")
    page.press("#text textarea, #text input", "Enter")
    page.wait_for_function("() => document.querySelectorAll('#groups tbody tr').length === 2")
    page.wait_for_function("() => location.search.includes('text=wide')")
    page.locator("#groups a[data-open]").first.click()
    page.wait_for_selector("#group .completion")
    page.wait_for_function("() => location.search.includes('place=')")
    assert page.locator("#group .mm-mark rect").count() == 4
    settled(page)
    page.screenshot(path=screenshots / "inspector-group.png", full_page=True)
    page.click("#group-after")
    page.wait_for_selector("#group h2:has-text('Step 0')")
    page.locator("#group a[data-open]").first.click()  # the same sample at the later step
    page.wait_for_selector("#group h2:has-text('Step 2')")


@pytest.mark.slow
def test_an_address_opens_the_same_view_again(page: Page, address: str):
    open_group(page, address, "span-1")
    page.get_by_label("entropy", exact=True).click()
    page.wait_for_selector("#group .tokens span")
    page.wait_for_function("() => location.search.includes('colour=entropy')")
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector("#group h2:has-text('span-1')")
    page.wait_for_selector("#group .tokens span")
    assert page.get_by_label("entropy", exact=True).is_checked()
    assert page.locator("#group .mm-frame").count() == 6


@pytest.mark.slow
def test_a_clip_is_played_and_its_spans_are_drawn(page: Page, address: str, screenshots: Path):
    open_group(page, address, "span-1")
    page.wait_for_function("() => document.querySelector('#group video').readyState >= 2")
    assert page.locator("#group .lane").count() == 3
    page.screenshot(path=screenshots / "inspector-clip.png", full_page=True)


@pytest.mark.slow
def test_a_slow_start_takes_nothing_away(page: Page, address: str, monkeypatch: pytest.MonkeyPatch):
    """Nothing can be clicked before the address is answered, whose answer shows the list, not the group."""
    answer = Handlers.restored

    def slowly(self: Handlers, query: dict[str, str]) -> dict[str, str]:
        time.sleep(2.0)
        return answer(self, query)

    monkeypatch.setattr(Handlers, "restored", slowly)
    open_group(page, address, "span-1")
    page.wait_for_timeout(2500)
    assert page.locator("#group h2:has-text('span-1')").is_visible()
    assert "place=" in page.url


def test_what_the_model_wrote_stays_text(page: Page, address: str):
    open_group(page, address, "choice-1")
    assert HOSTILE in page.inner_text("#group")
    assert page.locator("#group .texts").locator("script, img, b").count() == 0
    page.get_by_label("log-probability", exact=True).click()
    page.wait_for_selector("#group .tokens span")
    assert HOSTILE in page.locator("#group .tokens").nth(2).inner_text()


@pytest.mark.slow
def test_pointing_at_a_completion_brings_its_box_out(page: Page, address: str):
    open_group(page, address, "box-1")
    opacity = "(who) => getComputedStyle(document.querySelector(`#group .mm-mark[data-who='${who}']`)).opacity"
    assert page.evaluate(opacity, 1) == "1"
    page.locator("#group .completion").nth(0).hover()
    page.wait_for_timeout(200)
    assert float(page.evaluate(opacity, 1)) < 0.5
    assert page.evaluate(opacity, 0) == "1"


@pytest.mark.slow
def test_rewards_are_edited_and_scored_again(page: Page, address: str, screenshots: Path):
    open_group(page, address, "box-1")
    page.get_by_role("button", name="Score again with other rewards").click()
    editor = page.locator("#rewards .cm-content")
    editor.wait_for()
    assert "{name: iou, weight: 1.0}" in editor.inner_text()
    editor.click()
    page.keyboard.press("Control+A")
    page.keyboard.type("- {name: iou_at, weight: 2.0}")
    page.click("#rescore")
    page.wait_for_selector("#rescored table")
    assert "iou_at" in page.inner_text("#rescored")
    page.screenshot(path=screenshots / "inspector-rescored.png", full_page=True)
    editor.click()
    page.keyboard.press("Control+A")
    page.keyboard.type("- {name: iuo}")
    page.click("#rescore")
    page.wait_for_selector("#rescored .trouble")
    assert "Did you mean 'iou'?" in page.inner_text("#rescored")
    page.click("#own-rewards")
    page.wait_for_function("() => document.querySelector('#rewards .cm-content').innerText.includes('format')")


@pytest.mark.slow
def test_a_group_and_a_selection_are_saved(page: Page, address: str, tmp_path: Path):
    open_group(page, address, "box-1")
    with page.expect_download() as saved:
        page.click("#export-group")
    file = tmp_path / saved.value.suggested_filename
    saved.value.save_as(file)
    assert file.name == "made-step2-box-1.html"
    page.goto(file.as_uri())
    assert page.locator(".completion").count() == 4
    assert page.locator(".mm-canvas img").first.evaluate("(image) => image.naturalWidth") == 160
    page.goto(f"{address}?run=made&task=choice&tab=groups")
    page.wait_for_selector("#groups table")
    with page.expect_download() as saved:
        page.click("#export-manifest")
    rows = [json.loads(line) for line in Path(saved.value.path()).read_text().splitlines()]
    assert {row["id"] for row in rows} == {"choice-1", "choice-2"}


@pytest.mark.slow
def test_curves_warnings_and_differences(page: Page, address: str, screenshots: Path):
    page.goto(f"{address}?tab=runs")
    page.wait_for_selector("#curves .main-svg")
    assert page.locator("#curves .legend .traces").count() == 2
    assert "docs/failures/no-signal.md" in page.inner_text("#warnings")
    assert "train.learning_rate" in page.inner_text("#differences")
    settled(page)
    page.screenshot(path=screenshots / "inspector-runs.png", full_page=True)
    page.get_by_label("samples seen").click()
    page.wait_for_function("() => location.search.includes('axis=samples')")


@pytest.mark.slow
def test_data_is_browsed_and_models_are_compared(page: Page, address: str, screenshots: Path):
    page.goto(f"{address}?tab=data&run=made&task=box")
    page.wait_for_selector("#data .card")
    assert page.locator("#data .card").count() == 1
    assert page.locator("#data .mm-mark.gold rect").count() == 1
    settled(page)
    page.screenshot(path=screenshots / "inspector-data.png")
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector("#compare table")
    assert page.locator("#compare tbody tr").count() == 3
    page.locator("#compare a:has-text('box-1')").click()
    page.wait_for_selector("#pair .completion")
    assert page.locator("#pair .completion").count() == 2
    page.wait_for_function("() => location.search.includes('id=box-1')")
    page.reload()
    page.wait_for_selector("#pair h2:has-text('box-1')")
    page.wait_for_selector("#compare table")
    settled(page)
    page.screenshot(path=screenshots / "inspector-compare.png", full_page=True)


@pytest.mark.slow
def test_it_follows_a_run_that_goes_on(page: Page, tmp_path: Path):
    from mmrl.rewards.build import reward_uses
    from mmrl.rewards.runtime import RewardScorer
    from mmrl.traces.writer import TraceWriter
    from tests.apps.made_run import REWARDS, WRITTEN

    run = make_run(tmp_path)
    inspector = Inspector([run])
    inspector.refresh()
    inspector.follow()
    blocks = build(inspector)
    try:
        page.goto(serve(blocks, Serving(), wait=False))
        page.wait_for_selector("#groups table")
        page.get_by_label(re.compile("Follow")).check()
        sample = make_samples(tmp_path / "media")[0]
        with RewardScorer(reward_uses(REWARDS)) as rewards:
            scored, _ = rewards.score([group_of(sample, WRITTEN["box-1"][0], step=3)])
        write_step(TraceWriter(run / "traces"), 3, scored)
        page.wait_for_function("() => document.querySelectorAll('#groups tbody tr').length === 8", timeout=15_000)
        assert "steps 0–3" in page.inner_text("#status")
    finally:
        page.goto("about:blank")
        blocks.close()
        inspector.close()


@pytest.mark.slow
def test_the_keyboard_is_enough(page: Page, address: str):
    page.goto(f"{address}?run=made&task=box&tab=groups")
    page.wait_for_selector("#groups a[data-open]")
    page.get_by_role("tab", name="Groups").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.dataset.open !== undefined"):
            break
    else:
        pytest.fail("the first group cannot be reached by Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#group .completion")
    assert page.locator("#group .completion").count() > 1


_CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.99) return c;
    }
    return document.body.closest('.dark') || document.querySelector('.dark') ? [11, 11, 15] : [255, 255, 255];
  };
  const bad = [];
  for (const e of document.querySelectorAll('.mm *')) {
    if (e.closest('svg') || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    if (!e.offsetParent) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) bad.push(`${e.className || e.tagName} ${e.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return bad;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read(page: Page, address: str, theme: str, screenshots: Path):
    page.goto(f"{address}?run=made&tab=group&step=2&place=0&__theme={theme}")
    page.wait_for_selector("#group .completion")
    settled(page)
    assert (page.locator("body.dark, .dark").count() > 0) == (theme == "dark")
    page.screenshot(path=screenshots / f"inspector-{theme}.png", full_page=True)
    assert page.evaluate(_CONTRAST) == []
    page.get_by_role("tab", name="Groups").click()
    settled(page)
    assert page.evaluate(_CONTRAST) == []
    page.locator("#groups a:has-text('span-1')").click()
    page.wait_for_selector("#group .lane")
    settled(page)
    assert page.evaluate(_CONTRAST) == []


@pytest.mark.slow
@pytest.mark.parametrize("tab", ["groups", "group", "runs", "data", "compare"])
def test_it_fits_a_phone(page: Page, address: str, tab: str, screenshots: Path):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}?run=made&tab={tab}&step=2&place=0")
    page.wait_for_selector(
        {
            "groups": "#groups table",
            "group": "#group .completion",
            "runs": "#curves .main-svg",
            "data": "#data .card",
            "compare": "#compare table",
        }[tab]
    )
    settled(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.screenshot(path=screenshots / f"inspector-phone-{tab}.png")


def test_no_file_is_served_whatever_the_path(address: str, folder: Path):
    for path in (
        f"gradio_api/file={folder}/made/config.yaml",
        f"gradio_api/file={folder}/media/scene.png",
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=../../../../etc/passwd",
        "file=/etc/passwd",
        "gradio_api/file=pyproject.toml",
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address + path, timeout=10)
        assert refused.value.code in (401, 403, 404), path


@pytest.mark.slow
def test_a_password_keeps_everything_shut(folder: Path, page: Page):
    inspector = Inspector([folder])
    inspector.refresh()
    blocks = build(inspector)
    address = serve(blocks, Serving(password="open sesame"), wait=False)
    try:
        for path in ("config", "gradio_api/info", "gradio_api/queue/status"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(address + path, timeout=10)
            assert refused.value.code == 401
        page.goto(address)
        page.get_by_label("username").fill("mmrl")
        page.get_by_label("password").fill("wrong")
        page.get_by_role("button", name="Login").click()
        page.wait_for_timeout(800)
        assert page.locator("#groups").count() == 0
        page.get_by_label("username").fill("mmrl")
        page.get_by_label("password").fill("open sesame")
        page.get_by_role("button", name="Login").click()
        page.wait_for_selector("#groups table")
    finally:
        page.goto("about:blank")  # an open page would keep the server from closing
        blocks.close()
        inspector.close()


@pytest.mark.slow
def test_a_real_quickstart_run(page: Page, tmp_path: Path, screenshots: Path):
    config = str(ROOT / "configs" / "quickstart" / "digits.yaml")
    small = [
        "algorithm.filters=[]",
        "algorithm.divergence={type: k3, coef: 0.01}",
        "sft.steps=20",
        "sft.samples_per_step=8",
        "rollout.prompts_per_step=4",
        "rollout.group_size=4",
        "train.steps=3",
        "train.warmup_steps=0",
        "evaluation.limit=8",
        "evaluation.samples_per_prompt=2",
        "evaluation.ks=[1, 2]",
    ]
    command = [sys.executable, "-m", "mmrl", "run", config, f"run.folder={tmp_path}", *small, "-q"]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    served = [sys.executable, "-m", "mmrl", "app", "inspect", str(tmp_path / "digits")]
    with subprocess.Popen(served, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[0]
            page.goto(address)
            page.locator("#groups a[data-open]").first.click()
            page.wait_for_selector("#group .completion")
            image = page.locator("#group .mm-canvas img").first
            assert image.evaluate("(image) => image.naturalWidth") == 56
            assert "agreement" in page.inner_text("#group .parts >> nth=0")
            for colour in ("entropy", "KL", "advantage"):
                page.get_by_label(colour, exact=True).click()
                page.wait_for_selector(f"#group .legend:has-text('tokens by {colour}')")
            settled(page)
            page.screenshot(path=screenshots / "inspector-quickstart.png", full_page=True)
            page.get_by_role("button", name="Score again with other rewards").click()
            page.click("#rescore")
            page.wait_for_selector("#rescored table")
            page.get_by_role("tab", name="Compare").click()
            page.wait_for_selector("#compare .tiles")
            assert "8 samples" in page.inner_text("#compare")
        finally:
            process.terminate()
