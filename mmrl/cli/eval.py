"""`mmrl eval`: how good is a model, or two of them side by side?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mmrl.cli.models import MODEL_HELP
from mmrl.cli.options import Quiet


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)],
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="MANIFEST", exists=True, dir_okay=False, help="Samples to ask.", show_default=False
        ),
    ],
    against: Annotated[
        str | None, typer.Option("--against", metavar="MODEL", help="Compare with this model.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="CONFIG", help="Prompts and rewards; default: those of the model's run."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first samples of the manifest.", show_default=False)
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Completions per sample for pass@k.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest completion, in tokens.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the sampled completions.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.json", dir_okay=False, help="Write everything found, sample by sample."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure a model, or two side by side.

    Accuracy per task, pass@k, form and length on the samples of a manifest. Accuracy is of one greedy completion per
    sample, with a 95 % interval; with --against both models are asked the same with the same randomness, and their
    difference is paired sample by sample.

    \b
    Examples:
      mmrl eval runs/digits --data runs/digits/data/test.jsonl
      mmrl eval runs/digits --against runs/digits/cold_start --data runs/digits/data/test.jsonl --out both.json
      mmrl eval Qwen/Qwen2.5-VL-3B-Instruct --data test.jsonl --config my.yaml --limit 200
    """
    from mmrl.cli.console import progress
    from mmrl.cli.models import model_path
    from mmrl.config.load import load_config
    from mmrl.evaluation.compare import compare
    from mmrl.evaluation.table import comparison_rows, notes, result_rows, text_table

    models = [model_path(name) for name in (model, against) if name is not None]
    if out is not None and not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {out.parent}", param_hint="--out")
    loaded = load_config(config) if config is not None else None
    options = _config_changes(limit=limit, samples=samples, max_tokens=max_tokens, seed=seed)
    from mmrl.pipeline import evaluate_models

    results = evaluate_models(models, str(data), config=loaded, options=options, progress=progress(quiet=quiet))
    found: dict[str, Any]
    if against is None:
        print(text_table(result_rows(results[0])))
        found = results[0].to_json()
    else:
        after, before = results
        comparison = compare(before, after)
        print(f"before: {against}\nafter:  {model}\n")
        print(text_table(comparison_rows(before, after, comparison)))
        found = {"before": before.to_json(), "after": after.to_json(), "comparison": comparison.to_json()}
    for result in results:
        for note in notes(result):
            print(note)
    if out is not None:
        _write(out, found)


def _config_changes(
    *, limit: int | None, samples: int | None, max_tokens: int | None, seed: int | None
) -> dict[str, Any]:
    """The options that were given, as keys of the config."""
    changes = {
        "evaluation.limit": limit,
        "evaluation.samples_per_prompt": samples,
        "evaluation.ks": None if samples is None else sorted({1, samples}),
        "rollout.max_tokens": max_tokens,
        "run.seed": seed,
    }
    return {key: value for key, value in changes.items() if value is not None}


def _write(out: Path, found: dict[str, Any]) -> None:
    from mmrl.atomic import write_atomically

    write_atomically(out, json.dumps(found, indent=1, ensure_ascii=False).encode())
