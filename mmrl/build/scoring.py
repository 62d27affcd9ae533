"""The reward sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmrl.config.schema import Config
from mmrl.types import Sample

if TYPE_CHECKING:
    from mmrl.rewards.runtime import RewardScorer


def build_scorer(config: Config, samples: Sequence[Sample]) -> RewardScorer:
    """The reward sets, checked on the first samples they will score."""
    from mmrl.rewards.build import reward_uses
    from mmrl.rewards.runtime import RewardScorer

    plain = {task: [use.model_dump(exclude_none=True) for use in uses] for task, uses in config.rewards.items()}
    scoring = config.scoring
    scorer = RewardScorer(
        reward_uses(plain),
        workers=scoring.workers,
        frames="mmrl.data.pictures:pictures_of",
        memory_gib=scoring.memory_gib,
        stop_after_failures=scoring.stop_after_failures,
    )
    try:
        scorer.check(samples)
    except BaseException:
        scorer.close()
        raise
    return scorer
