"""One copy of the pixels, prepared ahead without a trace in the result, and broken media tried once."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmrl.curriculum.shuffled import Shuffled
from mmrl.data.images import BrokenMedia
from mmrl.data.quarantine import Quarantine
from mmrl.data.video_plan import ClipRules
from mmrl.errors import DataError
from mmrl.policy.pixels import PixelStore
from mmrl.policy.preprocess import Preprocessed
from mmrl.policy.render import Renderer
from mmrl.types import Media, MediaView, Sample
from tests import toy
from tests.clips import write_clip

RULES = ClipRules(min_pixels=56 * 56, max_pixels=84 * 84)


@pytest.fixture
def renderer(tiny_model: toy.LoadedModel) -> Iterator[Renderer]:
    renderer = Renderer(tiny_model.processor, tiny_model.policy.family, tiny_model.policy.config, rules=RULES)
    yield renderer
    renderer.close()


class Preprocess:
    """Makes 40-byte items of what the path says, and counts; waits on `gate` where there is one."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.gate: threading.Event | None = None
        self.begun = threading.Event()

    def __call__(self, media: Media) -> Preprocessed:
        path = media.path or ""
        self.made.append(path)
        self.begun.set()
        if self.gate is not None:
            assert self.gate.wait(10)
        if path.startswith("broken"):
            raise BrokenMedia(f"{path} is empty (0 bytes).", reason="empty file")
        if path.startswith("gone"):
            raise DataError(f"{path} does not exist.")
        return Preprocessed(
            kind="image",
            patches=torch.full((5, 2), float(len(self.made))),
            grid=(1, 1, 5),
            seconds_per_grid=0.0,
            frame_rate=0.0,
            view=MediaView(width=1, height=1, spoken_width=1, spoken_height=1),
            digest=path,
        )


def key(*paths: str) -> tuple[Media, ...]:
    return tuple(Media(type="image", path=path) for path in paths)


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def store(make: Preprocess, *, capacity: int = 400, file: Path | None = None) -> PixelStore:
    return PixelStore(make, Quarantine(file), capacity_bytes=capacity)


# ── one copy ──


def test_samples_with_the_same_media_share_one_tensor(renderer: Renderer, pictures: list[Path]) -> None:
    samples = [toy.choice_sample(f"s{i}", pictures[:2], question=f"Question {i}?") for i in range(3)]
    prompts, _ = renderer.render(samples)
    assert renderer.images_preprocessed == 2
    assert prompts[0].vision is prompts[1].vision is prompts[2].vision
    assert prompts[0].text != prompts[1].text


def test_a_picture_alone_and_among_others_lies_in_one_memory(renderer: Renderer, pictures: list[Path]) -> None:
    [both], _ = renderer.render([toy.choice_sample("both", pictures[:2])])
    [alone], _ = renderer.render([toy.choice_sample("alone", pictures[1:2])])
    assert renderer.images_preprocessed == 2
    assert both.vision is not None
    assert alone.vision is not None
    assert alone.vision.patches.untyped_storage().data_ptr() == both.vision.patches.untyped_storage().data_ptr()
    assert alone.vision.digests == both.vision.digests[1:]


def test_what_is_kept_is_counted_by_memory_and_bounded() -> None:
    make = Preprocess()
    pixels = store(make, capacity=100)
    pixels.get(key("a"), sample_id="s")
    assert pixels.held_bytes == 40
    pixels.get(key("a", "b"), sample_id="s")  # a is copied into the joint tensor, the lone one forgotten
    assert (pixels.held_bytes, make.made) == (80, ["a", "b"])
    pixels.get(key("b"), sample_id="s")  # a view of it
    assert (pixels.held_bytes, make.made) == (80, ["a", "b"])
    pixels.get(key("c"), sample_id="s")  # 120 bytes: the joint entry goes, but b still lies in its memory, and goes too
    assert (pixels.held_bytes, make.made) == (40, ["a", "b", "c"])
    pixels.get(key("a"), sample_id="s")
    assert make.made == ["a", "b", "c", "a"]


# ── prepared ahead ──


def test_prepared_media_are_not_made_again() -> None:
    make = Preprocess()
    pixels = store(make)
    pixels.prepare([("s1", key("a")), ("s2", key("b"))])
    until(lambda: pixels.held_bytes == 80)
    pixels.close()
    assert make.made == ["a", "b"]
    pixels.get(key("b"), sample_id="s2")
    pixels.get(key("a"), sample_id="s1")
    assert make.made == ["a", "b"]


def test_who_asks_for_what_is_being_prepared_waits_for_it() -> None:
    make = Preprocess()
    make.gate = threading.Event()
    pixels = store(make)
    pixels.prepare([("s", key("a"))])
    assert make.begun.wait(10)
    threading.Timer(0.05, make.gate.set).start()
    assert pixels.get(key("a"), sample_id="s").vision.digests == ("a",)
    assert make.made == ["a"]
    pixels.close()


def test_a_newer_hint_replaces_what_was_not_begun() -> None:
    make = Preprocess()
    make.gate = threading.Event()
    pixels = store(make)
    pixels.prepare([("s", key("a")), ("s", key("b"))])
    assert make.begun.wait(10)
    pixels.prepare([("s", key("c"))])
    make.gate.set()
    until(lambda: "c" in make.made)
    pixels.close()
    assert make.made == ["a", "c"]


