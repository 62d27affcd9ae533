"""One thread for small decoding steps, and the caller's own number afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from mmrl.rollout.threads import ONE_THREAD_BELOW, step_operations, threads_for

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_small_steps_run_on_one_thread_and_the_number_comes_back() -> None:
    with threads_for(ONE_THREAD_BELOW - 1, CPU):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_the_number_comes_back_after_an_error() -> None:
    def fail() -> None:
        with threads_for(1.0, CPU):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("operations", "device"), [(ONE_THREAD_BELOW, "cpu"), (1.0, "cuda")])
def test_large_steps_and_gpus_are_left_alone(operations: float, device: str) -> None:
    with threads_for(operations, torch.device(device)):
        assert torch.get_num_threads() == 2


def test_operations_of_a_step_worked_by_hand() -> None:
    text = SimpleNamespace(
        hidden_size=8,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        num_hidden_layers=3,
        intermediate_size=16,
    )
    # A layer's weights: 8·4·(2·2 + 2·1) = 192 in attention, 3·8·16 = 384 in the MLP; three layers: 1,728.
    # Per rollout 2·1,728, and 4 · 3 layers · width 8 for each of 10 keys = 960.
    config = SimpleNamespace(get_text_config=lambda: text)
    assert step_operations(config, rollouts=5, keys=10) == 5 * (2 * 1728 + 960)
