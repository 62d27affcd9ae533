"""A real Qwen2.5-VL that trains in a minute on two cores: to try a recipe, and for the tests.

Architecture, processor, chat template and file layout are those of the published models; only sizes, weights (random)
and vocabulary (a byte-level BPE trained on the corpus below) are its own. `transformers` and vLLM load it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from mmrl.errors import RunError

# The special tokens of the Qwen vision models, in their order.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# ChatML with vision marks, as the Qwen vision models are prompted; the plain string content is for text-only turns.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

VOCABULARY_SIZE = 448  # 256 bytes, the special tokens, and merges: all the corpus can fill

INITIALIZER_RANGE = 0.06  # wider than the published 0.02, which suits hidden sizes in the thousands


def tiny_config(
    *,
    hidden_size: int = 128,
    layers: int = 3,
    heads: int = 4,
    key_value_heads: int = 2,
    vision_depth: int = 2,
    vision_hidden_size: int = 128,
) -> Qwen2_5_VLConfig:
    """The shape. `hidden_size / heads` must be at least 32: vLLM's CPU attention has no smaller heads.

    The multimodal rotary sections (time, height, width) share half of the head size in the ratio 1 : 1.5 : 1.5, as the
    published models do.
    """
    half = hidden_size // heads // 2
    time = half // 4
    height = (half - time) // 2
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY_SIZE,
            "hidden_size": hidden_size,
            "intermediate_size": hidden_size * 2,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": key_value_heads,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "initializer_range": INITIALIZER_RANGE,
            "bos_token_id": None,
            "eos_token_id": _special_id("<|im_end|>"),
            "pad_token_id": _special_id("<|endoftext|>"),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [time, height, half - time - height],
            },
        },
        vision_config={
            "depth": vision_depth,
            "hidden_size": vision_hidden_size,
            "intermediate_size": vision_hidden_size * 2,
            "num_heads": 4,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "out_hidden_size": hidden_size,
            "fullatt_block_indexes": [vision_depth - 1],
        },
        image_token_id=_special_id("<|image_pad|>"),
        video_token_id=_special_id("<|video_pad|>"),
        vision_start_token_id=_special_id("<|vision_start|>"),
        vision_end_token_id=_special_id("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def save_tiny_model(
    out: Path,
    *,
    hidden_size: int = 128,
    layers: int = 3,
    heads: int = 4,
    key_value_heads: int = 2,
    vision_depth: int = 2,
    vision_hidden_size: int = 128,
    seed: int = 0,
) -> int:
    """Make a tiny model and save it in Hugging Face layout; returns its number of parameters.

    Raises RunError when `out` exists: a model folder is never overwritten.
    """
    if out.exists():
        raise RunError(f"{out} exists. A model is never overwritten: choose another folder, or remove it first.")
    config = tiny_config(
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        key_value_heads=key_value_heads,
        vision_depth=vision_depth,
        vision_hidden_size=vision_hidden_size,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    aside = out.with_name(f".{out.name}.partial")
    model.generation_config.eos_token_id = _special_id("<|im_end|>")
    model.generation_config.pad_token_id = _special_id("<|endoftext|>")
    model.save_pretrained(aside)
    tiny_processor().save_pretrained(aside)
    aside.rename(out)
    return sum(p.numel() for p in model.parameters())


def tiny_processor() -> Qwen2_5_VLProcessor:
    """Image processor, video processor and tokenizer of the tiny model."""
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=28 * 28 * 4096),
        video_processor=Qwen2VLVideoProcessor(min_pixels=56 * 56, max_pixels=28 * 28 * 4096),
        tokenizer=tiny_tokenizer(),
        chat_template=CHAT_TEMPLATE,
    )


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE: any text can be written, the phrases of the corpus shortly."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in ("<|endoftext|>", "<|im_end|>")],
        model_max_length=32768,
    )


def _special_id(token: str) -> int:
    return SPECIAL_TOKENS.index(token)


def _corpus() -> Iterator[str]:
    """The phrases whose pieces become tokens: the forms that are asked for, and plain words of such tasks."""
    forms = ("<think>", "</think>", "<answer>", "</answer>", "</think><answer>", "user", "assistant", "system")
    words = (
        "Let me look at the picture. It looks like a zero one two three four five six seven eight nine. I see a "
        "Which digit is written here? How many are there? Options: left right top bottom red green blue square circle. "
        "Think inside <think></think>, then give the letter inside <answer></answer>. Give the number, the box, the "
        "point, the result, the seconds, a short answer. Think step by step. What is in this picture? Where is it?"
    )
    for _ in range(8):
        yield from forms
        yield words
        yield "\n".join(f"{chr(65 + i)}. {i}" for i in range(10))
