"""Which policy the divergence is measured against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReference:
    """No reference policy: a part that asks for `ref_logprobs` is a config error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenReference:
    """The policy as it was when the RL stage began. Loaded only when a part asks for `ref_logprobs`."""


Reference = NoReference | FrozenReference
