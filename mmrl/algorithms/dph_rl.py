"""DPH-RL, forward KL: rehearsal of what the base policy knew. arXiv:2509.07430; as in the authors' code.

    samples the base policy always solved (8 of 8):   loss = c · mean_t (u − 1 − ln u),  u = π/π_0, on a stored
                                                      completion of the base policy: estimates KL(π_0‖π)
    all others:                                       GRPO's loss without a divergence

Against GRPO: the divergence keeps mass where the base policy had it, instead of pulling the policy back where it now
goes; it is measured on the base policy's completions, where its mean is the divergence it is named after.

Both sorts of sample come from screening the data with the base policy: `metadata.pass_rate` and
`metadata.base_completion`. A sample without them is one of the others. Either as a stage of the run, with the policy
that RL starts from,

    screening: {rollouts: 8}

or once, for several runs: `mmrl data difficulty train.jsonl --model BASE --rollouts 8 --keep-completion --out
screened.jsonl`, then `data: {train: screened.jsonl}`. Ask in the prompt mode of the run, and with the model it starts
from. c is 0.01 to 0.05 in the authors' scripts. Their log-probabilities
of the base policy are stored; here the frozen reference computes them, which is the same policy where the RL stage
starts from it. Rehearsed rows and others share the update's denominators, tokens of all rows alike: our choice.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.credit.group_weight import OnDemonstrations
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import GeneratorDivergence
from mmrl.plan.demonstrations import StoredCompletion

DPH_RL = replace(
    GRPO,
    name="dph_rl",
    title="DPH-RL (forward KL)",
    paper="2509.07430",
    summary="What the base policy always solved is rehearsed on its own completions; no divergence elsewhere.",
    demonstrations=(StoredCompletion(least_pass_rate=1.0),),
    divergence_weight=(OnDemonstrations(),),
    aggregation=TokenMean(),
    divergence=GeneratorDivergence(coef=0.01, form="forward_kl"),
    divergence_aggregation=TokenMean(),
)
