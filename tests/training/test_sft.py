"""The reasoning that a cold start writes into its targets."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mmrl.errors import DataError
from mmrl.training.sft import drawn_thought
from mmrl.types import Answer, Sample
from tests import toy


def test_other_stands_for_each_wrong_option_and_never_for_the_right_one() -> None:
    sample = toy.choice_sample("q", answer="C")  # red, green, blue, grey
    random = np.random.default_rng(0)
    drawn = Counter(drawn_thought(sample, ["It is {answer}.", "It is {other}."], random) for _ in range(600))
    assert set(drawn) == {"It is {answer}.", "It is red.", "It is green.", "It is grey."}
    assert 240 < drawn["It is {answer}."] < 360  # half of them; 300 ± 5 standard deviations of 12.2


def test_a_number_s_other_is_another_number() -> None:
    sample = Sample(id="n", task="count", question="How many?", answer=Answer(type="number", value=4))
    random = np.random.default_rng(0)
    drawn = {drawn_thought(sample, ["{other}"], random) for _ in range(80)}
    assert drawn == {"2", "3", "5", "6"}


def test_without_it_nothing_but_the_thought_is_drawn() -> None:
    sample = Sample(id="t", task="name", question="Who?", answer=Answer(type="text", value="Ada"))
    thoughts, random, same = ["a", "b", "c"], np.random.default_rng(5), np.random.default_rng(5)
    assert [drawn_thought(sample, thoughts, random) for _ in range(20)] == [
        thoughts[n] for n in same.integers(3, size=20)
    ]
    with pytest.raises(DataError, match=r"sample 't'.*\{other\} in sft.thoughts"):
        drawn_thought(sample, ["{other}"], random)
