"""How many threads a decoding step is worth, on CPU.

A token step of a small model is some two hundred small operations. Handing each to several threads and waiting for the
last costs more than it saves below a few ten million floating-point operations per step: 1.9 ms a step on one thread
against 2.8 ms on two for the tiny model with eight rollouts behind 1,024 visual tokens, equal at four times the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mmrl.policy.cost import DecoderShape

ONE_THREAD_BELOW = 3e7  # floating-point operations of a decoding step


def step_operations(config: Any, *, rollouts: int, keys: int) -> float:
    """Floating-point operations of one token of each of `rollouts` that attends to `keys` earlier ones."""
    shape = DecoderShape.of(config)
    return rollouts * (2.0 * shape.weights + 4.0 * shape.layers * shape.width * keys)


@contextmanager
def threads_for(operations: float, device: torch.device) -> Iterator[None]:
    """One thread inside, where steps are that small; as many as before afterwards. Changes nothing on a GPU."""
    before = torch.get_num_threads()
    if device.type != "cpu" or before == 1 or operations >= ONE_THREAD_BELOW:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
