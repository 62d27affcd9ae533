"""`mmrl eval --into RUN`: an evaluation where the inspector finds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrl.evaluation.printed import Told


def save(
    folder: Path,
    name: str | None,
    told: Told,
    used: tuple[Any, Sequence[Any]],
    *,
    against: str | None,
    tell: Callable[[str], None],
) -> None:
    """Both sides and untrained tasks, each as an evaluation of its own. `used`: the config and the completions."""
    from mmrl.pipeline.evaluating import check_name, save_for_inspector

    config, traces = used
    own = check_name(name or _named(str(told.after.facts["model"])))
    results = {own: told.after}
    if told.before is not None:
        other = check_name(_named(str(told.before.facts["model"])))
        results[other if other != own else f"{other}_against"] = told.before
    for task, (before, after) in (told.untrained or {}).items():
        results[f"untrained_{task}_{own}"] = after
        if before is not None:
            results[f"untrained_{task}_{own}_against"] = before
    for stem, result in results.items():
        path = save_for_inspector(folder, stem, result, config=config, traces=traces if stem == own else ())
        tell(f"written: {path}")
    tell(f"look at it: mmrl app inspect {folder}")


def _named(model: str) -> str:
    """A file name for a model folder or hub name: its last part, or the run's and the checkpoint's."""
    path = Path(model)
    parts = [path.parent.parent.name, path.name] if path.parent.name == "checkpoints" else [path.name or "model"]
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in "_".join(parts))
