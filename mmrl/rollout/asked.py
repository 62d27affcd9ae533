"""What a sampler outside the trainer's model is asked: a prompt's own token ids and pixels, and one seed per rollout.

Nothing is tokenised, expanded or resized a second time, so there is no second opinion on what the model sees. Where the
engine computes positions itself, the prompt's own go along with the first prompt of each shape, and are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mmrl.policy.family import Family
from mmrl.rollout.engine import Sampling
from mmrl.rollout.seeds import rollout_seed
from mmrl.types import Prompt, VisionInputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One prompt and how often it is to be completed."""

    name: str  # sample id, for messages
    token_ids: tuple[int, ...]  # [P], placeholders expanded
    media_slots: tuple[tuple[int, int], ...]  # as in Prompt
    vision: VisionInputs | None
    seeds: tuple[int, ...]  # one per rollout
    positions: Tensor | None = None  # [3, P] int64, to be held against the engine's own; None: not this time

    @property
    def load(self) -> int:
        """A measure of the work: tokens of the prompt once and, as a guess, as many again per rollout."""
        return len(self.token_ids) + 64 * len(self.seeds)


class Asker:
    """Makes `Asked` of prompts, with positions for the first prompt of each combination of media kinds.

    A clip of a single grid time, which engines may take for a picture, is a kind of its own there.
    """

    def __init__(self, family: Family, config: Any, *, run_seed: int) -> None:
        self._family = family
        self._config = config
        self._run_seed = run_seed
        self._compared: set[tuple[tuple[str, bool], ...]] = set()

    def ask(self, prompts: Sequence[Prompt], counts: Sequence[int], sampling: Sampling, *, step: int) -> list[Asked]:
        """One per prompt, in order."""
        asked = []
        for prompt, count in zip(prompts, counts, strict=True):
            shape = _shape(prompt.vision)
            fresh = shape not in self._compared
            self._compared.add(shape)
            asked.append(
                Asked(
                    name=prompt.sample.id,
                    token_ids=prompt.token_ids,
                    media_slots=prompt.media_slots,
                    vision=prompt.vision,
                    seeds=tuple(
                        rollout_seed(self._run_seed, sampling.purpose, step, prompt.sample.id, sampling.first_index + i)
                        for i in range(count)
                    ),
                    positions=self._family.prompt_positions(prompt, self._config) if fresh else None,
                )
            )
        return asked


def _shape(vision: VisionInputs | None) -> tuple[tuple[str, bool], ...]:
    """Per item, its kind and whether it has one grid time only."""
    if vision is None:
        return ()
    return tuple((kind, times == 1) for kind, (times, _, _) in zip(vision.kinds, vision.grids, strict=True))
