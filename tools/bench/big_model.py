"""A model of the shape of Qwen2.5-VL-3B with random weights: for speed, nothing else, and nothing is downloaded.

Sizes are those of the published config (arXiv:2502.13923). The tokenizer is the tiny model's, filled up to the
published vocabulary with entries no text makes, so that every id that is sampled can be decoded.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoProcessor, PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from mmrl.policy.tiny import save_tiny_model

VOCABULARY = 151_936


def config_3b(tiny: Qwen2_5_VLConfig) -> Qwen2_5_VLConfig:
    """3.75 billion parameters: decoder 3.09, tower and merger 0.67. Special token ids are those of `tiny`."""
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128_000,
            "rms_norm_eps": 1e-6,
            "bos_token_id": None,
            "eos_token_id": tiny.get_text_config().eos_token_id,
            "pad_token_id": tiny.get_text_config().pad_token_id,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "out_hidden_size": 2048,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        image_token_id=tiny.image_token_id,
        video_token_id=tiny.video_token_id,
        vision_start_token_id=tiny.vision_start_token_id,
        vision_end_token_id=tiny.vision_end_token_id,
        tie_word_embeddings=True,
    )


def save_big_model(out: Path, *, device: str) -> None:
    """Random weights in bfloat16, made on `device`, saved in Hugging Face layout (7.5 GB)."""
    tiny = out.with_name(f"{out.name}-tiny")
    save_tiny_model(tiny)
    config = config_3b(Qwen2_5_VLConfig.from_pretrained(tiny))
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = Qwen2_5_VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = config.get_text_config().eos_token_id
    model.generation_config.pad_token_id = config.get_text_config().pad_token_id
    model.save_pretrained(out)
    processor = AutoProcessor.from_pretrained(tiny)
    processor.tokenizer = filled_up(processor.tokenizer, VOCABULARY)
    processor.save_pretrained(out)


def filled_up(tokenizer: PreTrainedTokenizerFast, size: int) -> PreTrainedTokenizerFast:
    """The same tokenizer with unused entries up to `size` ids."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    for number in range(len(tokenizer), size):
        vocabulary[f"<unused {number}>"] = number
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        additional_special_tokens=list(tokenizer.special_tokens_map.get("additional_special_tokens", [])),
        model_max_length=tokenizer.model_max_length,
    )
