"""DPH-RL, Jensen–Shannon: as `dph_rl` with another divergence. arXiv:2509.07430; as in the authors' code.

    rehearsed samples:   loss = c · mean_t [u ln u − (u + 1) ln((u + 1)/2)],  u = π/π_0

Against DPH-RL with the forward KL: bounded however far the policy goes. c is 0.05 to 0.2 in the authors' scripts.
"""

from dataclasses import replace

from mmrl.algorithms.dph_rl import DPH_RL
from mmrl.objective.divergence import GeneratorDivergence

DPH_RL_JS = replace(
    DPH_RL,
    name="dph_rl_js",
    title="DPH-RL (JS)",
    summary="DPH-RL with the Jensen–Shannon divergence.",
    divergence=GeneratorDivergence(coef=0.05, form="jensen_shannon"),
)
