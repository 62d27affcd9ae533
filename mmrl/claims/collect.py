"""Reads a finished replication out: every measure of every arm and seed, what the rule says, and how it came about."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

from mmrl import __version__
from mmrl.claims.configs import changed_settings
from mmrl.claims.measure import measured
from mmrl.claims.results import (
    ClaimResults,
    StoredArm,
    StoredInterval,
    StoredMachine,
    StoredNumbers,
    StoredSpent,
    StoredStatement,
    rule_of,
)
from mmrl.claims.schema import Claim, DataEntry, Settings
from mmrl.claims.spent import Spent, summed
from mmrl.claims.unit import EVALUATION, TRAINED, Replication, read_trained
from mmrl.claims.verdict import judge, mean_interval, overall
from mmrl.config.load import load_config

VERSIONS = ("torch", "transformers", "numpy", "scipy")


def collect_results(
    replication: Replication, *, quick: bool, changes: Settings, processes: int, seconds: float
) -> ClaimResults:
    """The results of a replication all of whose units are done."""
    claim = replication.claim
    rule = rule_of(claim.rule)
    seeds = range(claim.seeds)
    numbers = {arm: {name: _numbers(replication, name, arm) for name in claim.measures} for arm in claim.arms}
    statements = []
    for entry in claim.verdict:
        pair = [[numbers[arm][entry.measure][seed] for seed in seeds] for arm in (entry.arm, entry.against)]
        found = judge(pair[0], pair[1], expect=entry.expect, least=entry.least, margin=entry.margin, rule=rule)
        statements.append(
            StoredStatement(
                **entry.model_dump(),
                differences=found.differences,
                interval=StoredInterval.of(found.interval),
                verdict=found.verdict,
                reason=found.reason,
            )
        )
    arms = {}
    for arm, measures in numbers.items():
        stored = {}
        for name, per_seed in measures.items():
            known = [value for value in per_seed.values() if value is not None]
            interval = mean_interval(known, rule)
            mean = fmean(known) if known else None
            stored[name] = StoredNumbers(seeds=per_seed, mean=mean, interval=StoredInterval.of(interval))
        arms[arm] = StoredArm(
            says=claim.arms[arm].says,
            measures=stored,
            spent=_spent(replication, arm),
            settings=_settings(replication, arm),
        )
    return ClaimResults(
        claim=without_paths(claim),
        quick=quick,
        changes=changes,
        seeds=tuple(seeds),
        arms=arms,
        statements=tuple(statements),
        verdict=overall([each.verdict for each in statements if each.decides]),
        cold_start=_spent(replication, None),
        machine=machine(processes=processes, seconds=seconds),
    )


def machine(*, processes: int, seconds: float) -> StoredMachine:
    """This machine as far as it matters to times, without a name that would tell which it is."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0.0
    return StoredMachine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=round(memory, 1),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        system=f"{platform.system()} {platform.machine()}",
        processes=processes,
        seconds=round(seconds, 1),
        date=datetime.now(UTC).date().isoformat(),
        versions={"mmrl": __version__, "python": platform.python_version(), **_versions()},
    )


def _numbers(replication: Replication, name: str, arm: str) -> dict[int, float | None]:
    entry = replication.claim.measures[name]
    return {seed: measured(replication, entry, seed=seed, arm=arm) for seed in range(replication.claim.seeds)}


def _spent(replication: Replication, arm: str | None) -> StoredSpent:
    """Mean over seeds."""
    per_seed: list[Spent] = []
    for seed in range(replication.claim.seeds):
        folders = replication.folders(seed, arm)
        steps = [step for folder in folders if (folder / TRAINED).is_file() for step in read_trained(folder).steps]
        per_seed.append(summed(steps))
    names: Sequence[str] = list(StoredSpent.model_fields)
    return StoredSpent(**{name: fmean(getattr(spent, name) for spent in per_seed) for name in names})


def _settings(replication: Replication, arm: str) -> dict[str, dict[str, Any]]:
    """The resolved settings of the first seed's stages and evaluations, from the files that the runs wrote."""
    found = {}
    for folder in replication.folders(0, arm):
        if (folder / "config.yaml").is_file():
            found[folder.name] = changed_settings(load_config(folder / "config.yaml"))
        for path in sorted((folder / EVALUATION).glob("*.yaml")):
            found[f"{folder.name}, evaluation {path.stem}"] = changed_settings(load_config(path))
    return found


def without_paths(claim: Claim) -> Claim:
    data: dict[str, DataEntry] = {
        name: entry.model_copy(update={"recipe": entry.recipe and Path(entry.recipe).name})
        for name, entry in claim.data.items()
    }
    return claim.model_copy(update={"data": data})


def _versions() -> dict[str, str]:
    found = {}
    for package in VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
