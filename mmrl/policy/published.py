"""The sizes of published models, so that a run can be planned before its model is on the disk.

As their config files on the hub have them; the numbers of parameters that come of these are those the hub states
(`tests/forecast/test_forecast.py`). Only what sizes depend on is here: nothing can be loaded from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TOWER_2 = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "patch_size": 14}
_TOWER_2_5 = {
    **{"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14},
    **{"window_size": 112, "tokens_per_second": 2, "fullatt_block_indexes": [7, 15, 23, 31]},
}
_TOWER_3 = {
    **{"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16},
    **{"num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17]},
}
_LARGE_TOWER_3 = {
    **{"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16},
    **{"num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24]},
}


def _text(hidden: int, inner: int, layers: int, heads: int, key_value_heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "vocab_size": vocabulary,
    }


def _qwen3(hidden: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return {**_text(hidden, inner, layers, heads, 8, 151_936), "head_dim": 128}


# Hub name → what its config's class is given. A name without "-Instruct" or "-Thinking" is the same architecture.
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "Qwen/Qwen2-VL-2B-Instruct": {
        "model_type": "qwen2_vl",
        "text_config": _text(1536, 8960, 28, 12, 2, 151_936),
        "vision_config": {**_TOWER_2, "hidden_size": 1536},
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2-VL-7B-Instruct": {
        "model_type": "qwen2_vl",
        "text_config": _text(3584, 18944, 28, 28, 4, 152_064),
        "vision_config": {**_TOWER_2, "hidden_size": 3584},
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen2.5-VL-3B-Instruct": {
        "model_type": "qwen2_5_vl",
        "text_config": _text(2048, 11008, 36, 16, 2, 151_936),
        "vision_config": {**_TOWER_2_5, "out_hidden_size": 2048},
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "model_type": "qwen2_5_vl",
        "text_config": _text(3584, 18944, 28, 28, 4, 152_064),
        "vision_config": {**_TOWER_2_5, "out_hidden_size": 3584},
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen3-VL-2B-Instruct": {
        "model_type": "qwen3_vl",
        "text_config": _qwen3(2048, 6144, 28, 16),
        "vision_config": {**_TOWER_3, "out_hidden_size": 2048},
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-VL-4B-Instruct": {
        "model_type": "qwen3_vl",
        "text_config": _qwen3(2560, 9728, 36, 32),
        "vision_config": {**_TOWER_3, "out_hidden_size": 2560},
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-VL-8B-Instruct": {
        "model_type": "qwen3_vl",
        "text_config": _qwen3(4096, 12288, 36, 32),
        "vision_config": {**_LARGE_TOWER_3, "out_hidden_size": 4096},
        "tie_word_embeddings": False,
    },
}
