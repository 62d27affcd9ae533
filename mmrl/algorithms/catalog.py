"""Every learner by name, and every part by slot and name: the whole choice a config has."""

from typing import Any

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.apo import APO
from mmrl.algorithms.bnpo import BNPO
from mmrl.algorithms.chi_squared import CHI_SQUARED
from mmrl.algorithms.cispo import CISPO
from mmrl.algorithms.clip_cov import CLIP_COV
from mmrl.algorithms.d3s import D3S
from mmrl.algorithms.dapo import DAPO
from mmrl.algorithms.disco import DISCO
from mmrl.algorithms.dph_rl import DPH_RL
from mmrl.algorithms.dph_rl_js import DPH_RL_JS
from mmrl.algorithms.dr_grpo import DR_GRPO
from mmrl.algorithms.drpo import DRPO
from mmrl.algorithms.dual_clip import DUAL_CLIP
from mmrl.algorithms.elastic_reset import ELASTIC_RESET
from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.grpo_care import GRPO_CARE
from mmrl.algorithms.grpo_d import GRPO_D
from mmrl.algorithms.grpo_lambda import GRPO_LAMBDA
from mmrl.algorithms.gspo import GSPO
from mmrl.algorithms.gspo_token import GSPO_TOKEN
from mmrl.algorithms.gtpo import GTPO
from mmrl.algorithms.high_entropy import HIGH_ENTROPY
from mmrl.algorithms.kl_cov import KL_COV
from mmrl.algorithms.lite_ppo import LITE_PPO
from mmrl.algorithms.luspo import LUSPO
from mmrl.algorithms.ngrpo import NGRPO
from mmrl.algorithms.nsr import NSR
from mmrl.algorithms.papo import PAPO
from mmrl.algorithms.psr import PSR
from mmrl.algorithms.reference import (
    AdapterOff,
    ElasticReset,
    EmaReference,
    FrozenReference,
    NoReference,
    PeriodicReference,
)
from mmrl.algorithms.reg_grpo import REG_GRPO
from mmrl.algorithms.reinforce_plus_plus import REINFORCE_PLUS_PLUS
from mmrl.algorithms.reinforce_plus_plus_baseline import REINFORCE_PLUS_PLUS_BASELINE
from mmrl.algorithms.rloo import RLOO
from mmrl.algorithms.seed_grpo import SEED_GRPO
from mmrl.algorithms.spo import SPO
from mmrl.algorithms.t_grpo import T_GRPO
from mmrl.algorithms.tempsamp_r1 import TEMPSAMP_R1
from mmrl.algorithms.tw_grpo import TW_GRPO
from mmrl.algorithms.unlikeliness import UNLIKELINESS
from mmrl.algorithms.vsgrpo import VSGRPO
from mmrl.algorithms.w_reinforce import W_REINFORCE
from mmrl.algorithms.warp_anchor import WARP_ANCHOR
from mmrl.credit.absolute import RewardItself, SignedCorrectness
from mmrl.credit.advantage import BatchScaled, GroupCentered, GroupNormalized, LeaveOneOut, VirtualBest
from mmrl.credit.asymmetric import DifficultyAwareWeight, SuboptimalTrajectoryComplexity
from mmrl.credit.beta_normalized import BetaNormalized
from mmrl.credit.conflict import ConflictTokens, EntropyCost
from mmrl.credit.consistency import ConsistencyBonus
from mmrl.credit.filters import MaskTruncated, MixedCorrectness, PassRateWithin, SomeWrong
from mmrl.credit.group_weight import MostVaried, OnDemonstrations, ScheduledWeight, SemanticEntropy
from mmrl.credit.shaping import DivergencePaid, ShorterWhenRight, SoftOverlong, SoftTop, TwinBonus, Unlikeliness
from mmrl.credit.token_advantage import PenalizedReturns, PerRollout, Whitened
from mmrl.credit.token_weight import ClipCovariance, DisagreementWeight, HighEntropy, HighestCovariance, MostInformative
from mmrl.credit.value_tracker import TrackedValue
from mmrl.objective.aggregation import MaxLengthMean, SequenceMean, SequenceSum, TokenMean
from mmrl.objective.coupling import AdvantageRegression, ChiSquared, RightAboveWrong, TrustRegion
from mmrl.objective.divergence import K1, K2, K3, Absolute, ForwardKL, GeneratorDivergence, NoDivergence
from mmrl.objective.ratio import SequenceRatio, SequenceTokenRatio, TokenRatio
from mmrl.objective.regularizer import DistanceToOld, EntropyBonus, PerceptionGain
from mmrl.objective.surrogate import CappedWeight, Clipped, DualClipped, NoSurrogate, Unclipped
from mmrl.plan.demonstrations import GroundTruth, StoredCompletion
from mmrl.plan.views import ShuffledFrames

