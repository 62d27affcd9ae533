"""Checkpoints: a folder is either whole or not there.

checkpoints/step_000050/            the policy, Hugging Face layout: transformers and vLLM load it as it is
                       trainer/     state.pt: optimiser, reference, sampler, what adaptive parts know,
                                   torch's generator, steps done
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmrl.algorithms.memory import Memory
from mmrl.backend.backend import TrainBackend
from mmrl.curriculum.sampler import PromptSampler
from mmrl.errors import RunError

_NAME = re.compile(r"step_(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint on disk."""

    step: int  # optimiser steps that are done
    folder: Path


def checkpoints(run_dir: Path) -> list[Checkpoint]:
    """Whole checkpoints of a run, oldest first."""
    found = []
    for folder in (run_dir / "checkpoints").glob("step_*"):
        match = _NAME.fullmatch(folder.name)
        if match and (folder / "trainer" / "state.pt").is_file():
            found.append(Checkpoint(step=int(match[1]), folder=folder))
    return sorted(found, key=lambda c: c.step)


def save_checkpoint(
    run_dir: Path, *, step: int, backend: TrainBackend, sampler: PromptSampler, memory: Memory, keep: int
) -> Path:
    """Write aside, sync to disk, rename; then remove all but the `keep` newest."""
    folder = run_dir / "checkpoints" / f"step_{step:06d}"
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "trainer").mkdir(parents=True)
    backend.save_model(aside)
    state = {
        "step": step,
        "backend": backend.state(),
        "sampler": sampler.state(),
        "memory": memory.state(),
        "torch_rng": torch.get_rng_state(),
    }
    torch.save(state, aside / "trainer" / "state.pt")
    for file in [*aside.rglob("*"), aside]:
        _sync(file)
    if folder.exists():
        shutil.rmtree(folder)
    aside.rename(folder)
    _sync(folder.parent)
    for old in checkpoints(run_dir)[:-keep]:
        shutil.rmtree(old.folder)
    return folder


def load_trainer_state(checkpoint: Checkpoint, *, backend: TrainBackend, sampler: PromptSampler, memory: Memory) -> int:
    """Continue from a checkpoint whose policy the backend was built with; returns the steps that are done."""
    path = checkpoint.folder / "trainer" / "state.pt"
    try:
        # Written by save_checkpoint of this run; tensors and plain values only.
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise RunError(
            f"{path}: cannot be read ({error}). Remove {checkpoint.folder} to resume from the checkpoint before."
        ) from error
    backend.load_state(state["backend"])
    sampler.load_state(state["sampler"])
    memory.load_state(state["memory"])
    torch.set_rng_state(state["torch_rng"])
    return int(state["step"])


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
