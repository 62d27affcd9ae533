"""What an algorithm's adaptive parts know between steps: the only thing about an algorithm that changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Memory:
    """Held by the loop, handed to `Algorithm.credit`, replaced by what it returns, saved in checkpoints."""

    def __init__(self) -> None:
        self.known: Mapping[str, Any] = {}

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` continues exactly."""
        return dict(self.known)

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.known = dict(state)
