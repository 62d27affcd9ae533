"""A run so small that it can be killed twenty times: for `test_killed_runs.py`, and for the processes it starts."""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from contextlib import AbstractContextManager
from pathlib import Path

import yaml

from mmrl.progress import SilentProgress, Task

PRELOADED = [
    "tests.training.killed_run",
    "mmrl.pipeline",
    "mmrl.build",
    "mmrl.training.loop",
    "mmrl.training.tracking",
    "mmrl.policy.tiny",
    "mmrl.policy.load",
    "mmrl.policy.render",
    "mmrl.rollout.transformers_engine",
    "mmrl.backend.torch_backend",
    "mmrl.rewards.build",
    "mmrl.algorithms.build",
    "mmrl.curriculum.build",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "transformers.models.qwen2_5_vl.processing_qwen2_5_vl",
    "accelerate",
]
STEPS = 8


def write_config(folder: Path, pictures: list[Path]) -> Path:
    """A config with state in every place that can have some: an EMA reference, a sampler and a value tracker."""
    samples = [
        {
            "id": f"s{i}",
            "task": "choice",
            "question": "Which one?",
            "media": [{"type": "image", "path": str(pictures[i % 2])}] if i % 3 else [],
            "choices": ["red", "green"],
            "answer": {"type": "choice", "value": "AB"[i % 2]},
        }
        for i in range(7)
    ]
    manifest = folder / "train.jsonl"
    manifest.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    tiny = {"hidden_size": 32, "layers": 1, "heads": 2, "key_value_heads": 1}
    config = {
        "run": {"name": "tiny", "folder": "unset", "seed": 5},
        "model": {"tiny": {**tiny, "vision_depth": 1, "vision_hidden_size": 32}},
        "data": {"train": str(manifest)},
        "rewards": {"default": [{"path": "tests.training.length_reward:EVEN"}]},
        "scoring": {"workers": 1},
        "algorithm": {
            "base": "grpo_care",
            "reference": {"type": "ema", "decay": 0.9, "every": 2},
            "divergence": {"type": "k3", "coef": 0.01},
        },
        "rollout": {"prompts_per_step": 2, "group_size": 3, "max_tokens": 6, "max_refills": 0},
        "train": {
            "steps": STEPS,
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "checkpoint_every": 2,
            "sampler": "variance_aware",
        },
        "tracking": {"to": []},
        "backend": {"threads": 1},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def go(config: Path, folder: Path, largest_file: int | None = None) -> None:
    """Train in this process: from the beginning, or on from where an earlier process was killed.

    Exits with 0 when done, 2 after an error that its reader can mend, 1 after any other. What it says goes to
    `folder`/said.txt. `largest_file`: bytes; a longer file cannot be written.
    """
    from mmrl.config.load import load_config
    from mmrl.errors import MmrlError
    from mmrl.pipeline import train_stage

    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    said = Said(folder / "said.txt")
    loaded = load_config(config, [f"run.folder={folder}"])
    run_dir = folder / "tiny"
    try:
        begun = (run_dir / "config.yaml").is_file()
        train_stage(loaded, resume=begun, overwrite=False, progress=said)
    except MmrlError as error:
        said.note(f"error: {error}")
        sys.exit(2)
    except Exception:
        said.note(traceback.format_exc())
        sys.exit(1)


def command(arguments: list[str], folder: Path) -> None:
    """`mmrl` with these arguments in this process; what it says goes to `folder`/said.txt."""
    from mmrl.cli.main import main

    descriptor = os.open(folder / "said.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["mmrl", *arguments]
    sys.exit(main(arguments))


class Said:
    """A progress whose notes another process can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, text: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, (text + "\n").encode())
        os.close(descriptor)

    def task(self, label: str, total: int, *, done: int = 0) -> AbstractContextManager[Task]:
        return SilentProgress().task(label, total, done=done)
