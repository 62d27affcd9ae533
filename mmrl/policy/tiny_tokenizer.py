"""The tokenizer of the tiny models: a byte-level BPE, small enough to be trained whenever a model is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY_SIZE = 448  # 256 bytes, the special tokens, and merges: all the corpus can fill

END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"


def tiny_tokenizer(special_tokens: Sequence[str], **attributes: Any) -> PreTrainedTokenizerFast:
    """Any text can be written, the phrases of the corpus shortly. The special tokens have the first ids, in order.

    `attributes`: named tokens a processor looks for, `image_token="<image>"` for example.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[t for t in special_tokens if t not in (END_OF_TEXT, END_OF_TURN)],
        model_max_length=32768,
        **attributes,
    )


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
