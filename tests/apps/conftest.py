"""A real Chromium for the pages, and where their pictures are kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page, Request

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_HARMLESS = ("favicon", "manifest.json")  # parts that Gradio asks for and does without


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A page that did not come in time is asked again: a busy machine is no defect of the page. Nothing else is."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=2, only_rerun=["TimeoutError"]))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser; tests that need it are skipped where the machine has none."""
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("no Chromium on this machine: install the package `chromium`, or set CHROMIUM to its path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """The folder in which a test run leaves its pictures: $MMRL_SCREENSHOTS, or build/screenshots."""
    folder = Path(os.environ.get("MMRL_SCREENSHOTS", ROOT / "build" / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A tab of desktop size. Fails the test afterwards where the page reported an error or asked another host."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(30_000)
    tab = context.new_page()
    trouble: list[str] = []
    tab.on("pageerror", lambda error: trouble.append(f"script error: {error}"))

    def opened(dialog: Dialog) -> None:
        trouble.append(f"a dialog opened: {dialog.message}")
        dialog.dismiss()

    def asked(request: Request) -> None:
        url = request.url
        own = url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "file:"))
        if not own and not any(part in url for part in _HARMLESS):
            trouble.append(f"the page asked {url}")

    tab.on("dialog", opened)
    tab.on("request", asked)
    yield tab
    context.close()
    assert not trouble, "\n".join(trouble)
