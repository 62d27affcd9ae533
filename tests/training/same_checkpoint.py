"""Whether two checkpoints hold the same, bit for bit."""

from __future__ import annotations

from typing import Any

import torch

from mmrl.training.checkpoint import Checkpoint


def assert_same_checkpoint(mine: Checkpoint, theirs: Checkpoint) -> None:
    """Every file by its SHA-256, pickled ones by their values: the same values can be pickled in more than one way."""
    assert mine.seal is not None
    assert theirs.seal is not None
    assert {**mine.seal.files, **pickled(theirs)} == theirs.seal.files
    assert mine.seal.metrics == theirs.seal.metrics
    for name in pickled(mine):
        assert_same(*(torch.load(c.folder / name, weights_only=True) for c in (mine, theirs)))


def pickled(checkpoint: Checkpoint) -> dict[str, tuple[int, str]]:
    """Optimiser, reference, sampler, adaptive parts; the random number generators."""
    assert checkpoint.seal is not None
    return {name: entry for name, entry in checkpoint.seal.files.items() if name.endswith(".pt")}


def assert_same(mine: Any, theirs: Any) -> None:
    assert type(mine) is type(theirs)
    if isinstance(mine, torch.Tensor):
        assert torch.equal(mine, theirs)
    elif isinstance(mine, dict):
        assert list(mine) == list(theirs)
        for key in mine:
            assert_same(mine[key], theirs[key])
    elif isinstance(mine, list | tuple):
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            assert_same(one, other)
    else:
        assert mine == theirs
