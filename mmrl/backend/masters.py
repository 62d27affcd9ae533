"""Float32 masters of parameters in a narrower format, and gradients that are summed in float32.

bfloat16 numbers lie 0.4 to 0.8 per cent apart, and an update of reinforcement learning is far smaller: added to the
weight itself it would be rounded away. So the optimiser changes a float32 *master*, and the weight is its rounding. A
float32 parameter is its own master.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmrl.ranks import Ranks

BUCKET = 64 * 2**20  # numbers that ranks add up at a time


class Masters:
    """Of the parameters that train, in their order."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.values: list[Tensor] = []  # what the optimiser changes
        for parameter in self._parameters:
            if parameter.dtype == torch.float32:
                self.values.append(parameter)
                continue
            master = parameter.detach().to(torch.float32).requires_grad_()
            self.values.append(master)
            # As soon as a micro-batch's gradient is there: summed in bfloat16 over many, small shares would be lost.
            parameter.register_post_accumulate_grad_hook(_adder(master))

    @torch.no_grad()
    def complete(self, ranks: Ranks) -> None:
        """Sum the gradients over all ranks; what no micro-batch of any rank has used gets zeros.

        Without a gradient AdamW would leave a parameter alone, its momentum and weight decay too, and an update would
        depend on whether anything ran the unused part all the same, as sharded backends must (`Policy.forward`).
        """
        for value in self.values:
            if value.grad is None:
                value.grad = torch.zeros_like(value)
        if not ranks.several:
            return
        bucket: list[Tensor] = []
        for i, value in enumerate(self.values):
            assert value.grad is not None
            bucket.append(value.grad)
            if sum(g.numel() for g in bucket) >= BUCKET or i + 1 == len(self.values):
                flat = ranks.add_up(torch.cat([g.flatten() for g in bucket]))
                for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                    gradient.copy_(summed.view_as(gradient))
                bucket = []

    @torch.no_grad()
    def round(self) -> None:
        """Write the masters into the parameters."""
        for parameter, master in zip(self._parameters, self.values, strict=True):
            if parameter is not master:
                parameter.copy_(master)

    def of(self, parameter: nn.Parameter) -> Tensor:
        """The master of one of the parameters."""
        return next(m for m, p in zip(self.values, self._parameters, strict=True) if p is parameter)

    def named(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Those that are not the parameters themselves; `names` of all of them."""
        pairs = zip(names, self.values, self._parameters, strict=True)
        return {name: master for name, master, parameter in pairs if master is not parameter}

    @torch.no_grad()
    def load(self, values: Sequence[Tensor | None]) -> None:
        """Take these masters (None: the parameter as it is now) and round them."""
        for parameter, master, value in zip(self._parameters, self.values, values, strict=True):
            master.copy_(parameter if value is None else value)
        self.round()


def _adder(master: Tensor):  # type: ignore[no-untyped-def]
    def add(parameter: Tensor) -> None:
        if parameter.grad is not None:
            gradient = parameter.grad.to(torch.float32)
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    return add
