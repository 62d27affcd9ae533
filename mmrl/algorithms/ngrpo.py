"""NGRPO: negative-enhanced GRPO. arXiv:2509.18851; as in the authors' code.

    R⁺   = (r_1, …, r_G, 1);   A_i = (r_i − mean R⁺) / (std R⁺ + 1e-6)
    loss = −(1/Σ|o_i|) Σ_{i,t} min(ρ_t A_i, clip(ρ_t, 1 − 0.16, 1 + 0.24) A_i)

Against GRPO: an imagined perfect rollout makes all-wrong groups learn (each rollout gets −0.333 at G = 8); all-correct
groups are dropped; a narrower lower and wider upper clip; no divergence. All values are the authors' code's. `best` is
the largest total a rollout can get: raise it where format or other rewards add to accuracy.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.advantage import VirtualBest
from mmrl.credit.filters import SomeWrong
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.surrogate import Clipped

NGRPO = replace(
    GRPO,
    name="ngrpo",
    title="NGRPO",
    paper="2509.18851",
    summary="An imagined perfect rollout in the baseline makes all-wrong groups learn.",
    filters=(SomeWrong(),),
    advantage=VirtualBest(best=1.0, count=1, eps=1e-6),
    surrogate=Clipped(clip_low=0.16, clip_high=0.24),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
    reference=NoReference(),
)
