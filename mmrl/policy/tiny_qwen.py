"""Tiny Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5: configs and processors in the shape of the published ones."""

from __future__ import annotations

from typing import Any

from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from mmrl.policy.tiny_shape import TinyModel, TinyShape
from mmrl.policy.tiny_tokenizer import END_OF_TEXT, END_OF_TURN, VOCABULARY_SIZE, tiny_tokenizer

# The special tokens of the Qwen vision models, in their order.
SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<|im_start|>",
    END_OF_TURN,
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


def qwen2_vl(shape: TinyShape) -> TinyModel:
    """Full attention over each picture or frame in every layer of the tower; time counted in grid times."""
    config = Qwen2VLConfig(
        text_config=_text(shape),
        vision_config={
            "depth": shape.vision_depth,
            "embed_dim": shape.vision_hidden_size,
            "hidden_size": shape.hidden_size,
            "num_heads": 4,
            "mlp_ratio": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        **_special_ids(),
    )
    return TinyModel(config=config, build=Qwen2VLForConditionalGeneration, processor=_processor(Qwen2VLProcessor))


def qwen2_5_vl(shape: TinyShape) -> TinyModel:
    """Window attention in all layers of the tower but the last; time counted in half seconds."""
    config = Qwen2_5_VLConfig(
        text_config=_text(shape),
        vision_config={
            "depth": shape.vision_depth,
            "hidden_size": shape.vision_hidden_size,
            "intermediate_size": shape.vision_hidden_size * 2,
            "num_heads": 4,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "out_hidden_size": shape.hidden_size,
            "fullatt_block_indexes": [shape.vision_depth - 1],
        },
        **_special_ids(),
    )
    return TinyModel(config=config, build=Qwen2_5_VLForConditionalGeneration, processor=_processor(Qwen2_5_VLProcessor))


def qwen3_vl(shape: TinyShape) -> TinyModel:
    """Patches of 16 pixels, learned positions in the tower, features from its layers into as many of the decoder's."""
    text = _text(shape)
    text["head_dim"] = shape.hidden_size // shape.heads
    text["rope_parameters"]["mrope_interleaved"] = True
    levels = min(shape.vision_depth, shape.layers) - 1
    config = Qwen3VLConfig(
        text_config=text,
        vision_config={
            "depth": shape.vision_depth,
            "hidden_size": shape.vision_hidden_size,
            "intermediate_size": shape.vision_hidden_size * 2,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": shape.hidden_size,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": list(range(levels)),
        },
        **_special_ids(),
    )
    return TinyModel(config=config, build=Qwen3VLForConditionalGeneration, processor=_processor_of_16())


def qwen3_5(shape: TinyShape) -> TinyModel:
    """Qwen3-VL's tower without deeper levels; gated delta layers in the decoder, every second one attention."""
    text = _text(shape)
    text["head_dim"] = head = shape.hidden_size // shape.heads
    text["rope_parameters"] |= {"mrope_interleaved": True, "partial_rotary_factor": 1.0}
    text["layer_types"] = [
        "full_attention" if i % 2 or shape.layers == 1 else "linear_attention" for i in range(shape.layers)
    ]
    text |= {"linear_key_head_dim": head, "linear_value_head_dim": head}
    text |= {"linear_num_key_heads": shape.key_value_heads, "linear_num_value_heads": shape.heads}
    config = Qwen3_5Config(
        text_config=text,
        vision_config={
            "depth": shape.vision_depth,
            "hidden_size": shape.vision_hidden_size,
            "intermediate_size": shape.vision_hidden_size * 2,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": shape.hidden_size,
            "num_position_embeddings": 64,
        },
        **_special_ids(),
    )
    return TinyModel(config=config, build=Qwen3_5ForConditionalGeneration, processor=_processor_of_16())


def _processor_of_16() -> Qwen3VLProcessor:
    """Processor of Qwen3-VL and Qwen3.5: patches of 16 pixels."""
    half = [0.5, 0.5, 0.5]
    size = {"shortest_edge": 64 * 64, "longest_edge": 32 * 32 * 4096}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, size=size, image_mean=half, image_std=half),
        video_processor=Qwen3VLVideoProcessor(size=size, image_mean=half, image_std=half, cap_pixels_per_frame=True),
        tokenizer=_tokenizer(),
        chat_template=CHAT_TEMPLATE,
    )


def _text(shape: TinyShape) -> dict[str, Any]:
    """The decoder's config.

    The multimodal rotary sections (time, height, width) share half of the head size in the ratio 1 : 1.5 : 1.5, as the
    published models do.
    """
    half = shape.hidden_size // shape.heads // 2
    time = half // 4
    height = (half - time) // 2
    return {
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.hidden_size * 2,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "initializer_range": shape.initializer_range,
        "bos_token_id": None,
        "eos_token_id": SPECIAL_TOKENS.index(END_OF_TURN),
        "pad_token_id": SPECIAL_TOKENS.index(END_OF_TEXT),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [time, height, half - time - height],
        },
    }


def _special_ids() -> dict[str, Any]:
    return {
        "image_token_id": SPECIAL_TOKENS.index("<|image_pad|>"),
        "video_token_id": SPECIAL_TOKENS.index("<|video_pad|>"),
        "vision_start_token_id": SPECIAL_TOKENS.index("<|vision_start|>"),
        "vision_end_token_id": SPECIAL_TOKENS.index("<|vision_end|>"),
        "tie_word_embeddings": True,
    }


def _processor(kind: Any) -> Any:
    """Processor of Qwen2-VL and Qwen2.5-VL: patches of 14 pixels."""
    return kind(
        image_processor=Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=28 * 28 * 4096),
        video_processor=Qwen2VLVideoProcessor(min_pixels=56 * 56, max_pixels=28 * 28 * 4096),
        tokenizer=_tokenizer(),
        chat_template=CHAT_TEMPLATE,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer(SPECIAL_TOKENS)
