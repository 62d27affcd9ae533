"""The cost of a pass by hand, and the choices that follow from it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mmrl.policy.attention import Kernel
from mmrl.policy.cost import DecoderShape, pass_cost
from mmrl.policy.packed import Part, micro_batches, split_groups
from mmrl.types import Prompt, RolloutGroup
from tests import toy

SHAPE = DecoderShape(weights=100, layers=2, width=8)


def group(prompt: int, lengths: list[int]) -> RolloutGroup:
    rollouts = tuple(toy.rollout([5] * n, index=i) for i, n in enumerate(lengths))
    return RolloutGroup(
        prompt=Prompt(sample=toy.choice_sample("s"), text="", token_ids=(1,) * prompt), rollouts=rollouts
    )


def packed(groups: list[RolloutGroup], *, most_branches: int = 1000) -> list[list[Part]]:
    return micro_batches(split_groups(groups, 10_000, most_branches=most_branches), 10_000)


def test_the_decoder_s_weights_by_hand() -> None:
    text = SimpleNamespace(
        hidden_size=16, num_attention_heads=4, num_key_value_heads=2, intermediate_size=32, num_hidden_layers=3
    )
    # queries 16·16, keys and values 16·8 each, output 16·16; gate, up and down 3·16·32; three layers
    shape = DecoderShape.of(SimpleNamespace(get_text_config=lambda: text))
    assert shape == DecoderShape(weights=3 * (256 + 256 + 256 + 1536), layers=3, width=16)


def test_a_packed_row_by_hand() -> None:
    """A prompt of 10 and two completions of 5 tokens, of which 4 are computed: 18 positions."""
    parts = packed([group(10, [5, 5])])
    per_pair = 4 * 2 * 8
    assert pass_cost(parts, "sdpa", SHAPE) == 2 * 100 * 18 + per_pair * 18**2
    assert pass_cost(parts, "split", SHAPE) == 2 * 100 * 18 + per_pair * (50 + 80 + 2 * 8)


def test_the_repeated_layout_by_hand() -> None:
    parts = packed([group(10, [5, 5])], most_branches=1)
    assert [[len(p.branches) for p in micro] for micro in parts] == [[1, 1]]
    assert pass_cost(parts, "sdpa", SHAPE) == 2 * 100 * 28 + 4 * 2 * 8 * 2 * 14**2


@pytest.mark.parametrize(
    ("prompt", "length", "kernel", "packed_is_cheaper"),
    [
        (1000, 50, "sdpa", True),
        (1000, 50, "split", True),
        (10, 500, "sdpa", False),  # the dense mask would be 4,000 wide
        (10, 500, "split", True),
    ],
)
def test_which_layout_is_cheaper(prompt: int, length: int, kernel: Kernel, packed_is_cheaper: bool) -> None:
    groups = [group(prompt, [length] * 8)]
    together = pass_cost(packed(groups), kernel, SHAPE)
    alone = pass_cost(packed(groups, most_branches=1), kernel, SHAPE)
    assert (together < alone) == packed_is_cheaper
