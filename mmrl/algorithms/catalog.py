"""Every learner by name, and every part by slot and name: the whole choice a config has."""

from typing import Any

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.dapo import DAPO
from mmrl.algorithms.dr_grpo import DR_GRPO
from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import FrozenReference, NoReference
from mmrl.credit.advantage import GroupCentered, GroupNormalized
from mmrl.credit.filters import MaskTruncated, MixedCorrectness
from mmrl.credit.shaping import SoftOverlong
from mmrl.objective.aggregation import MaxLengthMean, SequenceMean, TokenMean
from mmrl.objective.divergence import K3, NoDivergence
from mmrl.objective.ratio import TokenRatio
from mmrl.objective.surrogate import Clipped

ALGORITHMS: dict[str, Algorithm] = {
    "grpo": GRPO,
    "dr_grpo": DR_GRPO,
    "dapo": DAPO,
}

_AGGREGATIONS: dict[str, type[Any]] = {
    "sequence_mean": SequenceMean,
    "token_mean": TokenMean,
    "max_length_mean": MaxLengthMean,
}

PARTS: dict[str, dict[str, type[Any]]] = {
    "shaping": {"soft_overlong": SoftOverlong},
    "filters": {"mixed_correctness": MixedCorrectness},
    "advantage": {"group_normalized": GroupNormalized, "group_centered": GroupCentered},
    "reweight": {},
    "divergence_weight": {},
    "loss_mask": {"truncated": MaskTruncated},
    "token_weights": {},
    "ratio": {"token": TokenRatio},
    "surrogate": {"clipped": Clipped},
    "aggregation": _AGGREGATIONS,
    "divergence": {"none": NoDivergence, "k3": K3},
    "divergence_aggregation": _AGGREGATIONS,
    "regularizers": {},
    "reference": {"none": NoReference, "frozen": FrozenReference},
}
