"""What differs between model architectures. Those mmrl knows: `families.py`. How to add one: docs/families.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Int
from torch import Tensor, nn

from mmrl.policy.spelling import ShownItem, Spelling, spell_whole
from mmrl.types import Prompt

Grid = tuple[int, int, int]  # patches of a picture or clip: (time, height, width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One architecture line. Every function is pure but `prepare`, which is called once after loading.

    `config` is the Hugging Face config of the model, `model` the Hugging Face model with its head.
    """

    name: str
    model_types: tuple[str, ...]  # `model_type` of the config files it serves
    # Whether completions of one prompt may share its row: the decoder sees other tokens through attention only, and
    # takes any mask. False: each completion has a row of its own, and a cache of its own when sampled.
    packs: bool
    media: tuple[Literal["image", "video"], ...]  # what it can be shown
    coordinates: str  # what its boxes and points are written in, for people

    prompt_positions: Callable[[Prompt, Any], Int[Tensor, "3 P"]]  # (prompt, config) → rotary positions
    # (model, patches [S, F], grids) → features [K, N, D], item after item. Level 0 goes into the embeddings, level k is
    # added to the hidden states after decoder layer k (the first is 1; DeepStack, arXiv:2406.04334); K = 1 where a
    # family has no deeper levels.
    encode_vision: Callable[[nn.Module, Tensor, Sequence[Grid]], Tensor]
    language_model: Callable[[nn.Module], nn.Module]  # the decoder without its head
    token_embedding: Callable[[nn.Module], nn.Module]
    merge_size: Callable[[Any], int]  # config → side of the square of patches that becomes one visual token
    never_sampled: Callable[
        [Any, Any], frozenset[int]
    ]  # (config, tokenizer) → ids that stand for media or enclose them
    # (processor, picture, least and most pixels of the area after resizing) → patches [S, F] and grid
    cut: Callable[[Any, Any, int | None, int | None], tuple[Tensor, Grid]]
    # How the chat's text shows an item: one run of visual tokens where the placeholder stands, unless the family says.
    spell: Callable[[ShownItem], Spelling] = spell_whole
    # Whether a clip is a run of visual tokens for each of its grid times, each between marks; False: one run for all.
    run_per_time: bool = False
    spoken_size: Callable[[Grid, Any], tuple[float, float]]  # (grid, config) → what it calls the right and lower edge
    vision_parts: Callable[[nn.Module], dict[str, tuple[nn.Module, ...]]]  # part name → modules, for freezing
    # Whether `encode_vision` runs the tower once for every size among the grids; False: once for all.
    tower_runs_per_size: bool = False
    prepare: Callable[[nn.Module], None]  # exact but faster submodules in place of slow ones
