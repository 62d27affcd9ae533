"""Visual features that are computed once and used often.

Two reasons to keep them, told apart by whether the tower learns:

    frozen      they never change: kept for a whole step, oldest out first beyond a number of bytes; rollout, old,
                reference and update passes share them. Not for longer: the last bits of a feature depend on what it
                was encoded together with, and a run that was killed and resumed must equal one that was not
    learning    they hold until the weights change. What the rollouts encode is kept with the tower's graph behind it,
                as far as memory is allowed for that, and the old pass and the step's first update use it. A picture
                beyond, which several micro-batches of a pass show (a group too long for one row), is encoded in the
                first of them. Either way gradients are collected at the features, and what `end_update` returns
                carries their sum through the tower once
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.types import VisionItem

FROZEN_BYTES = 1024 * 2**20  # of features kept while the tower is frozen

Encode = Callable[[Sequence[VisionItem]], list[Tensor]]  # → [K, n, D] of each item, from one call of the tower


class FeatureStore:
    """Features by digest of the picture or clip. One per policy, or one for several whose towers are equal."""

    def __init__(self, *, frozen: bool = False, capacity: int = FROZEN_BYTES) -> None:
        self.frozen = frozen
        self._capacity = capacity
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._recurring: frozenset[str] = frozenset()
        self._held: set[str] = set()  # learning: kept until the weights change
        self._room = 0  # learning: patches that may still be held
        self._roots: list[tuple[Tensor, Tensor]] = []  # (features with the tower behind them, the copy that was used)

    def begin_step(self, *, held_patches: int = 0) -> None:
        """Drop everything. With a learning tower, hold the features of so many patches until `end_update`."""
        self.forget()
        self._room = 0 if self.frozen else held_patches

    def begin_pass(self, micro_batches: Iterable[Iterable[str]]) -> None:
        """Say which digests each micro-batch of the coming pass shows. Frozen features are kept anyway."""
        if self.frozen:
            return
        self.end_pass()
        seen: set[str] = set()
        recurring: set[str] = set()
        for digests in micro_batches:
            shown = set(digests)
            recurring |= seen & shown
            seen |= shown
        self._recurring = frozenset(recurring)

    def knows(self, media: Sequence[VisionItem]) -> bool:
        """Whether the features of all these items are kept."""
        return all(item.digest in self._kept for item in media)

    def features(self, media: Sequence[VisionItem], encode: Encode) -> Float[Tensor, "K S D"]:
        """Of all items one after the other; only those that are not kept are encoded."""
        found = {item.digest: self._kept[item.digest] for item in media if item.digest in self._kept}
        missing = [item for item in media if item.digest not in found]
        if not torch.is_grad_enabled():
            found |= self._hold(missing, encode)
            missing = [item for item in missing if item.digest not in found]
        to_keep = [item for item in missing if self.frozen or item.digest in self._recurring]
        # Apart, because one backward pass frees what it went through.
        to_use = [item for item in missing if not (self.frozen or item.digest in self._recurring)]
        if to_keep:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                for item, value in zip(to_keep, encode(to_keep), strict=True):
                    found[item.digest] = self._keep(item.digest, value)
        if to_use:
            found |= {item.digest: value for item, value in zip(to_use, encode(to_use), strict=True)}
        for item in media:
            if item.digest in self._kept:
                self._kept.move_to_end(item.digest)
        self._trim()
        return torch.cat([found[item.digest] for item in media], dim=1)

    def end_pass(self) -> None:
        """Drop what held for one pass."""
        if not self.frozen:
            self._kept = OrderedDict((d, value) for d, value in self._kept.items() if d in self._held)
            self._recurring = frozenset()

    def end_update(self) -> Float[Tensor, ""] | None:
        """The weights are about to change: drop what holds for these. Returns a scalar whose gradient is what the
        features still owe the tower; None where they owe nothing.
        """
        owed = [(root * copy.grad).sum() for root, copy in self._roots if copy.grad is not None]
        if not self.frozen:
            self.forget()
        return torch.stack(owed).sum() if owed else None

    def forget(self) -> None:
        """Drop everything: weights of the tower were loaded anew."""
        self._kept.clear()
        self._roots.clear()
        self._held.clear()
        self._room = 0
        self._recurring = frozenset()

    def _hold(self, missing: Sequence[VisionItem], encode: Encode) -> dict[str, Tensor]:
        """Features of those items that there is room for, encoded with the tower's graph and kept for the update."""
        chosen = []
        for item in missing:
            if item.digest not in self._held and len(item.patches) <= self._room:
                self._room -= len(item.patches)
                self._held.add(item.digest)
                chosen.append(item)
        if not chosen:
            return {}
        with torch.enable_grad():
            values = encode(chosen)
        return {item.digest: self._keep(item.digest, value) for item, value in zip(chosen, values, strict=True)}

    def _keep(self, digest: str, value: Tensor) -> Tensor:
        if value.requires_grad:
            copy = value.detach().requires_grad_()
            self._roots.append((value, copy))
            value = copy
        self._kept[digest] = value
        return value

    def _trim(self) -> None:
        size = sum(value.numel() * value.element_size() for value in self._kept.values())
        while self.frozen and size > self._capacity and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            size -= oldest.numel() * oldest.element_size()