ALGORITHMS: dict[str, Algorithm] = {
    "grpo": GRPO,
    "dr_grpo": DR_GRPO,
    "dapo": DAPO,
    "apo": APO,
    "grpo_care": GRPO_CARE,
    "vsgrpo": VSGRPO,
    "gspo": GSPO,
    "gspo_token": GSPO_TOKEN,
    "luspo": LUSPO,
    "rloo": RLOO,
    "reinforce_plus_plus": REINFORCE_PLUS_PLUS,
    "reinforce_plus_plus_baseline": REINFORCE_PLUS_PLUS_BASELINE,
    "cispo": CISPO,
    "lite_ppo": LITE_PPO,
    "bnpo": BNPO,
    "ngrpo": NGRPO,
    "dual_clip": DUAL_CLIP,
    "psr": PSR,
    "nsr": NSR,
    "w_reinforce": W_REINFORCE,
    "unlikeliness": UNLIKELINESS,
    "grpo_d": GRPO_D,
    "reg_grpo": REG_GRPO,
    "tw_grpo": TW_GRPO,
    "t_grpo": T_GRPO,
    "tempsamp_r1": TEMPSAMP_R1,
    "papo": PAPO,
    "dph_rl": DPH_RL,
    "dph_rl_js": DPH_RL_JS,
    "high_entropy": HIGH_ENTROPY,
    "clip_cov": CLIP_COV,
    "kl_cov": KL_COV,
    "disco": DISCO,
    "drpo": DRPO,
    "grpo_lambda": GRPO_LAMBDA,
    "seed_grpo": SEED_GRPO,
    "gtpo": GTPO,
    "d3s": D3S,
    "chi_squared": CHI_SQUARED,
    "spo": SPO,
    "elastic_reset": ELASTIC_RESET,
    "warp_anchor": WARP_ANCHOR,
}

_AGGREGATIONS: dict[str, type[Any]] = {
    "sequence_mean": SequenceMean,
    "sequence_sum": SequenceSum,
    "token_mean": TokenMean,
    "max_length_mean": MaxLengthMean,
}

_TOKEN_WEIGHTS: dict[str, type[Any]] = {
    "high_entropy": HighEntropy,
    "clip_covariance": ClipCovariance,
    "highest_covariance": HighestCovariance,
    "most_informative": MostInformative,
    "conflict_tokens": ConflictTokens,
    "disagreement": DisagreementWeight,
}

PARTS: dict[str, dict[str, type[Any]]] = {
    "views": {"shuffled_frames": ShuffledFrames},
    "demonstrations": {"ground_truth": GroundTruth, "stored_completion": StoredCompletion},
    "shaping": {
        "soft_overlong": SoftOverlong,
        "divergence_paid": DivergencePaid,
        "unlikeliness": Unlikeliness,
        "shorter_when_right": ShorterWhenRight,
        "soft_top": SoftTop,
        "consistency_bonus": ConsistencyBonus,
        "twin_bonus": TwinBonus,
    },
    "filters": {"mixed_correctness": MixedCorrectness, "some_wrong": SomeWrong, "pass_rate_within": PassRateWithin},
    "advantage": {
        "group_normalized": GroupNormalized,
        "group_centered": GroupCentered,
        "leave_one_out": LeaveOneOut,
        "batch_scaled": BatchScaled,
        "virtual_best": VirtualBest,
        "beta_normalized": BetaNormalized,
        "reward_itself": RewardItself,
        "signed_correctness": SignedCorrectness,
        "tracked_value": TrackedValue,
    },
    "reweight": {
        "stcr": SuboptimalTrajectoryComplexity,
        "semantic_entropy": SemanticEntropy,
        "entropy_cost": EntropyCost,
    },
    "divergence_weight": {
        "dads": DifficultyAwareWeight,
        "scheduled": ScheduledWeight,
        "on_demonstrations": OnDemonstrations,
    },
    "loss_mask": {"truncated": MaskTruncated, "most_varied": MostVaried},
    "token_advantage": {"per_rollout": PerRollout, "whitened": Whitened, "penalized_returns": PenalizedReturns},
    "token_weights": _TOKEN_WEIGHTS,
    "regularizer_weight": _TOKEN_WEIGHTS,
    "ratio": {"token": TokenRatio, "sequence": SequenceRatio, "sequence_token": SequenceTokenRatio},
    "surrogate": {
        "clipped": Clipped,
        "dual_clipped": DualClipped,
        "unclipped": Unclipped,
        "capped_weight": CappedWeight,
        "none": NoSurrogate,
    },
    "aggregation": _AGGREGATIONS,
    "divergence": {
        "none": NoDivergence,
        "k1": K1,
        "k2": K2,
        "k3": K3,
        "absolute": Absolute,
        "forward_kl": ForwardKL,
        "generator": GeneratorDivergence,
    },
    "divergence_aggregation": _AGGREGATIONS,
    "regularizers": {
        "distance_to_old": DistanceToOld,
        "perception_gain": PerceptionGain,
        "entropy_bonus": EntropyBonus,
    },
    "couplings": {
        "advantage_regression": AdvantageRegression,
        "right_above_wrong": RightAboveWrong,
        "trust_region": TrustRegion,
        "chi_squared": ChiSquared,
    },
    "reference": {
        "none": NoReference,
        "frozen": FrozenReference,
        "adapter_off": AdapterOff,
        "ema": EmaReference,
        "periodic": PeriodicReference,
        "elastic_reset": ElasticReset,
    },
}
