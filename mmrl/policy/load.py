"""Loading and saving a policy in Hugging Face layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging as hf_logging

from mmrl.errors import ConfigError, ModelError
from mmrl.policy.adapters import SavedWeights, save_weights
from mmrl.policy.families import family_of
from mmrl.policy.family import Family
from mmrl.policy.policy import Policy
from mmrl.policy.unread import Unread, unread_model


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A policy with the processor it was published with."""

    policy: Policy
    processor: Any  # the family's Hugging Face processor: tokenizer, image processor, chat template
    unread: Unread | None = None  # where the weights still are; None: in the policy

    def save(self, folder: Path, weights: SavedWeights | None = None) -> None:
        """Write weights, config and processor so that `transformers` and vLLM load the folder as it is.

        Adapters are merged into what is written, and written by themselves to `adapter/`. `weights`: earlier ones of
        this model, to be written instead of the present ones.
        """
        hf_logging.disable_progress_bar()
        save_weights(self.policy.model, folder, weights)
        self.processor.save_pretrained(folder)


def load_model(
    path: str,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    trust_remote_code: bool = False,
    four_bit: bool = False,
    unread: bool = False,
) -> LoadedModel:
    """Load a folder in Hugging Face layout, or a hub name. Raises ModelError saying what is missing.

    Weights are read from safetensors only: other formats can hold code that runs when they are read.
    `trust_remote_code`: run Python code that comes with the model, where its files ask for that. `four_bit`: the
    decoder's linear layers as 4-bit NormalFloat (QLoRA, arXiv:2305.14314), constants that adapters train beside; tower,
    projector, embeddings and head stay in `dtype`. `unread`: leave the weights in their files, where the model's layout
    allows it, for a backend that spreads them over ranks (`policy/unread.py`).
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
    left: Unread | None = None
    quantized = {"quantization_config": _four_bits(config, family, dtype)} if four_bit else {}
    try:
        found = unread_model(path, config, dtype=dtype, device=device) if unread and not trust_remote_code else None
        if found is not None:
            model, left = found
        else:
            model = AutoModelForImageTextToText.from_pretrained(
                path,
                **quantized,
                dtype=dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                **({"device_map": {"": device}} if four_bit else {}),
            )
        processor = AutoProcessor.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: the model could not be loaded: {_first_line(error)}") from error
    policy = Policy(model, family)
    return LoadedModel(policy=policy if four_bit else policy.to(device), processor=processor, unread=left)


def _four_bits(config: Any, family: Family, dtype: torch.dtype) -> Any:
    """What transformers is told about which layers become 4-bit. Raises ConfigError without bitsandbytes."""
    from transformers import BitsAndBytesConfig

    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "model.four_bit needs bitsandbytes, which is not installed here. pip install 'mmrl[quantized]', or set "
            "model.four_bit: false."
        ) from error
    with torch.device("meta"):
        shape = AutoModelForImageTextToText.from_config(config)
    decoder = {id(module) for module in family.language_model(shape).modules()}
    kept = [
        name for name, module in shape.named_modules() if isinstance(module, nn.Linear) and id(module) not in decoder
    ]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=kept,  # its name for 4 bits too
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
