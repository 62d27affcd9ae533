"""Takes the pictures of docs/inspector.md, docs/demo.md and the README: from real runs, in a real Chromium.

    mmrl run configs/quickstart/digits.yaml
    mmrl run configs/quickstart/digits.yaml run.name=digits-apo algorithm=apo
    python tools/docs_pictures.py --digits runs/digits runs/digits-apo --boxes runs/scenes --clips runs/clips

--digits: runs of the quickstart; the first has everything that is shown of one run. --boxes and --clips: any runs whose
data ask for a box, and for a span of time in a clip. Pictures of runs that are not given stay as they are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[1]
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
WIDTH = 1280
QUESTION = "Which digit is written here?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, nargs="*", default=[], metavar="RUN")
    parser.add_argument("--boxes", type=Path, metavar="RUN")
    parser.add_argument("--clips", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    runs = [*given.digits, *(run for run in (given.boxes, given.clips) if run is not None)]
    if not runs:
        parser.error("give at least one run")
    with browser_page() as page:
        with served("inspect", *map(str, runs)) as address:
            if given.digits:
                curves(page, address, given.digits, given.out)
                groups(page, address, given.digits[0], given.out)
                if (given.digits[0] / "evaluation" / "after.json").is_file():  # the run has come to its end
                    compare(page, address, given.digits[0], given.out)
            if given.boxes is not None:
                group(page, address, given.boxes, given.out / "inspector-group.png", task="box", sort="highest reward")
                tokens(page, address, given.boxes, given.out)
            if given.clips is not None:
                group(page, address, given.clips, given.out / "inspector-clip.png", task="span", sort="highest reward")
        if given.digits:
            run = given.digits[0]
            with served("demo", str(run), "--against", str(run / "cold_start")) as address:
                demo(page, address, given.out)


def curves(page: Page, address: str, runs: list[Path], out: Path) -> None:
    """Two runs on the same axes, a little smoothed."""
    visit(page, address, tab="runs", runs=",".join(run.name for run in runs), smoothing="0.8")
    page.wait_for_selector("#curves .main-svg")
    take(page, out / "inspector-runs.png", page.get_by_role("tablist").first, page.locator("#curves"))


def groups(page: Page, address: str, run: Path, out: Path) -> None:
    """What a trained policy still gets wrong in a telling way."""
    visit(page, address, tab="groups", run=run.name, sort="oddest", odd="one lucky")
    page.wait_for_selector("#groups table")
    take(page, out / "inspector-groups.png", page.locator("#run"), page.locator("#groups tbody tr").nth(6))


def group(page: Page, address: str, run: Path, out: Path, **asked: str) -> None:
    """One group of those asked for: what was seen, and the first row of completions."""
    open_first(page, address, run, **asked)
    take(page, out, page.get_by_role("tablist").first, page.locator("#group .completion").first)


def tokens(page: Page, address: str, run: Path, out: Path) -> None:
    """The same, its tokens coloured by entropy."""
    open_first(page, address, run, task="box", sort="highest reward")
    page.get_by_label("entropy", exact=True).click()
    page.wait_for_selector("#group .tokens span")
    settle(page)
    take(page, out / "inspector-tokens.png", page.locator("#colour"), page.locator("#group .completion").first)


def compare(page: Page, address: str, run: Path, out: Path) -> None:
    """Before and after, and one sample that was won."""
    visit(page, address, tab="compare", a=f"{run.name} · before", b=f"{run.name} · after", outcome="won")
    page.locator("#compare a[data-open]").first.click()
    page.wait_for_selector("#pair .completion")
    settle(page)
    for row in page.locator("#compare tbody tr").all()[5:]:
        row.evaluate("row => row.remove()")  # the list alone would fill the picture
    take(page, out / "inspector-compare.png", page.get_by_role("tablist").first, page.locator("#pair .completion").last)


def demo(page: Page, address: str, out: Path) -> None:
    """Eight samples of the trained model beside the one that its training started from."""
    page.goto(address)
    page.wait_for_selector("#mm-ask")
    page.locator("#mm-examples button").first.click()
    page.wait_for_function(f"document.querySelector('#mm-question textarea').value.startsWith('{QUESTION}')")
    page.locator("#mm-sampling > button").click()
    page.wait_for_timeout(600)  # a slider that has just been unfolded puts its first value in once more
    for label, value in (("Samples", "8"), ("Temperature", "1"), ("Longest completion", "64")):
        box = page.get_by_label(f"number input for {label}").first
        box.fill(value)
        box.press("Tab")
    page.locator("#mm-sampling > button").click()
    page.locator("#mm-ask").click()
    page.wait_for_function("document.querySelector('#mm-status').innerText.includes('2 models have answered')")
    settle(page)
    page.screenshot(path=out / "demo.png", full_page=True)


def open_first(page: Page, address: str, run: Path, **asked: str) -> None:
    visit(page, address, tab="groups", run=run.name, **asked)
    page.locator("#groups a[data-open]").first.click()
    page.wait_for_selector("#group .completion")
    settle(page)


def visit(page: Page, address: str, **view: str) -> None:
    page.goto(f"{address.rstrip('/')}/?{urlencode(view)}")
    page.wait_for_selector("#run")
    settle(page)


def settle(page: Page) -> None:
    """Nothing is being loaded, and what was drawn has its place."""
    page.wait_for_timeout(600)
    page.wait_for_function("() => !document.querySelector('.progress-text, .generating, .pending')")
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)


def take(page: Page, out: Path, first: Locator, last: Locator) -> None:
    """The page's whole width, from the top of one element to the end of another."""
    settle(page)
    top, bottom = first.bounding_box(), last.bounding_box()
    assert top is not None
    assert bottom is not None
    scrolled = page.evaluate("window.scrollY")
    begin = max(0, top["y"] + scrolled - 12)
    height = bottom["y"] + bottom["height"] + scrolled + 16 - begin
    page.screenshot(path=out, full_page=True, clip={"x": 0, "y": begin, "width": WIDTH, "height": height})
    print(out)


@contextmanager
def served(app: str, *arguments: str) -> Iterator[str]:
    """The address of `mmrl app …` as long as the block lasts."""
    command = [sys.executable, "-m", "mmrl", "app", app, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            if not told:
                raise SystemExit(f"{' '.join(command)} ended before it served a page")
            yield told.split()[0]
        finally:
            process.terminate()


@contextmanager
def browser_page() -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    binary = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=list(FLAGS))
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, reduced_motion="reduce")
        page.set_default_timeout(60_000)
        yield page
        browser.close()


if __name__ == "__main__":
    main()
