"""What a group would have been paid by other rewards: the run's own, edited in place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import yaml

from mmrl.data.media_paths import media_paths
from mmrl.errors import ConfigError, RewardError
from mmrl.rewards.build import reward_uses
from mmrl.rewards.catalog import USUAL
from mmrl.rewards.runtime import RewardScorer
from mmrl.traces.record import TraceGroup
from mmrl.traces.rows import GroupRow
from mmrl.types import Prompt, RewardStatus, RolloutGroup
from mmrl_apps.inspector.group_page import detail_text, find_group, shown
from mmrl_apps.shared.markup import fragment

if TYPE_CHECKING:
    from mmrl_apps.inspector.inspector import OpenRun

LONGEST = 20_000  # characters of an edited set
_NETWORK = ("judge",)  # rewards that call an address: only as the run's own config has them


def own_set(run: OpenRun, row: GroupRow) -> str:
    """The rewards of the group's task, as YAML to edit; of a run without config, what is usual for its answer."""
    sets = run.rewards()
    lean = [
        {
            key: value
            for key, value in entry.items()
            if value not in (None, {}, False, "zero") and key != "timeout_seconds"
        }
        for entry in _configured(sets.get(row.task)) or _configured(sets.get("default"))
    ]
    lean = lean or [{"name": USUAL[run.index.group(row).sample.answer.type]}, {"name": "format"}]
    return str(yaml.safe_dump(lean, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110))


def rescored_html(run: OpenRun, step: int, place: int, text: str) -> str:
    """A table of the completions with what they were paid and what `text` would pay them.

    `text` is a list of reward entries as in a config. ConfigError or RewardError where it is no such thing, or where it
    would run code or call addresses that the run's own config does not name.
    """
    _, group = find_group(run, step, place)
    uses = reward_uses({"default": _entries(text, run)})
    for use in uses["default"]:
        use.reward.verify(group.sample, name=use.name)
        if use.reward.needs_frames:
            for path in media_paths(group.sample):
                run.guard.check_path(path)
    with RewardScorer(uses, frames="mmrl.data.pictures:pictures_of") as scorer:
        scored, dropped = scorer.score([_asked(group)])
    if not scored:
        raise RewardError("every completion was left out: " + "; ".join(d.detail or d.reason for d in dropped[:3]))
    kept = {rollout.index: place for place, rollout in enumerate(scored[0].group.rollouts)}
    before = [rollout.total for rollout in group.rollouts]
    means = (_mean(before), _mean(scored[0].totals))
    rows = []
    for traced in group.rollouts:
        position = kept.get(traced.rollout.index)
        after = None if position is None else scored[0].totals[position]
        rows.append(
            {
                "number": traced.rollout.index + 1,
                "hue": traced.rollout.index % 12,
                "before": shown(traced.total),
                "after": shown(after),
                "change": 0 if after is None else (after > traced.total + 1e-9) - (after < traced.total - 1e-9),
                "pull_before": shown(traced.total - means[0], signed=True),
                "pull_after": "–" if after is None else shown(after - means[1], signed=True),
                "parts": [] if position is None else _parts(scored[0].results[position]),
            }
        )
    spread = max(scored[0].totals) - min(scored[0].totals)
    summary = {"before": shown(means[0]), "after": shown(means[1]), "signal": spread > 1e-9, "spread": shown(spread)}
    return fragment("rescored.html.j2", rows=rows, summary=summary)


def _entries(text: str, run: OpenRun) -> list[dict[str, Any]]:
    if len(text) > LONGEST:
        raise ConfigError(f"the reward set is longer than {LONGEST} characters")
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"this is no YAML: {' '.join(str(error).split())}") from None
    if isinstance(found, dict) and ("name" in found or "path" in found):
        found = [found]
    if not isinstance(found, list) or not found or not all(isinstance(entry, dict) for entry in found):
        raise ConfigError(
            "write a list of rewards, one a line, like:\n- {name: iou, weight: 1.0}\n- {name: format, weight: 0.2}"
        )
    own = [entry for entries in run.rewards().values() for entry in _configured(entries)]
    for entry in found:
        if entry.get("path") is not None and entry["path"] not in [e.get("path") for e in own]:
            raise ConfigError(
                f"the reward {entry['path']!r} is code that this run's config does not name, and this page runs no "
                "other code. Try it with `mmrl score`."
            )
        if entry.get("name") in _NETWORK and (entry.get("options") or {}) not in [
            e.get("options") or {} for e in own if e.get("name") == entry["name"]
        ]:
            raise ConfigError(
                f"the reward {entry['name']!r} calls an address; here it works as the run's config has it only."
            )
    return [{str(key): value for key, value in entry.items()} for entry in found]


def _configured(entries: Any) -> list[dict[str, Any]]:
    """A set of the run's config; empty where the file, which may be anybody's, holds something else."""
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _asked(group: TraceGroup) -> RolloutGroup:
    prompt = Prompt(sample=group.sample, text=group.prompt_text, token_ids=(0,), views=group.views)
    return RolloutGroup(prompt=prompt, rollouts=tuple(traced.rollout for traced in group.rollouts))


def _parts(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "value": shown(result.value),
            "weight": shown(result.weight),
            "note": detail_text(result.details),
            "failed": result.status is not RewardStatus.OK,
        }
        for name, result in results.items()
    ]


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else math.nan
