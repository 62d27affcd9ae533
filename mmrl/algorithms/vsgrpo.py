"""vsGRPO: R1-Zero-like training of visual-spatial reasoning. arXiv:2504.00883 §4.

    loss = GRPO's with β = 1e-4

Against GRPO: the divergence is tiny but kept; without it the paper's format reward collapses to 0 during training. The
paper's equation has one ratio per sequence, not normalised by length; the code it builds on (R1-V) has one per token,
which is the default here: `ratio: {type: sequence, length_normalized: false}` is the equation. With one update per
rollout batch the two have the same gradient direction per token.

β = 1e-4 is the paper's; its ε is not given, 0.2 is GRPO's. The rest of vsGRPO is the run's:

    prompt:  {mode: think}          think · observe (with tags: [observe, answer]) · vanilla (no tags, no format reward)
    rewards: words   [{name: text_exact}, {name: format}]
             numbers [{name: symmetric_relative}, {name: format}]
    rollout: {group_size: 14, temperature: 1}
    train:   {learning_rate: 1e-5, lora: {rank: 16}}

14 rollouts, temperature 1 and LoRA with a learning rate of 1e-5 (2B; 5e-6 for 7B) are the paper's, the rank is not
given. Numbers are judged by δ = |said − gold| / min(said, gold); how δ becomes a reward is not published: max(0, 1 − δ)
is ours, e^{−δ} (`options: {shape: exp}`) and VSI-Bench's `mra` are others. In observe mode the paper saw empty tags
earn the format reward: the strict `format` here wants each tag once, with something in it. The paper's final models
are the vanilla ones: `prompt: {mode: vanilla}`, rewards with `options: {answer_tag: ""}` and without `format`.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.objective.divergence import K3

VSGRPO = replace(
    GRPO,
    name="vsgrpo",
    title="vsGRPO",
    paper="2504.00883",
    summary="GRPO with a tiny divergence that is kept, β = 1e-4.",
    divergence=K3(coef=1e-4),
)
