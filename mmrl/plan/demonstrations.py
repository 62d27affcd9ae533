"""Completions that the policy did not write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mmrl.batch import NO_NEEDS, Need
from mmrl.plan.part import Write
from mmrl.types import Prompt, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruth:
    """The gold answer in the asked form takes the place of the group's last rollout. TempSamp-R1, arXiv:2509.18056.

    It is in the group's mean and spread. `thought` is what stands in the reasoning tags, `{answer}` for the answer in
    words; it is ours (the authors' is not known) and enters only forms that ask for reasoning. Answers whose written
    form depends on the model's coordinates (boxes, points) cannot be demonstrated: a DataError says so.
    """

    thought: str = "The answer is {answer}."
    origin: ClassVar[str] = "ground_truth"
    alone: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, prompt: Prompt, write: Write) -> str | None:
        return write(prompt, self.thought)

    def idle(self, samples: Sequence[Sample]) -> str | None:
        return None  # every sample has an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCompletion:
    """A completion stored in the manifest, for samples the base policy always solved. DPH-RL, arXiv:2509.07430.

    A sample whose `metadata.pass_rate` is at least `least_pass_rate` and that has text in `metadata.base_completion` is
    not sampled: that completion is its group. Both come from screening the data with the base policy (8 rollouts each
    in the authors' code, all of them correct): `screening: {}` in the run's config, or beforehand
    `mmrl data difficulty --keep-completion`.
    """

    least_pass_rate: float = 1.0
    origin: ClassVar[str] = "base_policy"
    alone: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, prompt: Prompt, write: Write) -> str | None:
        return self._text(prompt.sample)

    def idle(self, samples: Sequence[Sample]) -> str | None:
        if any(self._text(sample) for sample in samples):
            return None
        return (
            f"no training sample has metadata.base_completion and a pass_rate of at least {self.least_pass_rate:g}, so "
            "nothing is rehearsed. Add `screening: {}` to the config, or make the manifest with "
            "`mmrl data difficulty --keep-completion`"
        )

    def _text(self, sample: Sample) -> str | None:
        known = sample.metadata
        text = known.get("base_completion")
        if not isinstance(text, str) or not text or float(known.get("pass_rate", 0.0)) < self.least_pass_rate:
            return None
        return text
