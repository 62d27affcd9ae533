"""Tiny LFM2-VL: config and processor in the shape of the published one."""

from __future__ import annotations

from transformers import Lfm2VlConfig, Lfm2VlForConditionalGeneration, Lfm2VlImageProcessor, Lfm2VlProcessor

from mmrl.policy.tiny_shape import TinyModel, TinyShape
from mmrl.policy.tiny_tokenizer import END_OF_TEXT, END_OF_TURN, VOCABULARY_SIZE, tiny_tokenizer

# The special tokens, in the order of the published model's; those for tiles are left out with the tiles.
SPECIAL_TOKENS = (
    "<|startoftext|>",
    END_OF_TEXT,
    "<|im_start|>",
    END_OF_TURN,
    "<image>",
    "<|image_start|>",
    "<|image_end|>",
    "<|img_thumbnail|>",
)

# ChatML after a token that starts the text.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def lfm2_vl(shape: TinyShape) -> TinyModel:
    """Convolutions in every second layer of the decoder, attention in the others; a SigLIP 2 tower."""
    config = Lfm2VlConfig(
        text_config={
            "vocab_size": VOCABULARY_SIZE,
            "hidden_size": shape.hidden_size,
            "intermediate_size": shape.hidden_size * 2,
            "block_auto_adjust_ff_dim": False,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.key_value_heads,
            "layer_types": ["full_attention" if i % 2 or shape.layers == 1 else "conv" for i in range(shape.layers)],
            "max_position_embeddings": 32768,
            "initializer_range": shape.initializer_range,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "bos_token_id": SPECIAL_TOKENS.index("<|startoftext|>"),
            "eos_token_id": SPECIAL_TOKENS.index(END_OF_TURN),
            "pad_token_id": SPECIAL_TOKENS.index(END_OF_TEXT),
        },
        vision_config={
            "hidden_size": shape.vision_hidden_size,
            "intermediate_size": shape.vision_hidden_size * 2,
            "num_hidden_layers": shape.vision_depth,
            "num_attention_heads": 4,
            "patch_size": 16,
            "num_patches": 64,
            "vision_use_head": False,
        },
        image_token_id=SPECIAL_TOKENS.index("<image>"),
        projector_hidden_size=shape.hidden_size,
        downsample_factor=2,
    )
    processor = Lfm2VlProcessor(
        image_processor=Lfm2VlImageProcessor(do_image_splitting=False, min_image_tokens=4, max_image_tokens=256),
        tokenizer=tiny_tokenizer(SPECIAL_TOKENS, bos_token="<|startoftext|>"),
        chat_template=CHAT_TEMPLATE,
    )
    return TinyModel(config=config, build=Lfm2VlForConditionalGeneration, processor=processor)
