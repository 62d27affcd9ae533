"""Distributions and draws, by hand and in the large."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mmrl.rollout.engine import Sampling
from mmrl.rollout.sampling import draw, sampled_distribution
from mmrl.rollout.seeds import rollout_seed, uniforms

PROBS = torch.tensor([[0.5, 0.25, 0.15, 0.1]])
NONE = torch.tensor([], dtype=torch.long)


def distribution(banned: torch.Tensor = NONE, **settings: Any) -> list[float]:
    sampling = Sampling(group_size=1, max_tokens=1, **settings)
    return sampled_distribution(PROBS.log(), sampling, banned).exp()[0].tolist()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.5, 0.25, 0.15, 0.1]),
        ({"temperature": 0.5}, [0.25 / 0.345, 0.0625 / 0.345, 0.0225 / 0.345, 0.01 / 0.345]),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_p": 0.75}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_p": 0.76}, [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"temperature": 0.0}, [0.5, 0.25, 0.15, 0.1]),
    ],
    ids=str,
)
def test_distribution_by_hand(settings: dict[str, Any], expected: list[float]) -> None:
    assert distribution(**settings) == pytest.approx(expected, abs=1e-6)


def test_banned_ids_are_removed_before_anything_is_cut() -> None:
    assert distribution(banned=torch.tensor([0]), top_k=1) == pytest.approx([0, 1, 0, 0])


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.499, 0), (0.501, 1), (0.749, 1), (0.901, 3), (0.999999, 3)]
)
def test_draw_inverts_the_cumulative_distribution(uniform: float, token: int) -> None:
    chosen = draw(PROBS.double().log().float(), torch.tensor([uniform], dtype=torch.float64), greedy=False)
    assert chosen.tolist() == [token]


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    log_probs = torch.tensor([[-torch.inf, 0.0, -torch.inf]]).repeat(3, 1)
    chosen = draw(log_probs, torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64), greedy=False)
    assert chosen.tolist() == [1, 1, 1]


def test_frequencies_follow_the_probabilities() -> None:
    numbers = torch.from_numpy(np.random.default_rng(0).random(40_000))
    chosen = draw(PROBS.log().repeat(40_000, 1), numbers, greedy=False)
    shares = torch.bincount(chosen, minlength=4) / 40_000
    assert shares.tolist() == pytest.approx(PROBS[0].tolist(), abs=0.01)


def test_seeds_depend_on_every_part_of_the_name_and_on_nothing_else() -> None:
    names = [(0, "train", 1, "a", 0), (1, "train", 1, "a", 0), (0, "eval", 1, "a", 0), (0, "train", 2, "a", 0)]
    names += [(0, "train", 1, "b", 0), (0, "train", 1, "a", 1), (0, "train", 11, "", 0), (0, "train", 1, "1", 0)]
    assert len({rollout_seed(*name) for name in names}) == len(names)
    assert rollout_seed(0, "train", 1, "a", 0) == 5226357988032932175


def test_a_longer_limit_does_not_change_the_first_numbers() -> None:
    assert uniforms(5, 100)[:7].tolist() == uniforms(5, 7).tolist()
