"""The model of `gpu.py`: the published sizes, and a tokenizer that can decode every id that is sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from mmrl.policy.load import load_model
from tools.bench import big_model
from tools.bench.flops import Shape


def test_shape_is_that_of_qwen2_5_vl_3b(tiny_folder: Path) -> None:
    config = big_model.config_3b(Qwen2_5_VLConfig.from_pretrained(tiny_folder))
    with torch.device("meta"):
        model: Any = Qwen2_5_VLForConditionalGeneration(config)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.model.named_children()}
    assert count["language_model"] == 3_085_938_688
    assert sum(p.numel() for p in model.parameters()) == 3_754_622_976  # the published checkpoint's, head tied
    # Two operations per weight and token, embeddings and the small vectors (norms, biases) apart.
    body = count["language_model"] - 151_936 * 2048
    assert Shape.of(config).per_token == pytest.approx(2 * body, rel=1e-4)


def test_tokenizer_is_filled_up_to_the_vocabulary(tiny_folder: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_folder)
    filled = big_model.filled_up(tokenizer, 1000)
    text = "<think>It looks like a 7.</think><|im_end|>"
    assert len(filled) == 1000
    assert filled(text).input_ids == tokenizer(text).input_ids
    assert (filled.eos_token_id, filled.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert filled.decode([999])


def test_saved_model_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(tiny: Qwen2_5_VLConfig) -> Qwen2_5_VLConfig:
        tiny.get_text_config().vocab_size = 600
        return tiny

    monkeypatch.setattr(big_model, "config_3b", small)
    monkeypatch.setattr(big_model, "VOCABULARY", 600)
    big_model.save_big_model(tmp_path / "model", device="cpu")
    loaded = load_model(str(tmp_path / "model"), dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.policy.parameters()} == {torch.bfloat16}
    assert len(loaded.processor.tokenizer) == 600
    assert torch.get_default_dtype() == torch.float32
