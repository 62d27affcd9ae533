"""The folder of a run: who may write there, what belongs to it, and how long its stages took."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmrl import __version__
from mmrl.atomic import write_atomically
from mmrl.config.load import dump_config, load_config
from mmrl.config.schema import Config, WatchConfig
from mmrl.errors import RunError
from mmrl.memory import peak_memory_mib
from mmrl.ranks import ALONE, Ranks

# What a resumed run may change: how long it is, where it lies, what it keeps, who is told and warned of what, how
# ranks share the policy.
FREE = (
    ("backend", "silent_after_seconds"),
    ("backend", "hung_after_seconds"),
    *(("backend", key) for key in ("type", "zero_stage", "offload_optimizer", "offload_weights")),
    ("run", "folder"),
    ("data", "urls"),
    ("train", "steps"),
    ("train", "checkpoint_every"),
    ("train", "keep_checkpoints"),
    ("train", "keep_best"),
    ("train", "checkpoints_beside"),
    ("tracking", "to"),
    ("tracking", "project"),
    *(("watch", key) for key in WatchConfig.model_fields),
)


def open_run(config: Config, *, resume: bool, overwrite: bool, tell: Callable[[str], None] = lambda said: None) -> Path:
    """The run's folder, with its resolved config in it. RunError when it is in the way or belongs to another config.

    `tell` hears what changes when a run goes on that is another length than it was.
    """
    run_dir = Path(config.run.folder) / config.run.name
    written = dump_config(config)
    if run_dir.exists() and not run_dir.is_dir():
        raise RunError(f"{run_dir} is a file. Choose another run.name or run.folder.")
    if run_dir.exists() and any(run_dir.iterdir()):
        if overwrite:
            if not (run_dir / "config.yaml").is_file():
                raise RunError(
                    f"{run_dir} holds no run of mmrl, so --overwrite leaves it alone. Choose another run.name."
                )
            shutil.rmtree(run_dir)
        elif not resume:
            state = "finished" if (run_dir / "report.json").is_file() else "unfinished"
            raise RunError(
                f"{run_dir} holds a {state} run. Go on with --resume, start anew under another name with "
                f"run.name=…, or throw it away with --overwrite."
            )
        else:
            check_same_config(run_dir, config)
            if said := _other_length(load_config(run_dir / "config.yaml"), config):
                tell(said)
    elif resume:
        raise RunError(f"{run_dir}: there is no run to resume. Leave out --resume to start one.")
    run_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(run_dir / "config.yaml", written.encode())
    return run_dir


@contextmanager
def timed(run_dir: Path, stage: str, ranks: Ranks = ALONE) -> Iterator[None]:
    """Adds the stage's seconds and the process's peak memory to stages.json, over all processes of the run.

    Of several ranks the first writes its own.
    """
    began = time.perf_counter()
    try:
        yield
    finally:
        if ranks.first:
            path = run_dir / "stages.json"
            stages: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.is_file() else {}
            before = stages.get(stage, {"seconds": 0.0, "peak_mib": 0.0})
            stages[stage] = {
                "seconds": round(before["seconds"] + time.perf_counter() - began, 3),
                "peak_mib": round(max(before["peak_mib"], peak_memory_mib()), 1),
            }
            write_atomically(path, json.dumps(stages, indent=1).encode())


def facts(config: Config, run_dir: Path) -> dict[str, Any]:
    """What the report says about how it came to be."""
    import torch
    import transformers

    stages = json.loads((run_dir / "stages.json").read_text())
    return {
        "run": config.run.name,
        "seed": config.run.seed,
        "stages": stages,
        "versions": {
            "mmrl": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "threads": torch.get_num_threads(),
    }


def check_same_config(run_dir: Path, config: Config) -> None:
    """A resumed run keeps its config; only how long it is and where output goes may change."""
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise RunError(f"{run_dir} has no config.yaml, so it is no run that could be resumed. Choose another run.name.")
    before = load_config(path).model_dump(mode="json")
    now = config.model_dump(mode="json")
    for section, key in FREE:
        before[section].pop(key)
        now[section].pop(key)
    changed = [
        f"{section}.{key}" if isinstance(now[section], dict) and isinstance(before[section], dict) else section
        for section in now
        for key in (now[section] if isinstance(now[section], dict) else [""])
        if _value(before[section], key) != _value(now[section], key)
    ]
    if changed:
        raise RunError(
            f"{run_dir} was started with another config: {', '.join(dict.fromkeys(changed))} differ. Resume with the "
            f"same settings (mmrl run {path} --resume), or start anew under another run.name."
        )


def _other_length(before: Config, now: Config) -> str | None:
    """What follows from another train.steps for what runs over the whole training; None where nothing does."""
    from mmrl.algorithms.build import build_algorithm

    if before.train.steps == now.train.steps:
        return None
    decays = now.train.schedule != "constant"
    parts = build_algorithm(now.algorithm).follows_the_step
    what = [*([f"the {now.train.schedule} learning rate"] if decays else []), *parts]
    if not what:
        return None
    return (
        f"train.steps was {before.train.steps} and is {now.train.steps}: {' and '.join(what)} now run over "
        f"{now.train.steps} steps, as if from the start, so that they jump where the run goes on"
    )


def check_same_data(run_dir: Path, manifests: Mapping[str, str]) -> None:
    """A resumed run keeps its data: the manifests' SHA-256 are in data.json from its beginning on."""
    digests = {}
    for split, path in manifests.items():
        if Path(path).is_file():  # reading it says what is wrong otherwise
            with open(path, "rb") as file:
                digests[split] = hashlib.file_digest(file, "sha256").hexdigest()
    record = run_dir / "data.json"
    if not record.is_file():
        write_atomically(record, json.dumps(digests, indent=1).encode())
        return
    before = json.loads(record.read_text())
    changed = [str(manifests[split]) for split in digests if before.get(split, digests[split]) != digests[split]]
    if changed:
        raise RunError(
            f"{', '.join(changed)} changed since {run_dir} was started, so it would go on with other samples. Bring "
            "the file back, or start anew under another run.name. See docs/failures/data-changed.md."
        )


def _value(section: Any, key: str) -> Any:
    return section.get(key) if isinstance(section, dict) else section
