"""From a config's words to an algorithm, and what it says when a word is wrong."""

from __future__ import annotations

from dataclasses import fields

import pytest

from mmrl.algorithms.build import build_algorithm
from mmrl.algorithms.catalog import ALGORITHMS, PARTS
from mmrl.algorithms.grpo import GRPO
from mmrl.credit.filters import MaskTruncated
from mmrl.errors import ConfigError
from mmrl.objective.surrogate import Clipped


def test_a_name_is_the_catalogue_s_entry() -> None:
    assert build_algorithm("grpo") is GRPO


def test_slots_are_replaced_and_hyper_parameters_changed() -> None:
    built = build_algorithm(
        {"base": "grpo", "divergence": {"type": "none"}, "surrogate": {"clip_high": 0.28}, "loss_mask": ["truncated"]}
    )
    assert built.surrogate == Clipped(clip_low=0.2, clip_high=0.28)
    assert built.loss_mask == (MaskTruncated(),)
    assert not built.needs_reference


def test_a_whole_number_serves_where_a_number_is_wanted() -> None:
    built = build_algorithm({"base": "grpo", "surrogate": {"clip_high": 1}})
    assert built.surrogate == Clipped(clip_low=0.2, clip_high=1.0)


def test_every_part_s_hyper_parameters_can_be_written_in_yaml() -> None:
    for slot, parts in PARTS.items():
        for kind in parts.values():
            assert {str(f.type) for f in fields(kind)} <= {"float", "int", "bool", "str"}, (slot, kind)


def test_grpo_asks_for_a_reference_and_dapo_does_not() -> None:
    assert GRPO.needs_reference
    assert not ALGORITHMS["dapo"].needs_reference


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("grop", "Did you mean 'grpo'"),
        ({"divergence": "none"}, "give a base"),
        ({"base": "grpo", "divergense": "none"}, "Did you mean 'divergence'"),
        ({"base": "grpo", "surrogate": {"clip_hi": 1}}, "Did you mean 'clip_high'"),
        ({"base": "grpo", "surrogate": {"clip_high": "wide"}}, "expected a number"),
        ({"base": "grpo_care", "reference": {"every": 2.5}}, "expected a whole number"),
        ({"base": "apo", "reweight": [{"type": "stcr", "only_negative": 1}]}, "expected true or false"),
        ({"base": "apo", "divergence_weight": [{"type": "dads", "form": "hard"}]}, "unknown form 'hard'"),
        ({"base": "grpo", "reference": {"type": "ema", "every": 0}}, "at least 1"),
        ({"base": "grpo", "advantage": {"type": "mean"}}, "unknown type 'mean'"),
        ({"base": "grpo", "filters": "mixed_correctness"}, "holds a list"),
        ({"base": "dapo", "divergence": "k3"}, "needs a reference policy"),
    ],
)
def test_mistakes_name_the_slot_and_the_way_out(spec: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_algorithm(spec)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_catalogue_entries_carry_their_name_and_paper(name: str) -> None:
    algorithm = ALGORITHMS[name]
    assert algorithm.name == name
    assert algorithm.paper
    assert algorithm.summary.endswith(".")


def test_every_slot_of_an_algorithm_has_a_table_of_parts() -> None:
    slots = {f.name for f in fields(GRPO)} - {"name", "title", "paper", "summary"}
    assert slots == set(PARTS)
