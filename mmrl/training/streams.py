"""The step's per-token streams: only those that some part asked for, and while rewards are being scored if possible.

Old, reference and entropy passes need the rollouts but not their rewards. `StepStreams.prepare` runs them on groups as
they come from the engine, beside the reward processes; `assemble` then lays out the rows of the rollouts that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmrl.algorithms.algorithm import Algorithm
from mmrl.backend.backend import TrainBackend
from mmrl.batch import Need, Streams
from mmrl.credit.answer_span import answer_spans
from mmrl.ranks import ALONE, Ranks
from mmrl.types import Prompt, RolloutGroup

Rows = dict[str, Tensor]  # stream → [G, T]
Blacken = Callable[[Prompt, float, int], Prompt]  # (prompt, fraction, seed) → with that share of its patches black


class StepStreams:
    """Streams of one step's groups, each computed once."""

    def __init__(
        self,
        backend: TrainBackend,
        algorithm: Algorithm,
        *,
        minibatches: int,
        decode: Callable[[Sequence[int]], str],
        blacken: Blacken | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._backend = backend
        self._ranks = ranks
        self._decode = decode
        needs = algorithm.needs
        # With a single update the old policy is the policy itself: nothing to compute (see Algorithm.loss).
        self._old = minibatches > 1 or Need.OLD_LOGPROBS in needs
        self._entropy = Need.ENTROPY in needs
        self._disagreement = Need.DISAGREEMENT in needs
        self._start = self._old or self._entropy or self._disagreement  # whether the policy itself has to be asked
        self._reference = algorithm.needs_reference
        self._masked = algorithm.masked_fraction if Need.MASKED_LOGPROBS in needs else 0.0
        self._blacken = blacken
        self._spans = Need.ANSWER_SPAN in needs
        # Behind a filter the passes would also be spent on groups that are thrown away.
        self.worth_preparing = not algorithm.filters and (self._start or self._reference or self._masked > 0)
        self._known: dict[str, Rows] = {}  # sample id → its group's streams

    def prepare(self, groups: Sequence[RolloutGroup]) -> None:
        """Compute the streams of these groups, those that are known already apart. All ranks do it together."""
        missing = [g for g in groups if g.prompt.sample.id not in self._known]
        if not any(self._ranks.most([len(missing)])):
            return
        streams: Rows = {}
        if self._start:
            start = self._backend.outputs(missing, entropy=self._entropy, disagreement=self._disagreement)
            if self._old:
                streams["old_logprobs"] = start.logprobs.cpu()
            if start.entropy is not None:
                streams["entropy"] = start.entropy.cpu()
            if start.disagreement is not None:
                streams["disagreement"] = start.disagreement.cpu()
        if self._reference:
            streams["ref_logprobs"] = self._backend.outputs(missing, reference=True).logprobs.cpu()
        if self._masked and self._blacken is not None:
            dark = [
                replace(group, prompt=self._blacken(group.prompt, self._masked, group.rollouts[0].seed))
                for group in missing
            ]
            streams["masked_logprobs"] = self._backend.outputs(dark).logprobs.cpu()
        first = 0
        for group in missing:
            rows = slice(first, first + len(group.rollouts))
            self._known[group.prompt.sample.id] = {name: values[rows] for name, values in streams.items()}
            first = rows.stop

    def _tell(self) -> None:
        """Let every rank know what any of them knows."""
        for known in self._ranks.gather(self._known) if self._ranks.several else ():
            self._known |= known

    def assemble(self, groups: Sequence[RolloutGroup], own: Sequence[bool] | None = None) -> Streams:
        """[N, T] over the rollouts of `groups` in order, T the longest of them. Rollouts may have left their group.

        With several ranks, of all their groups; each computes what nobody knows yet of its `own`.
        """
        self._tell()
        self.prepare([g for i, g in enumerate(groups) if own is None or own[i]])
        self._tell()
        lengths = [len(r.token_ids) for g in groups for r in g.rollouts]
        laid_out: Rows = {}
        row = 0
        for group in groups:
            known = self._known[group.prompt.sample.id]
            for rollout in group.rollouts:
                for name, values in known.items():
                    target = laid_out.setdefault(name, torch.zeros(len(lengths), max(lengths), dtype=values.dtype))
                    target[row, : lengths[row]] = values[rollout.index, : lengths[row]]
                row += 1
        return Streams(**laid_out, answer_span=answer_spans(groups, self._decode) if self._spans else None)
