"""Length of the whole completion: a band, the cosine reward, soft overlong punishment.

Lengths are in tokens; a stored completion without tokens is measured in words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmrl.errors import ConfigError
from mmrl.types import Completion, Sample, Score


def length_of(completion: Completion) -> int:
    return completion.token_count if completion.token_count is not None else len(completion.text.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBand:
    """1 where shortest ≤ length ≤ longest, else 0. Video-R1, arXiv:2503.21776 (which pays 0.2 for 320 to 512 tokens,
    and only in groups with two right answers: that rule compares rollouts and belongs to credit).
    """

    shortest: int = 1
    longest: int = 512

    def __post_init__(self) -> None:
        if not 0 <= self.shortest <= self.longest:
            raise ConfigError("reward 'length': needs 0 ≤ shortest ≤ longest.")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        length = length_of(completion)
        inside = self.shortest <= length <= self.longest and bool(completion.text)
        return Score(value=float(inside), details={"length": length})


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineLength:
    """r = end + (start − end) · (1 + cos(π · min(L / longest, 1))) / 2: from `start` at length 0 to `end` at `longest`.

    Right answers: 1 → 0.5; wrong ones: −1 → −0.5, so that a wrong answer does better to think longer. Right means that
    the reward `accuracy` of the catalogue, mapped to [0, 1], is at least 0.5; `auto` takes the usual one of the answer
    type. arXiv:2502.03373, with TRL's constants and its cut at `longest`.
    """

    longest: int = 1024
    right_start: float = 1.0
    right_end: float = 0.5
    wrong_start: float = -1.0
    wrong_end: float = -0.5
    accuracy: str = "auto"

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise ConfigError("reward 'length_cosine': longest must be at least 1.")
        if self.accuracy == "length_cosine":
            raise ConfigError("reward 'length_cosine': accuracy cannot be length_cosine itself.")

    @property
    def bounds(self) -> tuple[float, float]:
        ends = (self.right_start, self.right_end, self.wrong_start, self.wrong_end)
        return min(ends), max(ends)

    @property
    def in_process(self) -> bool:
        """With `auto` a sample's answer type decides, and mathematics needs a process that can be killed."""
        from mmrl.rewards.catalog import reward

        return self.accuracy != "auto" and reward(self.accuracy).in_process

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        from mmrl.rewards.catalog import reward

        judge = reward(self._accuracy_of(sample))
        right = judge.unit(judge.function(completion, sample).value) >= 0.5
        start, end = (self.right_start, self.right_end) if right else (self.wrong_start, self.wrong_end)
        share = min(1.0, length_of(completion) / self.longest)
        value = end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * share))
        return Score(value=value, details={"right": right, "length": length_of(completion)})

    def verify(self, sample: Sample) -> None:
        from mmrl.rewards.catalog import reward

        name = self._accuracy_of(sample)
        reward(name).verify(sample, name=name)

    def _accuracy_of(self, sample: Sample) -> str:
        from mmrl.rewards.catalog import USUAL

        return USUAL[sample.answer.type] if self.accuracy == "auto" else self.accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftOverlong:
    """0 up to longest − margin; then falling to −1 at `longest`; −1 beyond. DAPO, arXiv:2503.14476, equation 13."""

    longest: int = 1024
    margin: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.margin <= self.longest:
            raise ConfigError("reward 'soft_overlong': needs 0 < margin ≤ longest.")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        length = length_of(completion)
        over = length - (self.longest - self.margin)
        return Score(value=-min(1.0, max(0.0, over / self.margin)), details={"length": length})
