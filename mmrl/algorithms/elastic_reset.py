"""Elastic Reset: the policy falls back to its own average. arXiv:2312.07551; as in the authors' StackLLaMA code.

    every update EMA ← 0.995 EMA + 0.005 θ;   every 260th θ ← EMA, EMA ← start

Against GRPO: drift is undone by resets rather than by a strong divergence: β is 0.02, measured against the start. The
optimiser's state is kept. All values are the authors'.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import ElasticReset
from mmrl.objective.divergence import K3

ELASTIC_RESET = replace(
    GRPO,
    name="elastic_reset",
    title="GRPO with Elastic Reset",
    paper="2312.07551",
    summary="Every so often the policy becomes its moving average, and the average the start.",
    divergence=K3(coef=0.02),
    reference=ElasticReset(decay=0.995, every=260),
)
