"""T-GRPO: contrastive temporal reward (Video-R1). arXiv:2503.21776; as in the authors' code.

    p  = mean accuracy of the G rollouts,   p' = that of G/2 rollouts of the same clip with its frames shuffled
    r_i ← r_i + 0.3   where p ≥ 0.8 p' and accuracy_i > 0.1;   then GRPO's loss with β = 0.04, d clamped to ±10

Against GRPO: what the policy answers as well without the order of the frames is not paid extra, so that it learns to
use it. The shuffled rollouts are only compared with, never trained, and cost half as many completions again. Prompts
without a clip get no bonus: `docs/algorithms.md` has how such twins are made. p = p' = 0 passes the test, but then
nobody is accurate.

The authors' total also has a length reward, `{name: length}` in the recipe. All values here are their code's.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.credit.shaping import TwinBonus
from mmrl.objective.divergence import K3
from mmrl.plan.views import ShuffledFrames

T_GRPO = replace(
    GRPO,
    name="t_grpo",
    title="T-GRPO",
    paper="2503.21776",
    summary="A bonus for answering better than with the frames shuffled.",
    views=(ShuffledFrames(share=0.5),),
    shaping=(TwinBonus(view="shuffled_frames", coef=0.3, ratio=0.8, least_accuracy=0.1),),
    divergence=K3(coef=0.04, clamp=10.0),
)
