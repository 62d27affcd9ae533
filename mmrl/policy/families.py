"""The model families mmrl knows. To add one: docs/families.md."""

from __future__ import annotations

from mmrl.errors import ModelError
from mmrl.policy.family import Family
from mmrl.policy.lfm2_vl import LFM2_VL
from mmrl.policy.qwen2_5_vl import QWEN2_5_VL
from mmrl.policy.qwen2_vl import QWEN2_VL
from mmrl.policy.qwen3_5 import QWEN3_5
from mmrl.policy.qwen3_vl import QWEN3_VL

FAMILIES: dict[str, Family] = {family.name: family for family in (QWEN2_VL, QWEN2_5_VL, QWEN3_VL, QWEN3_5, LFM2_VL)}


def family_of(model_type: str, *, where: str) -> Family:
    """The family that serves a config's `model_type`; ModelError names those that exist."""
    for family in FAMILIES.values():
        if model_type in family.model_types:
            return family
    known = ", ".join(t for f in FAMILIES.values() for t in f.model_types)
    raise ModelError(
        f"{where}: model_type {model_type!r} belongs to no family mmrl knows ({known}). "
        "Choose another model, or add a family (docs/families.md)."
    )
