"""docs/media.md names every reason for which media are dropped, with the advice that the messages give."""

from __future__ import annotations

from pathlib import Path

from mmrl.data import fetch, images, video_info
from mmrl.data.images import MAX_PIXELS
from mmrl.training.watched_files import VANISHED

PAGE = (Path(__file__).parents[2] / "docs" / "media.md").read_text()


def test_every_reason_is_on_the_page() -> None:
    for reason, advice in (*images.REASONS.items(), *video_info.REASONS.items(), *fetch.REASONS.items()):
        assert f"| `{reason}` | {advice} |" in PAGE
    assert f"| `{VANISHED}` | " in PAGE


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    assert f"{MAX_PIXELS:,} pixels" in PAGE
    assert f"longer than {images.MAX_ASPECT} times" in PAGE
