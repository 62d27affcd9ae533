"""`mmrl data difficulty|select`: how hard samples are for a model, and which of them to train on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mmrl.cli.data_options import DryRun, Manifest, OutFile, Workers, tell
from mmrl.cli.models import MODEL_HELP
from mmrl.cli.options import Quiet


def difficulty(
    manifest: Manifest,
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help=MODEL_HELP, show_default=False)],
    out: OutFile,
    rollouts: Annotated[int, typer.Option(min=1, help="Completions of each sample.")] = 8,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="CONFIG", help="Prompts, rewards, engine; default: the model's run's."),
    ] = None,
    blind: Annotated[
        bool, typer.Option("--without-media", help="Ask without the media; the figures go to metadata.blind.")
    ] = False,
    keep_completion: Annotated[
        bool,
        typer.Option("--keep-completion", help="Keep a right completion in metadata.base_completion, for DPH-RL."),
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Samples asked together; saved after each batch.")] = 16,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="Instead of the config's.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest completion, in tokens.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the completions.", show_default=False)] = None,
    dry_run: DryRun = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Measure each sample's pass rate for a model, and write it into the metadata.

    metadata.pass_rate is what curricula and `mmrl data select` read; metadata.difficulty has the rest. Interrupted, the
    same command goes on where it was: what was measured is kept beside OUT until the manifest is written.

    With --keep-completion each sample that the model got right keeps one of its completions: `algorithm: dph_rl`
    rehearses those of samples that it always got right. Ask in the prompt mode that the run will use.

    \b
    Examples:
      mmrl data difficulty train.jsonl --model runs/digits/cold_start --rollouts 8 --out rated.jsonl
      mmrl data difficulty train.jsonl --model runs/digits --rollouts 4 --without-media --out blind.jsonl
      mmrl data difficulty train.jsonl --model runs/digits/cold_start --keep-completion --out rehearsed.jsonl
    """
    from mmrl.cli.console import progress, table_text
    from mmrl.cli.models import model_path
    from mmrl.config.load import load_config
    from mmrl.curation.bias import drawn_samples
    from mmrl.curation.difficulty import measure_difficulty
    from mmrl.curation.preview import chosen_samples

    if blind and keep_completion:
        raise typer.BadParameter(
            "what a model says without the media is nothing to rehearse; leave out --without-media or this",
            param_hint="--keep-completion",
        )
    bar = progress(quiet=quiet)
    path = model_path(model)
    settings = load_config(config) if config is not None else None
    first = drawn_samples(manifest, limit=8, seed=0) or chosen_samples(manifest, limit=8)[0]
    from mmrl.pipeline.asking import Asking, asking, settings_of

    how = Asking(rollouts=rollouts, temperature=temperature, max_tokens=max_tokens, seed=seed, blind=blind)
    key = "blind" if blind else "difficulty"
    if dry_run:
        about = settings_of(path, settings, how)[2]
        report = measure_difficulty(
            manifest,
            out,
            lambda samples: ([], []),
            settings=about,
            key=key,
            keep_completion=keep_completion,
            dry_run=True,
        )
        tell(report)
        return
    with asking(path, first, config=settings, how=how, tell=bar.note) as (ask, known):
        report = measure_difficulty(
            manifest,
            out,
            ask,
            settings=known,
            batch=batch,
            key=key,
            keep_completion=keep_completion,
            workers=workers or 1,
            progress=bar,
        )
    tell(report)
    print(f"\nmean pass rate {report.figures['pass_rate']:.3f}")
    print(table_text(("samples", "count"), list(report.figures["histogram"].items())))
    if keep_completion:
        print(f"completions kept: {report.figures['completions_kept']}")


class By(StrEnum):
    """What samples are ranked by."""

    ALL = "all"
    VARIANCE = "variance"
    LOW_LIKELIHOOD = "low-likelihood"
    LEARNING_IMPACT = "learning-impact"
    FIELD = "field"


class Balance(StrEnum):
    """What there are equal numbers of."""

    NONE = "none"
    TASK = "task"
    ANSWER = "answer"


def select(
    manifest: Manifest,
    out: OutFile,
    band: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Only pass rates from LOW to HIGH: 0.2,0.8.", show_default=False),
    ] = None,
    by: Annotated[By, typer.Option(help="Rank samples by this; all: keep them equal.")] = By.ALL,
    field: Annotated[
        str, typer.Option(metavar="KEY", help="With --by field: a number of the metadata, larger is better.")
    ] = "",
    at_least: Annotated[
        float | None, typer.Option(help="Least score. LIMR kept 0.6 of learning-impact.", show_default=False)
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="The best so many.", show_default="all")] = None,
    balance: Annotated[
        Balance, typer.Option(help="Equal numbers of each task, or of each answer of a task.")
    ] = Balance.NONE,
    run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="With --by learning-impact: the run whose traces tell.", show_default=False),
    ] = None,
    steps_per_epoch: Annotated[
        int | None, typer.Option(min=1, help="Of that run.", show_default="a sample's k-th visit is epoch k")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Breaks ties.")] = 0,
    dry_run: DryRun = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Choose samples by difficulty, by what can be learnt from them, or in equal parts.

    variance: p(1 − p) of the pass rate. low-likelihood: the lower the likelihood of the model's own completions, the
    better. learning-impact: how well a sample's accuracy over a run follows the data set's (LIMR). The band comes
    first, then the ranking, then the balance.

    \b
    Examples:
      mmrl data select rated.jsonl --band 0.2,0.8 --balance task --out train.jsonl
      mmrl data select rated.jsonl --by variance --count 5000 --out train.jsonl
      mmrl data select train.jsonl --by learning-impact --run runs/first --at-least 0.6 --out fewer.jsonl
    """
    from mmrl.cli.console import progress
    from mmrl.curation.select import Choice, select_samples

    choice = Choice(
        band=_band(band),
        by=by.value,
        field=field,
        at_least=at_least,
        count=count,
        balance=balance.value,
        seed=seed,
    )
    scores = None
    if run is not None:
        from mmrl.pipeline.asking import run_learning_impact

        scores = run_learning_impact(run, steps_per_epoch=steps_per_epoch)
    bar = progress(quiet=quiet)
    tell(select_samples(manifest, out, choice, scores=scores, dry_run=dry_run, workers=workers, progress=bar))


def _band(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no band; write two shares: 0.2,0.8", param_hint="--band") from None
    return low, high