def test_no_more_is_prepared_than_half_of_the_store() -> None:
    make = Preprocess()
    pixels = store(make, capacity=160)  # two items of 40 are half of it
    pixels.get(key("in use"), sample_id="s")
    pixels.prepare([("s", key(name)) for name in ("a", "b", "c", "d")])
    until(lambda: len(make.made) == 3)
    pixels.close()
    assert make.made == ["in use", "a", "b"]
    pixels.get(key("in use"), sample_id="s")
    assert make.made == ["in use", "a", "b"]


def test_errors_wait_until_the_media_are_asked_for() -> None:
    make = Preprocess()
    pixels = store(make)
    pixels.prepare([("s1", key("broken")), ("s2", key("gone")), ("s3", key("a"))])
    until(lambda: "a" in make.made)
    pixels.close()
    with pytest.raises(BrokenMedia, match="0 bytes") as caught:
        pixels.get(key("broken"), sample_id="s1")
    assert caught.value.reason == "empty file"
    with pytest.raises(DataError, match="gone does not exist"):
        pixels.get(key("gone"), sample_id="s2")
    assert make.made.count("broken") == 1  # remembered; what is missing is looked for again


def test_prompts_are_the_same_with_and_without_preparing(
    tiny_model: toy.LoadedModel, tmp_path: Path, pictures: list[Path]
) -> None:
    samples = _mixed(tmp_path, pictures)
    family, config = tiny_model.policy.family, tiny_model.policy.config
    plain, ahead = (Renderer(tiny_model.processor, family, config, rules=RULES) for _ in range(2))
    sampler = Shuffled(samples, seed=3)
    for _ in range(4):
        batch = sampler.next(3)
        without = plain.render(batch)
        with_ = ahead.render(batch)
        ahead.prepare(sampler.peek(3))
        assert with_[1] == without[1]
        assert len(with_[0]) == len(without[0])
        for one, other in zip(with_[0], without[0], strict=True):
            assert (one.sample, one.token_ids, one.media_slots) == (other.sample, other.token_ids, other.media_slots)
            assert one.views == other.views
            assert one.vision is not None
            assert other.vision is not None
            assert torch.equal(one.vision.patches, other.vision.patches)
            assert one.vision.digests == other.vision.digests
    plain.close()
    ahead.close()


def _mixed(folder: Path, pictures: Sequence[Path]) -> list[Sample]:
    broken = folder / "broken.png"
    broken.write_bytes(pictures[1].read_bytes()[:500])
    short = folder / "short.mp4"
    short.write_bytes(write_clip(folder / "whole.mp4", 16).read_bytes()[:-300])
    clips = [Media(type="video", path=str(p)) for p in (folder / "whole.mp4", short)]
    plain = [toy.choice_sample(f"p{i}", [path]) for i, path in enumerate([*pictures, broken])]
    return plain + [replace(toy.choice_sample(f"v{i}"), media=(clip,)) for i, clip in enumerate(clips)]


# ── quarantine ──


def test_broken_media_are_tried_once_and_remembered_by_the_run_folder(tmp_path: Path) -> None:
    file = tmp_path / "run" / "quarantine.jsonl"
    make = Preprocess()
    pixels = store(make, file=file)
    for _ in range(3):
        with pytest.raises(BrokenMedia):
            pixels.get(key("a", "broken"), sample_id="s1")
    assert make.made.count("broken") == 1
    [line] = file.read_text().splitlines()
    entry = json.loads(line)
    assert (entry["sample_id"], entry["path"], entry["reason"]) == ("s1", "broken", "empty file")
    resumed = store(make, file=file)
    with pytest.raises(BrokenMedia, match="0 bytes") as caught:
        resumed.get(key("broken"), sample_id="s7")
    assert caught.value.reason == "empty file"
    assert make.made.count("broken") == 1


def test_a_file_that_was_mended_is_tried_again(
    tiny_model: toy.LoadedModel, tmp_path: Path, pictures: list[Path]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(pictures[0].read_bytes()[:200])
    family, config = tiny_model.policy.family, tiny_model.policy.config
    file = tmp_path / "quarantine.jsonl"
    sample = toy.choice_sample("s", [path])
    renderer = Renderer(tiny_model.processor, family, config, quarantine=file)
    assert [d.reason for d in renderer.render([sample])[1]] == ["truncated image"]
    path.write_bytes(pictures[0].read_bytes())
    assert len(renderer.render([sample])[0]) == 1
    assert len(Renderer(tiny_model.processor, family, config, quarantine=file).render([sample])[0]) == 1


def test_half_a_line_of_a_killed_run_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "quarantine.jsonl"
    media = Media(type="image", path=str(tmp_path / "x.png"))
    Quarantine(file).add(media, BrokenMedia("x is bad", reason="corrupt image"), sample_id="s")
    with file.open("a") as more:
        more.write('{"media": "half')
    after = Quarantine(file)
    with pytest.raises(BrokenMedia, match="x is bad"):
        after.refuse(media)
    other = replace(media, path=os.devnull)
    after.refuse(other)
    after.add(other, BrokenMedia("y is bad", reason="not a file"), sample_id="t")
    with pytest.raises(BrokenMedia, match="y is bad"):
        Quarantine(file).refuse(other)
