"""A policy whose weights are still in their files: modules, shapes and names, and no memory.

Every parameter is one zero that is shown in all of its places. Who spreads weights over ranks reads them one at a time
(`backend/spread.py`), so that no process ever holds the whole model. transformers itself builds the model, from a state
dict of such tensors: names, ties, buffers and what it makes up for missing weights are its own. Which file's tensor
became which parameter is told by where the shared zero lies in memory.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, GenerationConfig

from mmrl.errors import ModelError
from mmrl.policy.policy import Policy

FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Where the weights of a policy are."""

    files: Mapping[str, Path]  # tensor's name in the files → the file
    names: Mapping[str, str]  # parameter's name in the Hugging Face model → tensor's name in the files
    dtype: torch.dtype

    def key(self, name: str) -> str:
        """The tensor of a parameter, behind an adapter too; empty where the parameter is in no file."""
        return self.names.get(name.replace(".base_layer.", "."), "")

    def read(self, name: str) -> Tensor:
        """The parameter's value, on the processor, in the policy's number format."""
        key = self.key(name)
        # Opened for each: pages of a mapped file count as this process's memory until it is closed.
        with safe_open(self.files[key], framework="pt") as opened:
            value: Tensor = opened.get_tensor(key).to(self.dtype, copy=True)
        return value


def unread_model(path: str, config: Any, *, dtype: torch.dtype, device: str) -> tuple[nn.Module, Unread] | None:
    """The Hugging Face model of a folder or hub name; None where it does not take the files' tensors as they are.

    transformers puts some models together from several tensors each; those have to be read whole.
    """
    folder = _folder_of(path)
    files = _weight_files(folder)
    zeros = _zeros(files, dtype)
    with torch.device("meta"):
        kind: Any = type(AutoModelForImageTextToText.from_config(config))
    model, info = kind.from_pretrained(
        None, config=config, state_dict=dict(zeros), dtype=dtype, attn_implementation="sdpa", output_loading_info=True
    )
    places = {value.data_ptr(): key for key, value in zeros.items()}
    names: dict[str, str] = {}
    for name, parameter in model.named_parameters():
        key = places.get(parameter.data_ptr())
        if key is not None:
            names[name] = key
        elif name not in info["missing_keys"]:
            return None
    unread = Unread(files=files, names=names, dtype=dtype)
    for name, buffer in model.named_buffers():
        if (key := places.get(buffer.data_ptr())) is not None:
            buffer.data = Unread(files=files, names={name: key}, dtype=buffer.dtype).read(name)
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.data = _zero(parameter.shape, dtype, device)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model, unread


def copy_unread(policy: Policy, unread: Unread) -> Policy:
    """A policy of its own with as little memory: a plain copy would write the zeros out."""
    memo: dict[int, Any] = {}
    for name, parameter in policy.model.named_parameters():
        if unread.key(name):
            zero = _zero(parameter.shape, parameter.dtype, str(parameter.device))
            memo[id(parameter)] = nn.Parameter(zero, requires_grad=parameter.requires_grad)
    return copy.deepcopy(policy, memo)


def _zero(shape: torch.Size, dtype: torch.dtype, device: str) -> Tensor:
    return torch.zeros((), dtype=dtype, device=device).expand(shape)


def _zeros(files: Mapping[str, Path], dtype: torch.dtype) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in sorted(set(files.values())):
        with safe_open(path, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118  it is no mapping
                piece = opened.get_slice(key)
                if piece.get_dtype() in FLOATS:
                    found[key] = _zero(torch.Size(piece.get_shape()), dtype, "cpu")
                else:
                    found[key] = opened.get_tensor(key)
    return found


def _folder_of(path: str) -> Path:
    if Path(path).exists():
        return Path(path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(path, allow_patterns=["*.safetensors", "*.json"]))


def _weight_files(folder: Path) -> dict[str, Path]:
    """Tensor's name → its file, of a model in one file or in several with an index."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        listed: dict[str, str] = json.loads(index.read_text())["weight_map"]
        return {key: folder / name for key, name in listed.items()}
    if not single.is_file():
        raise ModelError(f"{folder}: no safetensors there (neither {single.name} nor {index.name}).")
    with safe_open(single, framework="pt") as opened:
        return dict.fromkeys(opened.keys(), single)
