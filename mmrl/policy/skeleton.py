"""A policy without weights: every parameter has its name, shape and number format, and no memory (torch's meta device).

What is counted on it is what the real model has, adapters and frozen parts included, because the same code makes both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from mmrl.errors import ModelError
from mmrl.policy.families import family_of
from mmrl.policy.policy import Policy
from mmrl.policy.published import PUBLISHED
from mmrl.policy.tiny import tiny_config, tiny_processor


def architecture(path: str | None, tiny: dict[str, Any] | None = None) -> Any:
    """The Hugging Face config of a model folder, a published model by its hub name, or a tiny model by its settings.

    Nothing is fetched and no weights are read. Raises ModelError where the sizes are not known here.
    """
    if tiny is not None:
        return tiny_config(**tiny)
    assert path is not None
    folder = Path(path)
    if (folder / "config.json").is_file():
        return AutoConfig.from_pretrained(folder)
    if folder.exists() or path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise ModelError(f"{path}: there is no config.json. Give a model folder, or a hub name (owner/model).")
    known = PUBLISHED.get(path)
    if known is None:
        raise ModelError(
            f"{path}: its sizes are not known here. Fetch its config.json alone and give its folder with "
            f"--model-config. Known by name: {', '.join(PUBLISHED)}."
        )
    sizes = dict(known)
    return AutoConfig.for_model(**sizes)


def skeleton(config: Any, *, dtype: torch.dtype) -> Policy:
    """The policy of this config on the meta device."""
    family = family_of(config.model_type, where="the model")
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa")
        return Policy(model, family).to(dtype)


def processor_of(path: str | None, tiny: dict[str, Any] | None = None) -> Any:
    """The model's processor, where it is here: a tiny model's, or a folder's. None for a hub name."""
    if tiny is not None:
        return tiny_processor(**tiny)
    if path is None or not (Path(path) / "preprocessor_config.json").is_file():
        return None
    return AutoProcessor.from_pretrained(path)


def save_shallow(path: str, out: Path, *, layers: int, blocks: int) -> None:
    """A model with the first layers of the one in folder `path`, as wide, with random weights; and its processor."""
    config = AutoConfig.from_pretrained(path)
    text, vision = config.get_text_config(), config.vision_config
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    name = "depth" if hasattr(vision, "depth") else "num_hidden_layers"
    setattr(vision, name, blocks)
    if hasattr(vision, "fullatt_block_indexes"):
        vision.fullatt_block_indexes = [blocks - 1]
    if hasattr(vision, "deepstack_visual_indexes"):
        vision.deepstack_visual_indexes = [i for i in vision.deepstack_visual_indexes if i < min(blocks, layers)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config)
    model.save_pretrained(out)
    AutoProcessor.from_pretrained(path).save_pretrained(out)
