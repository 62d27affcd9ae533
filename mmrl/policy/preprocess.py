"""One picture or clip → the patches a model's tower takes. Decoded, resized and cut up once, here."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode  # type: ignore[import-untyped]
from torchvision.transforms.functional import resize  # type: ignore[import-untyped]

from mmrl.data.images import load_image
from mmrl.data.video import ClipReader, broken_clip
from mmrl.data.video_info import ClipInfo, ClipTrouble
from mmrl.data.video_plan import FRAME_FACTOR, ClipPlan, ClipRules, frame_size, plan_clip, plan_files, times
from mmrl.errors import DataError
from mmrl.policy.family import Family
from mmrl.types import Media, MediaView

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessed:
    """One media item as the tower takes it."""

    kind: Literal["image", "video"]
    patches: Tensor  # [S, F] float32
    grid: tuple[int, int, int]  # (time, height, width) in patches
    seconds_per_grid: float  # clip: seconds between two grid times; 0 for a picture
    frame_rate: float  # clip: frames per second of the file; 0 for a picture
    view: MediaView
    digest: str  # of patches and grid


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """A clip's frames, resized."""

    frames: Tensor  # [T, 3, H, W] uint8
    plan: ClipPlan
    seconds: tuple[float, ...]
    frame_rate: float
    width: int  # of the original
    height: int
    reader: str
    reader_note: str


class Preprocessor:
    """Preprocesses items for one model. Its methods may be called from several threads."""

    def __init__(
        self,
        processor: Any,
        family: Family,
        config: Any,
        *,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        clips: ClipReader | None = None,
        rules: ClipRules | None = None,
    ) -> None:
        """`min_pixels`, `max_pixels`: area of a picture after resizing; of a clip's frames: `rules`."""
        self._processor = processor
        self._family = family
        self._config = config
        self._bounds = (min_pixels, max_pixels)
        self._clips = clips or ClipReader()
        self._rules = rules or ClipRules()
        self.images_preprocessed = 0  # so far, for benchmarks
        self.clips_preprocessed = 0
        self._counting = threading.Lock()

    def __call__(self, media: Media) -> Preprocessed:
        """Raises DataError where a file is missing or the family cannot be shown such media, BrokenMedia where a file
        cannot be used.
        """
        if media.type == "image" and media.path is not None:
            return self._image(media.path)
        if "video" not in self._family.media:
            raise DataError(
                f"{media.path or media.paths[0]}: models of family {self._family.name} are shown pictures only. Leave "
                f"samples with video out, or choose another model."
            )
        return self._clip(self._video(media) if media.path is not None else self._files(media))

    def close(self) -> None:
        """End the decoding process."""
        self._clips.close()

    def _image(self, path: str) -> Preprocessed:
        image = load_image(path)
        with self._counting:
            self.images_preprocessed += 1
        patches, grid = self._family.cut(self._processor, image, *self._bounds)
        width, height = self._family.spoken_size(grid, self._config)
        return Preprocessed(
            kind="image",
            patches=patches,
            grid=grid,
            seconds_per_grid=0.0,
            frame_rate=0.0,
            view=MediaView(width=image.width, height=image.height, spoken_width=width, spoken_height=height),
            digest=_digest(patches, grid),
        )

    def _clip(self, shown: _Shown) -> Preprocessed:
        with self._counting:
            self.clips_preprocessed += 1
        processor = self._processor.video_processor
        # Frames come chosen and resized. Newer versions warn unless they are told how they would have resized them.
        unused = {"cap_pixels_per_frame": False} if hasattr(processor, "cap_pixels_per_frame") else {}
        features = processor(
            videos=[shown.frames], do_sample_frames=False, do_resize=False, return_tensors="pt", **unused
        )
        patches: Tensor = features["pixel_values_videos"].contiguous()
        grid = _grid(features["video_grid_thw"])
        width, height = self._family.spoken_size(grid, self._config)
        return Preprocessed(
            kind="video",
            patches=patches,
            grid=grid,
            seconds_per_grid=processor.temporal_patch_size / shown.plan.sampled_fps,
            frame_rate=shown.frame_rate,
            view=MediaView(
                width=shown.width,
                height=shown.height,
                spoken_width=width,
                spoken_height=height,
                seconds=shown.seconds,
                frames=shown.plan.frames,
                reader=shown.reader,
                reader_note=shown.reader_note,
            ),
            digest=_digest(patches, grid),
        )

    @property
    def _factor(self) -> int:
        processor = self._processor.video_processor
        return int(processor.patch_size * processor.merge_size)

    def _video(self, media: Media) -> _Shown:
        assert media.path is not None
        chosen: list[tuple[ClipPlan, tuple[int, int]]] = []

        def choose(info: ClipInfo) -> tuple[int, ...]:
            plan = plan_clip(info, media, self._rules)
            size = frame_size(info.width, info.height, len(plan.frames), self._rules, factor=self._factor)
            chosen.append((plan, size))
            return plan.frames

        decoded = self._clips.read(media.path, choose, lambda frames: resized(frames, chosen[0][1]))
        return _Shown(
            frames=torch.cat(decoded.pieces),
            plan=chosen[0][0],
            seconds=times(decoded.info, decoded.frames),
            frame_rate=decoded.info.frame_rate,
            width=decoded.info.width,
            height=decoded.info.height,
            reader=decoded.reader,
            reader_note=decoded.reader_note,
        )

    def _files(self, media: Media) -> _Shown:
        """Listed frames: a clip that was taken apart. An odd number is completed by its last frame."""
        import numpy as np

        assert media.fps is not None
        numbers = plan_files(len(media.paths), self._rules)
        size: tuple[int, int] | None = None
        original: tuple[int, int] | None = None
        pieces = []
        for number in numbers:
            image = load_image(media.paths[number])
            if original is None or size is None:
                original = image.size
                even = len(numbers) + len(numbers) % FRAME_FACTOR
                try:
                    size = frame_size(*original, even, self._rules, factor=self._factor)
                except ClipTrouble as error:
                    raise broken_clip(media.paths[number], error.reason, str(error)) from error
            if image.size != original:
                raise broken_clip(
                    media.paths[number],
                    "frames of different sizes",
                    f"has {image.width}×{image.height} pixels, the frames before it {original[0]}×{original[1]}",
                )
            pieces.append(resized(np.asarray(image)[None], size))
        assert original is not None
        step = (numbers[-1] - numbers[0]) / (len(numbers) - 1) if len(numbers) > 1 else 1.0
        return _Shown(
            frames=torch.cat(pieces),
            plan=ClipPlan(frames=numbers, sampled_fps=media.fps / step),
            seconds=tuple(number / media.fps for number in numbers),
            frame_rate=media.fps,
            width=original[0],
            height=original[1],
            reader="files",
            reader_note="",
        )


def resized(frames: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """[n, H, W, 3] → [n, 3, h, w] uint8, as qwen-vl-utils does it: bicubic, antialiased."""
    width, height = size
    tensor = torch.from_numpy(frames.copy() if not frames.flags.writeable else frames).permute(0, 3, 1, 2)
    resized: Tensor = resize(tensor, [height, width], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return resized


def _grid(grids: Tensor) -> tuple[int, int, int]:
    time, height, width = (int(side) for side in grids[0])
    return time, height, width


def _digest(patches: Tensor, grid: tuple[int, int, int]) -> str:
    digest = hashlib.blake2b(repr(grid).encode(), digest_size=16)
    digest.update(memoryview(patches.numpy()))  # type: ignore[arg-type]  # an array is a buffer
    return digest.hexdigest()
