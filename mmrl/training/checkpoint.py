"""Checkpoints: a folder is either whole or not there, and says itself what it holds.

checkpoints/step_000050/            the policy, Hugging Face layout: transformers and vLLM load it as it is
                       trainer/     state.pt        optimiser and schedule, reference, sampler, what adaptive parts
                                                    know, groups in flight
                                    rank_00000.pt   the random number generators of each process
                                    manifest.json   size and SHA-256 of every file, written last (`seal.py`)

Between two steps every group that was asked has been trained on or dropped, but for those of the coming step where
rollouts are ahead: they are saved as well (`in_flight.py`). Media prepared ahead are prepared again. Who writes these
folders, and which of them stay: `saver.py`.
"""

from __future__ import annotations

import platform
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch

import mmrl
from mmrl.algorithms.memory import Memory
from mmrl.backend.backend import TrainBackend
from mmrl.curriculum.sampler import PromptSampler
from mmrl.errors import RunError
from mmrl.ranks import ALONE, Ranks
from mmrl.training.in_flight import InFlight
from mmrl.training.seal import SEAL, Seal, damage, read_seal

_NAME = re.compile(r"step_(\d+)")
DAMAGED = ".damaged"  # ending of a checkpoint folder that was found to be damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint on disk that was finished once."""

    step: int  # RL steps that are done
    folder: Path

    @property
    def seal(self) -> Seal | None:
        """What it says of itself; None where that has become unreadable."""
        return read_seal(self.folder)


def checkpoints(run_dir: Path) -> list[Checkpoint]:
    """Finished checkpoints of a run, oldest first. Whether their files are still what was written: `newest_sound`."""
    found = []
    for folder in (run_dir / "checkpoints").glob("step_*"):
        match = _NAME.fullmatch(folder.name)
        if match and (folder / SEAL).is_file():
            found.append(Checkpoint(step=int(match[1]), folder=folder))
    return sorted(found, key=lambda c: c.step)


def newest_sound(run_dir: Path, tell: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint whose files are what was written; None where the run has none yet.

    Damaged ones are told of and set aside (`step_….damaged`). Raises RunError where every one is damaged: to begin
    anew is not for this function to choose. With several ranks the first one looks, for all.
    """
    damaged: list[tuple[Checkpoint, str]] = []
    for found in reversed(_candidates(run_dir)):
        wrong = damage(found.folder)
        if wrong is None:
            _set_aside(damaged, f"going on from the one before, of step {found.step}", tell)
            return found
        damaged.append((found, wrong))
    if damaged:
        listed = "; ".join(f"{c.folder.name}: {wrong}" for c, wrong in damaged)
        raise RunError(
            f"{run_dir}: no checkpoint of this run is whole any more ({listed}). Bring one back from a copy, or begin "
            "anew with --overwrite. See docs/failures/damaged-checkpoint.md."
        )
    return None


def policy_state(
    backend: TrainBackend, sampler: PromptSampler, memory: Memory, in_flight: InFlight, *, step: int
) -> dict[str, Any]:
    """What a run depends on besides the policy's weights. Every rank must ask; rank 0's is what is saved."""
    return {
        "step": step,
        "backend": backend.state(),
        "sampler": sampler.state(),
        "memory": memory.state(),
        "in_flight": in_flight.state(),
    }


def generators() -> dict[str, Any]:
    """The states of this process's random number generators, as tensors and plain values."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, numbers, following = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": [kind, [int(key) for key in keys], int(position), int(has_gauss), float(gauss)],
        "python": [version, list(numbers), following],
    }


def restore_generators(state: dict[str, Any]) -> None:
    """Let this process's random number generators go on from `generators()`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    version, numbers, following = state["python"]
    random.setstate((version, tuple(numbers), following))


def load_trainer_state(
    checkpoint: Checkpoint,
    *,
    backend: TrainBackend,
    sampler: PromptSampler,
    memory: Memory,
    in_flight: InFlight | None = None,
    ranks: Ranks = ALONE,
) -> int:
    """Continue from a checkpoint whose policy the backend was built with; returns the steps that are done.

    A rank that the run did not have when the checkpoint was written keeps the generators it was started with: nothing
    a step does depends on them (rollouts have seeds of their own).
    """
    state = _load(checkpoint.folder / "trainer" / "state.pt")
    backend.load_state(state["backend"])
    sampler.load_state(state["sampler"])
    memory.load_state(state["memory"])
    if in_flight is not None:
        in_flight.load_state(state.get("in_flight"))
    own = checkpoint.folder / "trainer" / rank_file(ranks.rank)
    if own.is_file():
        restore_generators(_load(own))
    return int(state["step"])


def rank_file(number: int) -> str:
    return f"rank_{number:05d}.pt"


def last_good(run_dir: Path) -> str:
    """Where a run that ends now can go on from, in words."""
    found = checkpoints(run_dir)
    if not found:
        return "it has no checkpoint yet"
    return f"its last good checkpoint is that of step {found[-1].step}, {found[-1].folder}"


def package_versions() -> dict[str, str]:
    """Of what the files of a checkpoint were made by."""
    return {
        "mmrl": mmrl.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "safetensors": str(safetensors.__version__),
    }


def _candidates(run_dir: Path) -> list[Checkpoint]:
    """All folders in the place of a checkpoint, also those whose seal is gone."""
    found = []
    for folder in (run_dir / "checkpoints").glob("step_*"):
        match = _NAME.fullmatch(folder.name)
        if match and folder.is_dir():
            found.append(Checkpoint(step=int(match[1]), folder=folder))
    return sorted(found, key=lambda c: c.step)


def _set_aside(damaged: list[tuple[Checkpoint, str]], instead: str, tell: Callable[[str], None]) -> None:
    for found, wrong in damaged:
        tell(f"warning: the checkpoint {found.folder} is damaged: {wrong}; {instead}")
        names = (f"{found.folder.name}{DAMAGED}{number or ''}" for number in count())
        found.folder.rename(next(path for name in names if not (path := found.folder.with_name(name)).exists()))


def _load(path: Path) -> dict[str, Any]:
    try:
        # Tensors and plain values only: nothing in the file is run. Mapped: a rank reads what its shards need.
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises every kind on a damaged archive
        raise RunError(
            f"{path}: cannot be read ({error}). Remove {path.parents[1]} to resume from the checkpoint before."
        ) from error
    return state
