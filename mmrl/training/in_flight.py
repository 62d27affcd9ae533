"""Groups that were collected ahead of their step, as a checkpoint keeps them: plain values and tensors, no pixels.

Pixels are by far the most of a group, and are decoded anew from the samples' files. A group whose media cannot be used
any more, or are no longer what its rollouts were drawn from, is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, cast

from mmrl import types
from mmrl.ranks import Ranks
from mmrl.training.collect import Collected, Renderer
from mmrl.training.sharing import without_pixels
from mmrl.types import Dropped, Prompt, ScoredGroup

_KIND = "mmrl type"  # key under which a written value says what it was
_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        types.Answer,
        Collected,
        types.Completion,
        types.Dropped,
        types.FinishReason,
        types.Media,
        types.MediaView,
        types.Prompt,
        types.RewardResult,
        types.RewardStatus,
        types.Rollout,
        types.RolloutGroup,
        types.Sample,
        types.Score,
        types.ScoredGroup,
        types.VisionInputs,
    )
}


class InFlight:
    """The groups of a step that is still to be trained on. Held by the loop, saved in checkpoints."""

    def __init__(self) -> None:
        self._groups: tuple[int, Collected] | None = None  # the step they are for
        self._loaded: Mapping[str, Any] | None = None  # of a checkpoint

    def put(self, step: int, collected: Collected) -> None:
        """Keep the groups of `step`."""
        self._groups = (step, collected)

    def take(self, step: int, renderer: Renderer, ranks: Ranks) -> Collected | None:
        """The groups of `step`, which are in flight no more; None where none are there. All ranks call it together."""
        if self._loaded is not None:
            self.put(int(self._loaded["step"]), restored(self._loaded["groups"], renderer, ranks))
            self._loaded = None
        kept, self._groups = self._groups, None
        return kept[1] if kept is not None and kept[0] == step else None

    def state(self) -> dict[str, Any] | None:
        """Plain values and tensors from which `load_state` continues exactly; None: nothing is in flight."""
        return None if self._groups is None else {"step": self._groups[0], "groups": saved(self._groups[1])}

    def load_state(self, state: Mapping[str, Any] | None) -> None:
        self._loaded = state


def saved(collected: Collected) -> dict[str, Any]:
    """What `restored` makes the same groups of. Alike on all ranks."""
    blind = replace(
        collected,
        kept=[without_pixels(group) for group in collected.kept],
        filtered=[(without_pixels(group), why) for group, why in collected.filtered],
    )
    return cast(dict[str, Any], _written(blind))


def restored(state: Mapping[str, Any], renderer: Renderer, ranks: Ranks) -> Collected:
    """The groups, their pixels decoded anew: each rank those of its share. All ranks call it together."""
    collected = cast(Collected, _read(state))
    kept = collected.kept
    holders = {group.group.prompt.sample.id: i % ranks.count for i, group in enumerate(kept)}
    own = [group for group in kept if holders[group.group.prompt.sample.id] == ranks.rank]
    shown, lost = _with_pixels(own, renderer)
    gone = {drop.sample_id: drop for part in ranks.gather(lost) for drop in part}
    return replace(
        collected,
        kept=[shown.get(g.group.prompt.sample.id, g) for g in kept if g.group.prompt.sample.id not in gone],
        dropped=[*collected.dropped, *gone.values()],
        holders={id_: rank for id_, rank in holders.items() if id_ not in gone},
    )


def _with_pixels(groups: Sequence[ScoredGroup], renderer: Renderer) -> tuple[dict[str, ScoredGroup], list[Dropped]]:
    prompts, lost = renderer.render([group.group.prompt.sample for group in groups])
    by_sample = {prompt.sample.id: prompt for prompt in prompts}
    shown: dict[str, ScoredGroup] = {}
    for group in groups:
        then = group.group.prompt
        now = by_sample.get(then.sample.id)
        if now is None:
            continue  # among the lost
        if (now.token_ids, _digests(now)) == (then.token_ids, _digests(then)):
            shown[then.sample.id] = replace(group, group=replace(group.group, prompt=now))
            continue
        lost.append(
            Dropped(
                sample_id=then.sample.id,
                stage="media",
                reason="changed since",
                detail="its media, or how prompts are made of them, are no longer what its rollouts were drawn from",
            )
        )
    return shown, lost


def _digests(prompt: Prompt) -> tuple[str, ...]:
    return prompt.vision.digests if prompt.vision is not None else ()


def _written(value: Any) -> Any:
    if isinstance(value, Enum):
        return {_KIND: type(value).__name__, "value": value.value}
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: _written(getattr(value, field.name)) for field in fields(value)}
        return {_KIND: type(value).__name__, **own}
    if isinstance(value, Mapping):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return value if all(isinstance(item, int | float | str) for item in value) else tuple(map(_written, value))
    if isinstance(value, list):
        return [_written(item) for item in value]
    return value


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        plain = {key: _read(item) for key, item in value.items() if key != _KIND}
        if _KIND not in value:
            return plain
        kind = _KINDS[value[_KIND]]
        return kind(plain["value"]) if issubclass(kind, Enum) else kind(**plain)
    if isinstance(value, tuple):
        return value if all(isinstance(item, int | float | str) for item in value) else tuple(map(_read, value))
    if isinstance(value, list):
        return [_read(item) for item in value]
    return value
