"""Tensors that have a shape, strides and a device, and no memory: the run's own code computes with them.

torch's fake tensors stand for what is large: parameters, pixels, and whatever is made of them. What is small and
decides what is done (token ids, grids, where positions lie) stays real. So no operation on real numbers is faked, and
of the others only those need help whose result depends on numbers that are not there:

    a number is asked for       1 is answered
    rows are chosen by a mask   a real mask becomes the places it marks
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmrl.policy.policy import Policy

aten = torch.ops.aten


class Weightless(TorchDispatchMode):
    """While entered, code runs on the tensors of `policy` and `tensor`."""

    def __init__(self) -> None:
        super().__init__()
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)

    def tensor(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """One of this shape."""
        with self._fake:
            return torch.empty(shape, dtype=dtype, device="cpu")

    def replace(self, policy: Policy) -> None:
        """Put such tensors in the place of a skeleton's parameters and buffers; shared ones stay shared."""
        made: dict[int, nn.Parameter] = {}
        for module in policy.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    if id(parameter) not in made:
                        values = self.tensor(*parameter.shape, dtype=parameter.dtype)
                        made[id(parameter)] = nn.Parameter(values, requires_grad=parameter.requires_grad)
                    module._parameters[name] = made[id(parameter)]
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = self.tensor(*buffer.shape, dtype=buffer.dtype)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return {torch.bool: True}.get(args[0].dtype, 1.0 if args[0].is_floating_point() else 1)
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._unsafe_index_put.default):
            args = (args[0], _places(args[1]), *args[2:])
        if func is aten.masked_scatter_backward.default:
            return args[0].new_empty(args[2])
        if func is aten.masked_select.default and not isinstance(args[1], FakeTensor):
            return args[0][tuple(_places([args[1]]))]
        return func(*args, **(kwargs or {}))


def _places(indices: Any) -> list[Tensor | None]:
    """Real masks among the indices as the places they mark."""
    found: list[Tensor | None] = []
    for index in indices:
        if isinstance(index, Tensor) and index.dtype == torch.bool and not isinstance(index, FakeTensor):
            found.extend(index.nonzero().unbind(1))
        else:
            found.append(index)
    return found
