"""The documentation holds together: links lead somewhere, every page can be found, every failure has its page."""

from __future__ import annotations

import re
import runpy
from functools import cache
from pathlib import Path

import pytest

from mmrl.training.watcher import TROUBLES, page_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
FAILURES = sorted((DOCS / "failures").glob("*.md"))
SOURCES = "\n".join(path.read_text() for part in ("mmrl", "apps") for path in sorted((ROOT / part).rglob("*.py")))


def prose(page: Path) -> str:
    """Without code, in which brackets are no links."""
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Of its headings, as GitHub makes them, and those that it sets itself."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: list[str] = re.findall(r'<a (?:name|id)="([^"]+)"', text)
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        repeated = sum(one == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", one) is not None for one in found)
        found.append(f"{anchor}-{repeated}" if repeated else anchor)
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.relative_to(ROOT)} links to {target}, which is not there"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{page.relative_to(ROOT)} links to {target}: no such heading"


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, f"docs/README.md does not name {page.name}"


def test_pages_that_the_program_names_are_there() -> None:
    named = set(re.findall(r"docs/[a-z_/-]+\.md", SOURCES))
    assert len(named) > 10
    for page in named:
        assert (ROOT / page).is_file(), f"{page} is named in the sources"


def test_every_failure_is_named_by_a_message_and_by_the_index() -> None:
    watched = {page_of(name) for name in TROUBLES}
    index = (DOCS / "health.md").read_text()
    for page in FAILURES:
        name = page.relative_to(ROOT).as_posix()
        assert name in watched or name in SOURCES, f"no message leads to {name}"
        assert f"](failures/{page.name})" in index, f"docs/health.md does not name {page.name}"
    assert watched <= {page.relative_to(ROOT).as_posix() for page in FAILURES}


@pytest.mark.parametrize("page", FAILURES, ids=lambda page: page.stem)
def test_a_failures_page_says_what_it_looks_like_why_and_what_to_do(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}: ")
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert headings[:3] == ["What it looks like", "Why", "What to do"]
    assert all(part.strip() for part in re.split(r"^#+ .*$", text, flags=re.MULTILINE)[2:])


def test_what_the_watcher_says_on_the_pages_is_current() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "write_failure_pages.py"))
    assert set(tool["EXAMPLES"]) == set(TROUBLES)
    for path, text in tool["pages"]().items():
        assert path.read_text() == text, f"{path} is old: run python tools/write_failure_pages.py"
