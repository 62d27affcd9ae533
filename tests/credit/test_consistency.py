"""GRPO-CARE's bonus by numbers worked by hand, and the answer's span whatever the tokenizer does to the tags."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from mmrl.algorithms.grpo_care import GRPO_CARE
from mmrl.batch import Streams
from mmrl.credit.answer_span import answer_span
from mmrl.credit.consistency import ConsistencyBonus, answer_likelihood
from mmrl.errors import ConfigError
from mmrl.types import ScoredGroup
from tests import toy
from tests.credit.worked import credit_input

ACCURACY = [1.0, 1, 1, 0, 0, 1, 0, 0]
FORMAT = [1.0, 1, 1, 1, 1, 1, 0, 1]
MEAN_LOGPROB = [-0.02, -0.7, -0.16, -0.05, -0.3, -0.105, -0.9, -0.4]


def care_group() -> ScoredGroup:
    totals = [a + f for a, f in zip(ACCURACY, FORMAT, strict=True)]
    return toy.scored(toy.scored_lengths("care", totals, [3] * 8).group, totals, accuracy=ACCURACY)


def care_streams() -> Streams:
    """Three tokens: reasoning, then a two-token answer whose log-probabilities have the given means."""
    means = torch.tensor(MEAN_LOGPROB)
    ref = torch.stack([torch.full((8,), -3.0), means - 0.01, means + 0.01], dim=1)
    return Streams(ref_logprobs=ref, answer_span=torch.tensor([[0, 2, 2]] * 8))


@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_bonus_goes_to_accurate_rollouts_at_or_above_their_peers_mean(margin: float) -> None:
    """p = 0.95 (capped), 0.496585, 0.852144, 0.900325 for the four correct ones; mean 0.799763."""
    table, context = credit_input(care_group(), streams=care_streams())
    assert ConsistencyBonus(margin=margin)(table, context).tolist() == [0.5, 0, 0.5, 0, 0, 0.5, 0, 0]


def test_care_s_advantages() -> None:
    batch = GRPO_CARE.credit([care_group()], streams=care_streams(), max_tokens=8).batch
    high, low = 0.994541, -0.596725
    expected = [high, 0.464119, high, low, low, high, -1.657568, low]
    assert batch.advantages.tolist() == pytest.approx(expected, abs=1e-6)


def test_an_all_correct_group_still_learns() -> None:
    group = toy.scored(toy.scored_lengths("all", [2, 2, 2], [3] * 3).group, [2, 2, 2], accuracy=[1, 1, 1])
    ref = torch.tensor([[-3.0, -0.1, -0.1], [-3, -2, -2], [-3, -1, -1]])
    streams = Streams(ref_logprobs=ref, answer_span=torch.tensor([[0, 2, 2]] * 3))
    advantages = GRPO_CARE.credit([group], streams=streams, max_tokens=8).batch.advantages
    assert advantages[0] > 0 > advantages[1]


def test_equal_likelihoods_all_get_the_bonus_and_no_accurate_rollout_gets_none() -> None:
    equal = Streams(ref_logprobs=torch.full((8, 3), -0.3), answer_span=torch.tensor([[0, 2, 2]] * 8))
    table, context = credit_input(care_group(), streams=equal)
    assert ConsistencyBonus()(table, context).tolist() == [0.5 * a for a in ACCURACY]
    wrong = toy.scored(care_group().group, FORMAT, accuracy=[0] * 8)
    table, context = credit_input(wrong, streams=equal)
    assert ConsistencyBonus()(table, context).tolist() == [0.0] * 8


def test_a_rollout_without_an_answer_span_is_no_peer() -> None:
    """Were it counted with p = 1 (as an empty mean), it would lift the mean above the second rollout's p."""
    group = toy.scored(toy.scored_lengths("g", [1, 1], [3, 3]).group, [1, 1], accuracy=[1, 1])
    streams = Streams(ref_logprobs=torch.full((2, 3), -0.5), answer_span=torch.tensor([[0, 0, 0], [0, 2, 2]]))
    table, context = credit_input(group, streams=streams)
    assert ConsistencyBonus()(table, context).tolist() == [0, 0.5]


