"""`mmrl generate --video`: a question about a real clip, from the command line to the completion."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from mmrl.errors import DataError
from mmrl.pipeline import generate_answer
from mmrl.types import FinishReason
from tests.clips import write_clip


def test_a_model_answers_about_pictures_and_a_clip(tiny_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    said: list[str] = []
    completion = generate_answer(
        str(tiny_folder),
        "What happens after <image>? <video>",
        [str(pictures[0])],
        clips=[str(write_clip(tmp_path / "a.mp4", 8))],
        mode="answer",
        max_tokens=4,
        on_text=said.append,
    )
    assert completion.finish_reason in FinishReason
    assert "".join(said) == completion.text
    [picture, clip] = completion.views
    assert (picture.width, picture.height, picture.frames) == (56, 56, ())
    assert (clip.width, clip.height, clip.frames) == (96, 64, (0, 2, 5, 7))


def test_a_clip_that_cannot_be_used_is_an_error_that_says_why(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(write_clip(tmp_path / "whole.mp4", 8).read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a\.mp4 was cut off"):
        generate_answer(str(tiny_folder), "What happens?", [], clips=[str(tmp_path / "a.mp4")])


@pytest.mark.parametrize("mode", ["vanilla", "observe"])
def test_another_form_than_the_run_s_can_be_asked_for(tiny_folder: Path, tmp_path: Path, mode: str) -> None:
    """Its rewards ask for the form of training, which matters to no single answer."""
    config = {
        "run": {"name": "mine"},
        "model": {"path": str(tiny_folder)},
        "data": {"train": "train.jsonl"},
        "rewards": {"default": [{"name": "choice"}, {"name": "format"}]},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copytree(tiny_folder, tmp_path / "model")
    completion = generate_answer(str(tmp_path / "model"), "Which?", [], choices=["a", "b"], mode=mode, max_tokens=2)
    assert completion.token_count is not None
    assert completion.token_count <= 2


def test_the_command_takes_clips(capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path) -> None:
    from mmrl.cli.main import main

    clip = write_clip(tmp_path / "a.mp4", 8)
    assert main(["generate", str(tiny_folder), "--video", str(clip), "--question", "What?", "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out
