"""Configs to plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mmrl.config.load import load_config
from mmrl.config.schema import Config


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
