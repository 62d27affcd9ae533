"""Configs to plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from mmrl.config.load import load_config
from mmrl.config.schema import Config
from mmrl.data.manifest import write_manifest
from mmrl.types import Answer, Media, Sample


def config_of(folder: Path, *overrides: str, **sections: Any) -> Config:
    """GRPO on a tiny model, without data."""
    path = folder / "config.yaml"
    whole = {
        "run": {"name": "planned", "folder": str(folder)},
        "model": {"tiny": {"family": "qwen2_5_vl"}},
        "data": {"recipe": "digits"},
        "rewards": {"default": [{"name": "choice"}]},
        "rollout": {"prompts_per_step": 2, "group_size": 4, "max_tokens": 32},
        **sections,
    }
    path.write_text(yaml.safe_dump(whole))
    return load_config(path, overrides)


def pictures_of(folder: Path, width: int, height: int, *, count: int = 2) -> Path:
    """A manifest of samples with a picture each."""
    samples = []
    for i in range(count):
        path = folder / f"picture{i}.png"
        Image.new("RGB", (width, height), (i, 0, 0)).save(path)
        answer = Answer(type="choice", value="A")
        media = (Media(type="image", path=str(path)),)
        samples.append(Sample(id=str(i), task="look", question="Which?", answer=answer, media=media))
    write_manifest(folder / "pictures.jsonl", samples)
    return folder / "pictures.jsonl"
