"""Every sampler by name. Each is made from (samples, seed=…, its own settings)."""

from typing import Any

from mmrl.curriculum.bandit import CategoryBandit
from mmrl.curriculum.easy_to_hard import EasyToHard
from mmrl.curriculum.knapsack import Knapsack
from mmrl.curriculum.replay import HardReplay
from mmrl.curriculum.shuffled import Shuffled
from mmrl.curriculum.solvable import SolvableOnly
from mmrl.curriculum.uncertainty import Uncertain
from mmrl.curriculum.variance_aware import VarianceAware

SAMPLERS: dict[str, type[Any]] = {
    "shuffled": Shuffled,
    "solvable": SolvableOnly,
    "variance_aware": VarianceAware,
    "bandit": CategoryBandit,
    "hard_replay": HardReplay,
    "easy_to_hard": EasyToHard,
    "uncertain": Uncertain,
    "knapsack": Knapsack,
}
