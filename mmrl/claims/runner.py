"""A whole replication: data once, then for every seed the cold start and after it every arm; then the results.

Everything that is finished is on disk and is not done again: the same command goes on where a killed one was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmrl.atomic import write_atomically
from mmrl.claims.collect import collect_results
from mmrl.claims.plot import plot_svg
from mmrl.claims.results import ClaimResults, results_text
from mmrl.claims.schema import Claim, Settings
from mmrl.claims.table import results_markdown
from mmrl.claims.unit import Replication, Unit, is_done, run_unit
from mmrl.claims.worker import Workers
from mmrl.errors import RunError
from mmrl.progress import Progress, SilentProgress, Task

CLAIM_FILE, RESULTS_FILE = "claim.json", "results.json"
SECONDS_FILE = "seconds.json"  # wall time, this process's and earlier ones'
# Changing these leaves what was run as it is: numbers are read out again, statements judged again.
READ_OUT = ("question", "source", "miniature", "seeds", "measures", "rule", "verdict", "quick")


def replicate(
    claim: Claim, out: Path, *, quick: bool, changes: Settings, processes: int, progress: Progress
) -> ClaimResults:
    """Do what is left of a replication in `out`, then write results.json, results.md and results.svg there.

    claim: as it is to be run (`configs.as_run`). Raises Stopped where it was asked to stop, RunError where `out` holds
    another replication.
    """
    replication = Replication(claim=claim, out=out.absolute())
    _claim_folder(replication)
    build_data(replication, progress)
    units: list[Unit] = [(seed, arm) for seed in range(claim.seeds) for arm in (None, *claim.arms)]
    left = [unit for unit in units if not is_done(replication, *unit)]
    done = len(units) - len(left)
    with _clocked(replication.out) as clock, progress.task(claim.name, len(units), done=done) as task:

        def finished(unit: Unit) -> None:
            clock()
            _told(replication, unit, task, progress)

        if processes == 1:
            for seed, arm in left:
                run_unit(replication, seed, arm, SilentProgress())
                finished((seed, arm))
        else:
            _in_processes(replication, left, processes, finished)
    seconds = float(json.loads((replication.out / SECONDS_FILE).read_text()))
    results = collect_results(replication, quick=quick, changes=changes, processes=processes, seconds=seconds)
    write_atomically(replication.out / RESULTS_FILE, results_text(results).encode())
    write_atomically(replication.out / "results.md", results_markdown(results).encode())
    write_atomically(replication.out / "results.svg", plot_svg(results).encode())
    return results


def build_data(replication: Replication, progress: Progress) -> None:
    """The claim's data sets, once."""
    from mmrl.curation.mix import mix_manifests
    from mmrl.data.recipe import build_recipe

    for name, entry in replication.claim.data.items():
        folder = replication.data_folder(name)
        if entry.recipe is not None:
            build_recipe(entry.recipe, folder, seed=entry.seed, settings=entry.settings, progress=progress)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        parts = [replication.data_folder(part) for part in entry.mix]
        for split in ("train", "validation", "test"):
            paths = [part / f"{split}.jsonl" for part in parts]
            if all(path.is_file() for path in paths) and not (folder / f"{split}.jsonl").is_file():
                mix_manifests(paths, folder / f"{split}.jsonl", seed=entry.seed or 0, workers=1)


def decides_runs(claim: Claim) -> dict[str, Any]:
    """What of a claim the runs depend on: a replication goes on only while this is the same."""
    fields = claim.model_dump(mode="json", exclude=set(READ_OUT))
    for entries in (fields["arms"], fields["evaluations"]):
        for entry in entries.values():
            entry.pop("says", None)
    return fields


def _claim_folder(replication: Replication) -> None:
    """The folder is new, or holds this very replication."""
    out = replication.out
    path = out / CLAIM_FILE
    wanted = decides_runs(replication.claim)
    if path.is_file():
        before = json.loads(path.read_text())
        differing = [key for key in wanted if wanted[key] != before.get(key)]
        known: dict[str, Any] = before.get("arms", {})
        # Arms may be added and left out. What was left out stays known: its runs are still here when it comes back.
        if differing == ["arms"] and all(wanted["arms"].get(name, arm) == arm for name, arm in known.items()):
            differing = []
            wanted = {**wanted, "arms": {**known, **wanted["arms"]}}
        if differing:
            raise RunError(
                f"{out} holds a replication with other settings ({', '.join(differing)} differ). Give another --out, "
                "or remove that folder."
            )
    elif out.exists() and any(out.iterdir()):
        raise RunError(f"{out} holds files, but no replication. Give another --out.")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(wanted, indent=1).encode())


def _in_processes(replication: Replication, left: list[Unit], processes: int, done: Callable[[Unit], None]) -> None:
    """Cold starts first; an arm is begun when its seed's is there."""
    waiting = sorted(left, key=lambda unit: unit[1] is not None)
    with Workers(processes) as workers:
        while waiting or workers.busy:
            starting = {seed for seed, arm in [*waiting, *workers.busy] if arm is None}
            ready = [unit for unit in waiting if unit[1] is None or unit[0] not in starting]
            for unit in ready[: workers.free]:
                waiting.remove(unit)
                workers.begin(replication, unit)
            done(workers.finished())


def _told(replication: Replication, unit: Unit, task: Task, progress: Progress) -> None:
    seed, arm = unit
    task.advance(1)
    if arm is None:
        return
    from mmrl.claims.measure import measured

    shown = [
        f"{name} {value:.3g}"
        for name, entry in replication.claim.measures.items()
        if (value := measured(replication, entry, seed=seed, arm=arm)) is not None
    ]
    progress.note(f"seed {seed}, {arm}: {', '.join(shown)}")


@contextmanager
def _clocked(out: Path) -> Iterator[Callable[[], None]]:
    """Adds this process's wall time to that of earlier ones: at the end, and whenever the clock given is called.

    Of a process that was killed, what came after the last call is missing.
    """
    path = out / SECONDS_FILE
    before = float(json.loads(path.read_text())) if path.is_file() else 0.0
    began = time.perf_counter()

    def clock() -> None:
        write_atomically(path, json.dumps(before + time.perf_counter() - began).encode())

    try:
        yield clock
    finally:
        clock()
