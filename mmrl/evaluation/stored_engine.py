"""An engine that generates nothing twice: what is in the store is taken from there, the rest is asked and kept.

A completion is found again by what decides it: the model, the prompt's tokens, the pixels it shows, how tokens are
drawn and, where they are drawn at random, the rollout's own seed. So another manifest, another batch, a longer list of
samples or more completions of each cost what is new in them, and a killed evaluation goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mmrl.errors import RunError
from mmrl.evaluation.completion_store import CompletionStore, Json
from mmrl.rollout.engine import Closes, LosesGroups, RolloutEngine, Sampling, Tells
from mmrl.rollout.seeds import rollout_seed
from mmrl.types import Completion, Dropped, FinishReason, Prompt, Rollout, RolloutGroup

if TYPE_CHECKING:
    from torch import Tensor


class StoredEngine:
    """Answers from `store`, and asks the engine that `start` makes, once, for what is not there.

    Log-probabilities are not kept: those of a completion from the store are NaN. `run_seed` is the engine's.
    """

    def __init__(self, start: Callable[[], RolloutEngine], store: CompletionStore, *, run_seed: int) -> None:
        self._start = start
        self._store = store
        self._run_seed = run_seed
        self._engine: RolloutEngine | None = None
        self.generated = 0  # completions that were asked for
        self.found = 0  # that were in the store

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        counts = list(sizes or [sampling.group_size] * len(prompts))
        keys = [
            [completion_key(prompt, sampling, self._seed(prompt, sampling, step, i)) for i in range(count)]
            for prompt, count in zip(prompts, counts, strict=True)
        ]
        missing: dict[int, list[int]] = defaultdict(list)  # first index that is not known → places of prompts
        claimed: set[str] = set()
        for place, own in enumerate(keys):
            first = next((i for i, key in enumerate(own) if self._store.get(key) is None), len(own))
            self.found += first
            if first < len(own) and own[first] not in claimed:  # the same prompt may stand under two names
                claimed.add(own[first])
                missing[first].append(place)
        fresh: dict[tuple[int, int], Rollout] = {}  # (place, index)
        for first, places in missing.items():
            asked = [prompts[place] for place in places]
            groups = self._inner().generate(
                asked,
                replace(sampling, first_index=first),
                step=step,
                sizes=[counts[place] - first for place in places],
            )
            made = {group.prompt.sample.id: group for group in groups}
            for place in places:
                group = made.get(prompts[place].sample.id)  # an engine may lose one
                for rollout in group.rollouts if group is not None else ():
                    fresh[place, rollout.index] = rollout
        self._store.add({keys[place][index]: _entry(rollout) for (place, index), rollout in fresh.items()})
        self.generated += len(fresh)
        return [
            RolloutGroup(
                prompt=prompt,
                rollouts=tuple(
                    fresh.get((place, index)) or self._stored(prompt, keys[place][index], index, sampling, step)
                    for index in range(counts[place])
                ),
            )
            for place, prompt in enumerate(prompts)
            if all((place, i) in fresh or self._store.get(key) is not None for i, key in enumerate(keys[place]))
        ]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, version: int) -> None:
        """RunError: the store belongs to one model's weights."""
        raise RunError("an engine that answers from stored completions belongs to one model; its weights do not change")

    def take_dropped(self) -> list[Dropped]:
        return self._engine.take_dropped() if isinstance(self._engine, LosesGroups) else []

    def take_notices(self) -> list[str]:
        return self._engine.take_notices() if isinstance(self._engine, Tells) else []

    def close(self) -> None:
        if self._engine is not None and isinstance(self._engine, Closes):
            self._engine.close()
        self._engine = None

    def _inner(self) -> RolloutEngine:
        if self._engine is None:
            self._engine = self._start()
        return self._engine

    def _seed(self, prompt: Prompt, sampling: Sampling, step: int, index: int) -> int:
        return rollout_seed(self._run_seed, sampling.purpose, step, prompt.sample.id, index)

    def _stored(self, prompt: Prompt, key: str, index: int, sampling: Sampling, step: int) -> Rollout:
        entry = self._store.get(key)
        assert entry is not None
        ids = tuple(entry["token_ids"])
        unknown = (math.nan,) * len(ids)
        return Rollout(
            completion=Completion(
                text=entry["text"],
                token_count=len(ids),
                finish_reason=FinishReason(entry["finish_reason"]),
                views=prompt.views,
            ),
            token_ids=ids,
            behavior_logprobs=unknown,
            policy_logprobs=unknown,
            index=index,
            seed=self._seed(prompt, sampling, step, index),
            policy_version=0,
        )


def prompt_key(prompt: Prompt) -> str:
    """Of what the model is shown: token ids, where pixels stand among them, and the pixels."""
    vision = prompt.vision
    shown = None if vision is None else [vision.digests, vision.grids, vision.kinds, vision.seconds_per_grid]
    return _digest([prompt.token_ids, prompt.media_slots, shown])


def completion_key(prompt: Prompt, sampling: Sampling, seed: int) -> str:
    """Of one completion. Greedily no seed decides it."""
    drawn = None if sampling.temperature == 0 else [sampling.temperature, sampling.top_p, sampling.top_k, seed]
    return _digest([prompt_key(prompt), sampling.max_tokens, sampling.stop, drawn])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _entry(rollout: Rollout) -> Json:
    return {
        "text": rollout.completion.text,
        "finish_reason": rollout.completion.finish_reason.value,
        "token_ids": list(rollout.token_ids),
    }