def test_groups_are_compared_within_themselves() -> None:
    one, other = care_streams(), care_streams()
    assert one.ref_logprobs is not None
    assert one.answer_span is not None
    assert other.ref_logprobs is not None
    doubled = Streams(
        ref_logprobs=torch.cat([one.ref_logprobs, other.ref_logprobs - 5]),
        answer_span=torch.cat([one.answer_span, one.answer_span]),
    )
    table, context = credit_input(care_group(), care_group(), streams=doubled)
    assert ConsistencyBonus()(table, context)[:8].tolist() == [0.5, 0, 0.5, 0, 0, 0.5, 0, 0]


def test_the_code_s_span_takes_a_letter_from_p_to_its_root() -> None:
    """`>` of probability 1 and a letter of probability 0.25: geometric mean 0.5, or 0.25 without the `>`."""
    logprobs = torch.tensor([[-2.0, 0.0, math.log(0.25)]])
    span = torch.tensor([[0, 1, 2]])
    with_gt = answer_likelihood(logprobs, span, arithmetic=False, with_tag_end=True)
    without = answer_likelihood(logprobs, span, arithmetic=False, with_tag_end=False)
    paper = answer_likelihood(logprobs, span, arithmetic=True, with_tag_end=True)
    assert [float(with_gt), float(without), float(paper)] == pytest.approx([0.5, 0.25, 0.625])


def test_an_unknown_likelihood_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="unknown likelihood 'median'"):
        ConsistencyBonus(likelihood="median")


def spans(pieces: Sequence[str]) -> list[int]:
    """The span of a completion tokenized into these pieces."""
    return answer_span(range(len(pieces)), lambda ids: "".join(pieces[i] for i in ids))


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["hm", "<answer>", "B", "</answer>", "<end>"], [0, 1, 2, 0, 0]),
        (["hm", "<", "answer", ">", "B", "</", "answer", ">", "<end>"], [0, 0, 0, 1, 2, 0, 0, 0, 0]),
        (["hm<", "answer", ">B", "</", "answer", ">"], [0, 0, 2, 0, 0, 0]),
        (["<answer", ">", "4", "2</", "answer>"], [0, 1, 2, 2, 0]),
        (["<answer>B</answer>"], [2]),
        (["<answer>", " ", "B", " ", "</answer>"], [1, 2, 2, 2, 0]),
        (["<answer>", "A", "</answer>", "no", "<answer>", "B", "</answer>"], [0, 0, 0, 0, 1, 2, 0]),
        (["<answer>", "A", "</answer>", "no", "<answer>", "B"], [1, 2, 0, 0, 0, 0]),  # cut: the last complete one
        (["<answer>", "B"], [0, 0]),
        (["<answer>", "</answer>"], [0, 0]),
        (["B", "</answer>"], [0, 0]),
        (["nothing"], [0]),
    ],
)
def test_answer_span_is_found_whatever_the_tokenizer_does(pieces: list[str], expected: list[int]) -> None:
    assert spans(pieces) == expected


def test_answer_span_on_the_real_tokenizer(tiny_model: toy.LoadedModel) -> None:
    """Byte-level BPE: the tokens marked as answer decode to the answer, multi-byte letters included."""
    tokenizer = tiny_model.processor.tokenizer

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    ids = tokenizer.encode("<think>größer 猫</think><answer>Ärger 7</answer>")
    marked = answer_span(ids, decode)
    inside = [i for i, mark in enumerate(marked) if mark == 2]
    assert "Ärger 7" in decode([ids[i] for i in inside])
    assert inside == list(range(inside[0], inside[-1] + 1))
    assert decode(ids[: inside[0]]).endswith(("<answer>", "<answer"))
