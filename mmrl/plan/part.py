"""The slots of the plan: which versions of a prompt are asked, and which completions others wrote.

A *twin* is the group of rollouts of an altered version of a prompt: it is scored and compared with, and never trained.
A *demonstration* is a completion the policy did not write, put among a group's rollouts: it is scored, compared and
trained like them. Its log-probabilities under the old policy are those the trainer computes; an engine has none (NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from mmrl.batch import Need
from mmrl.types import Prompt, Sample

Write = Callable[[Prompt, str], str]  # (prompt, thought) → the gold answer as a completion in the prompt's form


class View(Protocol):
    """An altered version of a prompt."""

    needs: ClassVar[frozenset[Need]]
    name: ClassVar[str]  # under which credit parts find the twin

    @property
    def share(self) -> float:
        """The twin's rollouts, as a fraction of the group's; rounded down."""
        ...

    def __call__(self, prompt: Prompt, seed: int) -> Prompt | None:
        """The prompt as it is to be asked, the same for the same seed; None where it has no such version."""
        ...

    def idle(self, samples: Sequence[Sample]) -> str | None:
        """A sentence for the user where none of the training samples can have such a version; else None."""
        ...


class Demonstration(Protocol):
    """A completion for a prompt, and whether the policy is asked as well."""

    needs: ClassVar[frozenset[Need]]
    origin: ClassVar[str]  # who wrote it: `Rollout.origin`
    alone: ClassVar[bool]  # True: instead of the policy's rollouts; False: in place of the last of them

    def __call__(self, prompt: Prompt, write: Write) -> str | None:
        """The text; None where this prompt has none."""
        ...

    def idle(self, samples: Sequence[Sample]) -> str | None:
        """A sentence for the user where none of the training samples has one; else None."""
        ...
