"""Counts the bytes of the tensors that are alive, operation by operation, and who made them.

What a pass needs, whatever the allocator: a storage counts from the operation that makes it until nobody holds it. What
was there before counts nothing. Tensors without memory (`weightless.py`) count what they would hold.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Ledger(TorchDispatchMode):
    """While entered, every storage that an operation makes is counted until nobody holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0  # bytes
        self.peak = 0  # bytes, since `begin`
        self.at_peak: dict[str, int] = {}  # by maker, when `peak` was reached
        self._by_maker: dict[str, int] = {}
        self._known: dict[int, tuple[str, int]] = {}  # storage → its maker and size
        self._maker = "rest"

    def begin(self) -> None:
        """Look for the peak from here on."""
        self.peak, self.at_peak = self.live, dict(self._by_maker)

    @contextmanager
    def made_by(self, maker: str) -> Iterator[None]:
        """What operations make inside is this maker's."""
        before, self._maker = self._maker, maker
        try:
            yield
        finally:
            self._maker = before

    def give(self, tensor: Tensor, maker: str) -> None:
        """Count a tensor that is there as this maker's."""
        key = tensor.untyped_storage()._cdata
        if key in self._known:
            before, size = self._known[key]
            self._known[key] = (maker, size)
            self._add(before, -size)
            self._add(maker, size)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, Tensor):
                self._enter(given, there=True)
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, Tensor):
                self._enter(made, there=False)
        return out

    def _enter(self, tensor: Tensor, *, there: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = 0 if there else storage.nbytes()
        self._known[key] = (self._maker, size)
        self._add(self._maker, size)
        if self.live > self.peak:
            self.peak, self.at_peak = self.live, dict(self._by_maker)
        weakref.finalize(storage, self._leave, key).atexit = False

    def _leave(self, key: int) -> None:
        maker, size = self._known.pop(key)
        self._add(maker, -size)

    def _add(self, maker: str, size: int) -> None:
        self.live += size
        self._by_maker[maker] = self._by_maker.get(maker, 0) + size
