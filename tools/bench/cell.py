"""What one comparison measures: a cell of the table. Both tools read the same `Cell`, pictures and questions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmrl.data.manifest import read_manifest, write_manifest
from mmrl.types import Answer, Media, Sample

EDGE = 28  # pixels: edge of the square that becomes one visual token of a Qwen2.5-VL
SMALLEST = 4  # visual tokens of the warm-up pictures: what the processor's lower bound makes of any small picture

# Right letter, asked form, and words that do not repeat: the last differs between completions of an untrained model.
REWARDS: dict[str, list[dict[str, Any]]] = {
    "default": [
        {"name": "choice", "weight": 1.0},
        {"name": "format", "weight": 0.2},
        {"name": "repetition", "weight": 0.3, "options": {"n": 1}},
    ]
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One GRPO step's sizes and settings. The defaults are those of the comparison with TRL."""

    model: str  # folder in Hugging Face layout
    manifest: str  # samples in the order both tools take them, `prompts` of them a step
    folder: str  # where a worker may write
    prompts: int
    group_size: int
    completion_tokens: int  # longest completion …
    exact_length: bool = True  # … and, with the end token banned on both sides, the length of every completion
    beta: float = 0.04  # coefficient of the k3 divergence; 0: no reference policy
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    rows_at_once: int | None = None  # completions per pass of TRL's update; None: all. mmrl counts tokens
    freeze_vision: bool = False  # tower and projector do not train
    mode: str = "think_answer"
    rewards: Mapping[str, Sequence[Mapping[str, Any]]]
    threads: int = 2
    dtype: str = "float32"
    device: str = "cpu"
    overrides: Sequence[str] = ()  # of mmrl's config, "section.key=value"
    evaluation: str = ""  # manifest of held-out samples; empty: no evaluation
    seed: int = 0

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def load(text: str) -> Cell:
        return Cell(**json.loads(text))

    def samples(self) -> list[Sample]:
        return read_manifest(self.manifest)


def noise_samples(folder: Path, *, steps: int, prompts: int, visual_tokens: int, seed: int = 0) -> Path:
    """A manifest of fresh pictures for `steps` steps, behind one step of the smallest pictures to warm up on.

    The pictures are smooth noise, JPEG files, all different; each is asked with the same question.
    """
    edge = math.isqrt(visual_tokens)
    if edge * edge != visual_tokens or visual_tokens < SMALLEST:
        raise SystemExit(f"visual tokens: {visual_tokens} is no square number of at least {SMALLEST}.")
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([seed, visual_tokens])
    samples = []
    for step in range(steps + 1):
        for prompt in range(prompts):
            path = folder / f"{step:03d}-{prompt:02d}.jpg"
            _noise(random, EDGE * (edge if step else math.isqrt(SMALLEST))).save(path, quality=92)
            samples.append(
                Sample(
                    id=path.stem,
                    task="default",
                    question="What is in this picture?",
                    media=(Media(type="image", path=str(path)),),
                    choices=tuple(str(digit) for digit in range(10)),
                    answer=Answer(type="choice", value="ABCDEFGHIJ"[int(random.integers(10))]),
                )
            )
    manifest = folder / "manifest.jsonl"
    write_manifest(manifest, samples)
    return manifest


def _noise(random: np.random.Generator, edge: int) -> Image.Image:
    """As smooth as a photograph, so that decoding costs what it does for one."""
    cells = random.integers(0, 256, (max(2, edge // 8), max(2, edge // 8), 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((edge, edge), Image.Resampling.BICUBIC)
