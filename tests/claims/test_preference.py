"""DPO: the loss and its slopes by hand, and a policy that comes to prefer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmrl.errors import DataError
from mmrl.training.preference import altered, pair_loss
from mmrl.types import Answer, Sample


def test_the_loss_by_hand() -> None:
    # z = 0.1 · ((−2 − −3) − (−4 − −4)) = 0.1;  −log σ(0.1) = 0.644397, σ(−0.1) = 0.475021
    found = pair_loss(torch.tensor([-2.0, -4.0]), torch.tensor([-3.0, -4.0]), beta=0.1, pairs=1.0)
    assert float(found.value) == pytest.approx(0.644397, abs=1e-6)
    assert found.slopes.tolist() == pytest.approx([-0.0475021, 0.0475021], abs=1e-6)
    assert float(found.preferred) == 1.0
    same = pair_loss(torch.zeros(4), torch.zeros(4), beta=0.5, pairs=2.0)
    assert float(same.value) == pytest.approx(math.log(2))
    assert float(same.preferred) == 1.0  # ties count half


def test_the_slopes_are_the_derivative() -> None:
    generator = torch.Generator().manual_seed(0)
    policy = torch.randn(8, generator=generator, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(8, generator=generator, dtype=torch.float64)
    found = pair_loss(policy, reference, beta=0.3, pairs=4.0)
    found.value.backward()
    assert policy.grad is not None
    torch.testing.assert_close(policy.grad, found.slopes.detach())


def test_answers_are_altered_to_wrong_ones() -> None:
    random = np.random.default_rng(0)
    choice = Sample(id="a", task="t", question="?", choices=("x", "y", "z"), answer=Answer(type="choice", value="B"))
    assert {altered(choice, random).answer.value for _ in range(40)} == {"A", "C"}
    number = Sample(id="b", task="t", question="?", answer=Answer(type="number", value=4, unit="m"))
    drawn = {altered(number, random).answer.value for _ in range(80)}
    assert drawn == {2.0, 3.0, 5.0, 6.0}
    assert altered(number, random).answer.unit == "m"
    text = Sample(id="c", task="t", question="?", answer=Answer(type="text", value="red"))
    with pytest.raises(DataError, match=r"sample 'c'.*a choice or a number"):
        altered(text, random)
