"""Shapes are checked while tests run: every jaxtyping annotation of the tensor modules, by beartype."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

from tests import toy

CHECKED = (
    "mmrl.tensors",
    "mmrl.batch",
    "mmrl.credit",
    "mmrl.objective",
    "mmrl.plan",
    "mmrl.policy.packed",
    "mmrl.policy.policy",
    "mmrl.rollout.sampling",
)
# Several test processes, or a busy machine: threads that wait for each other in a spin cost more than they bring.
torch.set_num_threads(1)
install_import_hook(CHECKED, "beartype.beartype")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2.5-VL on disk, untrained."""
    from mmrl.policy.tiny import save_tiny_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_model(folder, seed=1)
    return folder


@pytest.fixture
def tiny_model(tiny_folder: Path) -> toy.LoadedModel:
    """The tiny model, loaded anew for the test."""
    from mmrl.policy.load import load_model

    return load_model(str(tiny_folder))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four pictures of different sizes, full of noise."""
    return toy.noise_pictures(tmp_path_factory.mktemp("pictures"))
