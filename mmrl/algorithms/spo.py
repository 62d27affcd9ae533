"""SPO: single-stream policy optimisation. arXiv:2509.13232; as in the authors' code.

    A_i = whitened over the step (r_i − v),   v the sample's tracked pass rate before this rollout
    loss = −(1/Σ|o_i|) Σ dual-clipped(ρ_t, A_i; 0.2, 0.28, 10)

Against GRPO: no group. `rollout.group_size: 1` and many prompts; the baseline is each sample's own history, kept in the
run's state and saved in checkpoints, and forgotten faster the further the policy has moved on the sample's previous
rollout (`credit/value_tracker.py`). Rewards must be in [0, 1]. All constants are the authors' code's except the value
of a sample never seen (0.5): they estimate it from 8 rollouts per sample beforehand. Their sampler draws prompts by
√(v(1 − v)) + 0.05: `curriculum/uncertainty.py`.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.value_tracker import TrackedValue
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.surrogate import DualClipped

SPO = replace(
    GRPO,
    name="spo",
    title="SPO",
    paper="2509.13232",
    summary="No groups: the baseline is each sample's tracked pass rate.",
    advantage=TrackedValue(),
    surrogate=DualClipped(clip_low=0.2, clip_high=0.28, most=10.0),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
    reference=NoReference(),
)
