"""The run config of every stage and evaluation of a claim: `base`, then the arm's settings, then the stage's own.

    base ← arm.set ← stage.set (or evaluation.set) ← what the replication changes everywhere (--quick, KEY=VALUE)

laid over each other as a config file is over the one it extends; run, data and model.path are filled in.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrl.claims.schema import ArmEntry, Claim, EvaluationEntry, QuickEntry, Settings, StageEntry
from mmrl.config.load import load_config
from mmrl.config.schema import Config
from mmrl.config.tree import Node, Origin, merge, place, plain, shown
from mmrl.config.yaml_file import dump_yaml, parse_override
from mmrl.errors import ConfigError


def laid_over(*settings: Settings) -> Settings:
    """Each on top of those before it."""
    whole = _node({})
    for each in settings:
        whole = merge(whole, _node(each))
    merged: Settings = plain(whole)
    return merged


def settings_of(overrides: Sequence[str]) -> Settings:
    """KEY=VALUE arguments as sections of a config."""
    root = _node({})
    for override in overrides:
        parts, value, problems = parse_override(override)
        if problems:
            raise ConfigError("\n  ".join(str(problem) for problem in problems))
        root = place(parts, value, root)
    settings: Settings = plain(root)
    return settings


def as_run(claim: Claim, *, quick: bool, seeds: int | None, changes: Settings) -> Claim:
    """The claim with what `--quick`, `--seeds` and KEY=VALUE change written into it, so that it says what was run."""
    less = claim.quick if quick else QuickEntry(seeds=claim.seeds)
    arms = {name: arm for name, arm in claim.arms.items() if not less.arms or name in less.arms}
    statements = tuple(each for each in claim.verdict if each.arm in arms and each.against in arms)
    if not any(statement.decides for statement in statements):
        raise ConfigError(f"claim {claim.name}: quick.arms leaves no deciding statement with both its arms; name more")

    def changed(stages: Sequence[StageEntry], own: Settings) -> tuple[StageEntry, ...]:
        return tuple(stage.model_copy(update={"set": laid_over(stage.set, own, changes)}) for stage in stages)

    return claim.model_copy(
        update={
            "seeds": seeds or less.seeds,
            "cold_start": changed(claim.cold_start, less.cold_start),
            "arms": {n: a.model_copy(update={"stages": changed(a.stages, less.set)}) for n, a in arms.items()},
            "evaluations": {
                name: entry.model_copy(update={"set": laid_over(entry.set, less.set, changes)})
                for name, entry in claim.evaluations.items()
            },
            "verdict": statements,
        }
    )


def stage_settings(claim: Claim, arm: ArmEntry | None, stage: StageEntry) -> Settings:
    """What a stage's config holds besides run, data and model.path. arm: None is the cold start."""
    return laid_over(claim.base, arm.set if arm else {}, stage.set)


def evaluation_settings(claim: Claim, arm: ArmEntry, evaluation: EvaluationEntry) -> Settings:
    """The same for an evaluation."""
    limit = {"evaluation": {"limit": evaluation.limit}} if evaluation.limit else {}
    return laid_over(claim.base, arm.set, limit, evaluation.set)


def run_config(
    settings: Settings, *, what: str, name: str, folder: Path, seed: int, data: Mapping[str, str], model: str | None
) -> Config:
    """The config of one run. `what` names it in error messages. model: None makes the tiny one, of this seed.

    Nothing is told to trackers, unless the settings say so: a replication is dozens of runs.
    """
    filled: Settings = {"run": {"name": name, "folder": str(folder), "seed": seed}, "data": dict(data)}
    if model is not None:
        filled["model"] = {"path": model, "tiny": None}
    elif settings.get("model", {}).get("tiny") is not None:
        filled["model"] = {"tiny": {"seed": seed}}
    whole = laid_over({"tracking": {"to": []}}, settings, filled)
    with tempfile.TemporaryDirectory(prefix="mmrl-claim-") as scratch:
        path = Path(scratch) / f"{name}.yaml"
        path.write_text(dump_yaml(whole), encoding="utf-8")
        try:
            return load_config(path)
        except ConfigError as error:
            raise ConfigError(_without_file(str(error), path, what)) from None


def check_configs(claim: Claim) -> None:
    """Every config that the claim leads to, without building anything. ConfigError with all mistakes."""
    wrong: list[str] = []
    sound: set[str] = set()  # what was found so already: arms are often evaluated alike
    for what, settings, data in _all(claim):
        key = json.dumps([what.endswith("sft"), settings, data], sort_keys=True)
        if key in sound:
            continue
        entry = claim.data[data]
        recipe = {"recipe": str(entry.recipe or claim.data[entry.mix[0]].recipe)}  # what it stands for is not looked at
        try:
            config = run_config(settings, what=what, name="check", folder=Path("runs"), seed=0, data=recipe, model=None)
        except ConfigError as error:
            wrong.append(str(error))
            continue
        if what.endswith("sft") and config.sft is None:
            wrong.append(f"{what}: its config has no `sft` section, which says how it learns. Add one to base or set.")
        sound.add(key)
    if wrong:
        raise ConfigError(f"claim {claim.name}: " + "\n  ".join(dict.fromkeys(wrong)))


def _all(claim: Claim) -> list[tuple[str, Settings, str]]:
    """(what it is, settings, data set) of every config."""
    found = [
        (f"cold_start, stage {number} {stage.learner}", stage_settings(claim, None, stage), claim.data_of(stage))
        for number, stage in enumerate(claim.cold_start, start=1)
    ]
    for name, arm in claim.arms.items():
        found += [
            (f"arm {name}, stage {number} {stage.learner}", stage_settings(claim, arm, stage), claim.data_of(stage))
            for number, stage in enumerate(arm.stages, start=1)
        ]
        found += [
            (f"arm {name}, evaluation {on}", evaluation_settings(claim, arm, entry), entry.data)
            for on, entry in claim.evaluations.items()
        ]
    return found


def _node(value: Any) -> Node:
    """Plain values as the tree that `merge` works on."""
    if isinstance(value, Mapping):
        return Node(value={str(key): _node(child) for key, child in value.items()}, origin=Origin())
    if isinstance(value, list | tuple):
        return Node(value=tuple(_node(child) for child in value), origin=Origin())
    return Node(value=value, origin=Origin())


def _without_file(message: str, path: Path, what: str) -> str:
    """The message with what it is about in place of a file that is gone by now."""
    return re.sub(re.escape(shown(path)) + r"(:\d+)?", what, message)


def changed_settings(config: Config) -> dict[str, Any]:
    """What of a resolved config is worth storing: all that is not a default, without places on this machine."""
    fields: dict[str, Any] = config.model_dump(mode="json", exclude_defaults=True)
    fields.pop("run", None)
    fields.pop("data", None)
    model = fields.get("model", {})
    model.pop("path", None)
    return {key: value for key, value in fields.items() if value}
