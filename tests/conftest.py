"""Shapes are checked while tests run: every jaxtyping annotation of the tensor modules, by beartype."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from jaxtyping import install_import_hook

from tests import toy

if TYPE_CHECKING:
    from mmrl.rollout.server_client import Client
    from mmrl.rollout.vllm_sampler import VllmSampler

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


@pytest.fixture(scope="session")
def vllm_sampler(tiny_folder: Path) -> Iterator[VllmSampler]:
    """The real vLLM in this process, for the tiny model's architecture; weights are whoever's loaded some last."""
    from mmrl.policy.load import load_model
    from mmrl.rollout.vllm_engine import start_sampler

    model = load_model(str(tiny_folder))
    sampler = start_sampler(model.policy, model.processor, toy.vllm_settings())
    yield sampler
    sampler.close()


@pytest.fixture(scope="session")
def vllm_servers() -> Iterator[list[Client]]:
    """Two servers on this machine, listening; vLLM starts in them with the first engine that is made."""
    from mmrl.rollout.server_client import started_here

    clients = started_here(2)
    yield clients
    for client in clients:
        client.kill()
