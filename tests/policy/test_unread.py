"""Models whose weights stay in their files: the same modules and names, no memory, and every value can be read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mmrl.errors import ModelError
from mmrl.policy.families import FAMILIES
from mmrl.policy.load import LoadedModel, load_model
from mmrl.policy.unread import copy_unread


def held_bytes(model: nn.Module) -> int:
    """Of all parameters, each memory once."""
    return sum({p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}.values())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_weight_is_left_in_its_file_and_can_be_read(
    family: str, family_folders: dict[str, Path], family_models: dict[str, LoadedModel]
) -> None:
    loaded = load_model(str(family_folders[family]), unread=True)
    unread, whole = loaded.unread, family_models[family].policy.model
    assert unread is not None
    wanted = dict(whole.named_parameters())
    found = dict(loaded.policy.model.named_parameters())
    assert found.keys() == wanted.keys()
    assert held_bytes(loaded.policy.model) <= 8 * len(found)
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        assert torch.equal(unread.read(name), value), name
    buffers = dict(loaded.policy.model.named_buffers())
    assert all(torch.equal(buffers[name], value) for name, value in whole.named_buffers())
    assert loaded.policy.model.generation_config.to_dict() == whole.generation_config.to_dict()  # type: ignore[union-attr, operator]


def test_what_is_tied_stays_tied_and_a_copy_is_as_light(family_folders: dict[str, Path]) -> None:
    loaded = load_model(str(family_folders["qwen2_vl"]), unread=True, dtype=torch.bfloat16)
    assert loaded.unread is not None
    again = copy_unread(loaded.policy, loaded.unread)
    names = [name for name, _ in loaded.policy.model.named_parameters()]
    assert [name for name, _ in again.model.named_parameters()] == names
    own = {id(p) for p in loaded.policy.parameters()}
    assert not any(id(p) in own for p in again.parameters())
    assert held_bytes(again.model) <= 8 * len(names)
    tied = {id(p) for _, p in loaded.policy.model.named_parameters(remove_duplicate=False)}
    assert len(tied) == len(names)
    assert loaded.unread.read(names[0]).dtype == torch.bfloat16


def test_a_weight_that_no_file_holds_is_made_up_as_transformers_does(
    family_folders: dict[str, Path], family_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    """… and weights are found under the names of the modules as well as under those of published files."""
    folder = tmp_path / "model"
    shutil.copytree(family_folders["qwen2_5_vl"], folder)
    weights = {name: value.detach() for name, value in family_models["qwen2_5_vl"].policy.model.named_parameters()}
    assert not set(weights) <= load_file(folder / "model.safetensors").keys()
    lost = next(name for name in weights if name.endswith("mlp.down_proj.weight") and "visual" not in name)
    kept = {name: value for name, value in weights.items() if name != lost}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_model(str(folder), unread=True)
    assert loaded.unread is not None
    for name, value in loaded.policy.model.named_parameters():
        if loaded.unread.key(name):
            assert torch.equal(loaded.unread.read(name), weights[name]), name
        else:
            assert name == lost
            assert value.untyped_storage().nbytes() == 4 * value.numel()
            assert float(value.detach().std()) > 0


def test_other_formats_are_not_read(family_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(family_folders["qwen2_vl"], folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(ModelError, match="safetensors"):
        load_model(str(folder), unread=True)
