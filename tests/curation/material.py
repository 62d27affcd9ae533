"""Pictures, clips and manifests for the tests of the data tool. Every picture differs from every other by far."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmrl.cli.main import main


def photo(seed: int, width: int = 96, height: int = 64) -> Image.Image:
    """Smooth noise: survives compression and scaling, and looks like no other seed's."""
    generator = np.random.Generator(np.random.PCG64(seed))
    small = generator.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def clip(path: Path, seed: int, *, frames: int = 32, bit_rate: int = 400_000) -> None:
    """A second or so of one smooth picture that another one slides over."""
    import av

    ground, above = np.asarray(photo(seed, 128, 96)), np.asarray(photo(seed + 10_000, 64, 48))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 128, 96, "yuv420p", bit_rate
        for i in range(frames):
            frame = ground.copy()
            frame[10:58, 2 * i : 2 * i + 64] = above[:, : max(0, 128 - 2 * i)]
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def row(id_: str, **fields: Any) -> dict[str, Any]:
    """A sound row; `image="a.png"` and `video="a.mp4"` are short for one medium."""
    media = []
    if "image" in fields:
        media.append({"type": "image", "path": fields.pop("image")})
    if "video" in fields:
        media.append({"type": "video", "path": fields.pop("video")})
    body = {"id": id_, "task": "t", "question": f"What is shown in {id_}?", "answer": {"type": "text", "value": "x"}}
    return {**body, **({"media": media} if media else {}), **fields}


def choice(letter: str) -> dict[str, str]:
    return {"type": "choice", "value": letter}


def write(path: Path, rows: Sequence[Mapping[str, Any] | str]) -> Path:
    """A manifest; a string is a line as it stands."""
    lines = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def ids(path: Path) -> list[str]:
    return [line["id"] for line in read(path)]


def reasons(path: Path) -> dict[str, str]:
    """Of a list of what was left out: id → reason."""
    return {line["id"]: line["reason"] for line in read(path)}


def command(*arguments: object) -> int:
    """The exit code of `mmrl data …`."""
    return main(["data", *map(str, arguments)])


def exactness(found: set[str], planted: set[str]) -> tuple[float, float]:
    """(precision, recall)."""
    hits = len(found & planted)
    return hits / len(found) if found else 1.0, hits / len(planted) if planted else 1.0
