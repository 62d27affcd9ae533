"""One tiny model per family, shared by the tests of this folder: they must leave it as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmrl.policy.families import FAMILIES
from mmrl.policy.load import LoadedModel, load_model
from mmrl.policy.tiny import save_tiny_model


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An untrained tiny model of each family on disk."""
    folder = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        save_tiny_model(folder / name, family=name, seed=1)
    return {name: folder / name for name in FAMILIES}


@pytest.fixture(scope="session")
def family_models(family_folders: dict[str, Path]) -> dict[str, LoadedModel]:
    """Those models, loaded."""
    return {name: load_model(str(folder)) for name, folder in family_folders.items()}


@pytest.fixture(scope="session")
def untouched(family_folders: dict[str, Path]) -> dict[str, Any]:
    """The same models as Hugging Face loads them."""
    from transformers import AutoModelForImageTextToText

    return {name: AutoModelForImageTextToText.from_pretrained(folder) for name, folder in family_folders.items()}
