"""The tiny models are real ones: transformers loads their folders, text round-trips, the seed decides the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrl.errors import ModelError, RunError
from mmrl.policy.families import FAMILIES
from mmrl.policy.load import load_model
from mmrl.policy.tiny import TINY, save_tiny_model
from mmrl.policy.tiny_qwen import SPECIAL_TOKENS
from mmrl.policy.tiny_shape import TinyShape
from mmrl.policy.tiny_tokenizer import VOCABULARY_SIZE, tiny_tokenizer
from tests import toy

TOKENIZER = tiny_tokenizer(SPECIAL_TOKENS)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_any_text_round_trips(text: str) -> None:
    import unicodedata

    normal = unicodedata.normalize("NFC", text)
    assert TOKENIZER.decode(TOKENIZER(text, add_special_tokens=False).input_ids) == normal


def test_vocabulary_is_full_and_specials_come_first() -> None:
    assert len(TOKENIZER) == VOCABULARY_SIZE
    assert [TOKENIZER.convert_tokens_to_ids(t) for t in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))


@pytest.mark.parametrize("family", TINY)
def test_heads_are_large_enough_for_vllm_and_rotary_sections_fill_them(family: str) -> None:
    text: Any = TINY[family](TinyShape()).config.text_config
    size = text.hidden_size // text.num_attention_heads
    assert size >= 32
    assert sum(text.rope_parameters.get("mrope_section", [size // 2])) == size // 2


def test_every_family_has_a_tiny_model() -> None:
    assert TINY.keys() == FAMILIES.keys()


def test_an_unknown_family_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"'qwen25_vl'.*Did you mean 'qwen2_5_vl'"):
        save_tiny_model(tmp_path / "m", family="qwen25_vl")


def test_seed_decides_the_weights(tiny_folder: Path, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "same", seed=1)
    save_tiny_model(tmp_path / "other", seed=2)
    here, same, other = (
        torch.cat([p.detach().flatten() for p in load_model(str(f)).policy.parameters()])
        for f in (tiny_folder, tmp_path / "same", tmp_path / "other")
    )
    assert torch.equal(here, same)
    assert not torch.equal(here, other)


def test_a_model_folder_is_never_overwritten(tiny_folder: Path) -> None:
    with pytest.raises(RunError, match="exists"):
        save_tiny_model(tiny_folder)


def test_saving_and_loading_gives_the_same_weights(tiny_model: toy.LoadedModel, tmp_path: Path) -> None:
    tiny_model.save(tmp_path / "copy")
    again = load_model(str(tmp_path / "copy"))
    for (name, a), (_, b) in zip(tiny_model.policy.named_parameters(), again.policy.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "nowhere", "no such folder"),
        (lambda p: p, r"has no config\.json"),
        (lambda p: _written(p / "file", ""), "is a file"),
        (lambda p: _written(p / "m" / "config.json", '{"model_type": "bert"}').parent, "belongs to no family"),
        (lambda p: _written(p / "m" / "config.json", "{").parent, "no model could be read"),
    ],
)
def test_a_path_that_is_no_model_says_why(make, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(str(make(tmp_path)))


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
