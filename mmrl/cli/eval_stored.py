"""`mmrl eval --predictions`: what was written already is scored, by a benchmark's rules or by rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from mmrl.config.schema import Config
    from mmrl.evaluation.printed import Told
    from mmrl.progress import Progress


def scored(
    predictions: Path,
    against: str | None,
    *,
    rules: str | None,
    data: Path | None,
    config: Config | None,
    overrides: Mapping[str, Any],
    limit: int | None,
    seed: int | None,
    ks: Sequence[int],
    by: Sequence[str],
    nothing: Mapping[str, Any],
    progress: Progress,
) -> Told:
    """One file, or two side by side. `nothing`: options that decide nothing here, each None where it was not given."""
    from mmrl.evaluation.printed import Told
    from mmrl.pipeline.stored import evaluate_predictions

    _refuse(nothing, "no model is asked, and nothing is generated, where predictions are stored already")
    if rules is not None:
        _refuse({"--data": data, "--config": config}, "--rules reads the right answers from the lines themselves")
    if against is not None and not Path(against).is_file():
        raise typer.BadParameter(f"{against} is no file of predictions", param_hint="--against")
    found = evaluate_predictions(
        [predictions] if against is None else [predictions, Path(against)],
        rules=rules,
        data=str(data) if data is not None else None,
        config=config,
        options=overrides,
        limit=limit,
        seed=seed,
        ks=ks,
        slice_by=by,
        progress=progress,
    )
    return Told(after=found[0], before=found[1] if len(found) > 1 else None)


def _refuse(options: Mapping[str, Any], why: str) -> None:
    given = [name for name, value in options.items() if value is not None and value != []]
    if given:
        raise typer.BadParameter(f"{why}. Leave out what does not apply: {', '.join(given)}", param_hint=given[0])
