"""`mmrl data validate` decodes clips as training does, in a process that is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmrl.data.manifest import validate_manifest
from mmrl.data.media_check import check_media_files
from mmrl.data.video import ClipReader
from mmrl.progress import SilentProgress
from mmrl.types import Answer, Media, Sample
from tests.clips import write_clip, write_sound


def row(id_: str, media: list[dict[str, Any]], **answer: Any) -> str:
    return json.dumps(
        {"id": id_, "task": "t", "question": "?", "media": media, "answer": answer or {"type": "text", "value": "x"}}
    )


def test_clips_are_decoded_and_broken_ones_listed_by_reason(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", 16)
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[:-200])
    write_sound(tmp_path / "sound.mp4")
    (tmp_path / "empty.mp4").touch()
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(
        "\n".join(
            [
                row("good", [{"type": "video", "path": "whole.mp4"}]),
                row("part", [{"type": "video", "path": "whole.mp4", "start": 1.0, "end": 1.9}]),
                row("late", [{"type": "video", "path": "whole.mp4", "start": 7.0}]),
                row("cut", [{"type": "video", "path": "cut.mp4"}]),
                row("sound", [{"type": "video", "path": "sound.mp4"}]),
                row("empty", [{"type": "video", "path": "empty.mp4"}]),
                row("gone", [{"type": "video", "path": "gone.mp4"}]),
                row("outside", [{"type": "video", "path": "whole.mp4"}], type="box", value=[0, 0, 90, 80]),
            ]
        )
    )
    report = validate_manifest(manifest, check_media=True)
    assert report.broken_reasons == {
        "start beyond the end": 1,
        "truncated video": 1,
        "no video stream": 1,
        "empty file": 1,
    }
    assert {problem.sample_id for problem in report.broken_media} == {"late", "cut", "sound", "empty"}
    found = {problem.sample_id: problem.message for problem in report.problems}
    assert set(found) == {"gone", "outside"}
    assert "gone.mp4 does not exist" in found["gone"]
    assert "outside the clip of 96×64 pixels" in found["outside"]


def test_a_clip_that_hangs_does_not_stop_the_check(tmp_path: Path) -> None:
    reader = ClipReader(deadline_seconds=0.5, readers={"slow": "tests.data.odd_readers:hang_on_some"})
    samples = [
        Sample(
            id=name,
            task="t",
            question="?",
            media=(Media(type="video", path=str(write_clip(tmp_path / f"{name}.mp4", 8))),),
            answer=Answer(type="text", value="x"),
        )
        for name in ("hangs", "good")
    ]
    problems, broken = check_media_files([("m:1", s) for s in samples], progress=SilentProgress(), clips=reader)
    assert not problems
    assert [(reason, problem.sample_id) for reason, problem in broken] == [("decoding timed out", "hangs")]
