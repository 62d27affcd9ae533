"""Loading and saving a policy in Hugging Face layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging as hf_logging

from mmrl.errors import ModelError
from mmrl.policy.adapters import SavedWeights, save_weights
from mmrl.policy.families import family_of
from mmrl.policy.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A policy with the processor it was published with."""

    policy: Policy
    processor: Any  # the family's Hugging Face processor: tokenizer, image processor, chat template

    def save(self, folder: Path, weights: SavedWeights | None = None) -> None:
        """Write weights, config and processor so that `transformers` and vLLM load the folder as it is.

        Adapters are merged into what is written, and written by themselves to `adapter/`. `weights`: earlier ones of
        this model, to be written instead of the present ones.
        """
        hf_logging.disable_progress_bar()
        save_weights(self.policy.model, folder, weights)
        self.processor.save_pretrained(folder)


def load_model(
    path: str, *, dtype: torch.dtype = torch.float32, device: str = "cpu", trust_remote_code: bool = False
) -> LoadedModel:
    """Load a folder in Hugging Face layout, or a hub name. Raises ModelError saying what is missing.

    Weights are read from safetensors only: other formats can hold code that runs when they are read.
    `trust_remote_code`: run Python code that comes with the model, where its files ask for that.
    """
    hf_logging.disable_progress_bar()
    folder = Path(path)
    if folder.exists() and not (folder / "config.json").is_file():
        what = "is a file" if folder.is_file() else "has no config.json"
        raise ModelError(f"{path}: no model there ({what}). Give a folder in Hugging Face layout, or a hub name.")
    if not folder.exists() and (path.startswith((".", "/", "~")) or path.count("/") != 1):
        raise ModelError(f"{path}: no such folder. Give a folder in Hugging Face layout, or a hub name (owner/model).")
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: no model could be read there: {_first_line(error)}") from error
    family = family_of(config.model_type, where=path)
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
        )
        processor = AutoProcessor.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: the model could not be loaded: {_first_line(error)}") from error
    return LoadedModel(policy=Policy(model, family).to(device), processor=processor)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
