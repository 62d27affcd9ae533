"""`mmrl data stats|preview|inspect|bias`: looking at a manifest; none of them changes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmrl.cli.data_options import DryRun, Index, Manifest, MediaSeconds, Workers, shown
from mmrl.cli.models import MODEL_HELP
from mmrl.cli.options import Quiet

_ANSWERS = 8  # most frequent answers of a task that `stats` prints

Where = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="EXPRESSION", help="Only samples it is true for; see `filter`.", show_default=False
    ),
]


def stats(
    manifest: Manifest,
    media: Annotated[
        bool, typer.Option("--media/--no-media", help="Read the headers of media for their sizes.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write stats.json and stats.html with plots.", show_default=False),
    ] = None,
    index: Index = None,
    media_seconds: MediaSeconds = 60.0,
    dry_run: DryRun = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Count samples by task, answer and media; lengths, sizes and visual tokens per model family.

    A policy can learn to guess an answer that is right too often: look at the shares. Defective rows are not counted.

    \b
    Examples:
      mmrl data stats data/digits/train.jsonl
      mmrl data stats train.jsonl --out stats/ --index media.sqlite
    """
    from mmrl.atomic import write_atomically
    from mmrl.cli.console import print_table, progress
    from mmrl.curation.media_index import Examination
    from mmrl.curation.output import refuse_existing
    from mmrl.curation.stats import manifest_stats, shares, stats_json
    from mmrl.errors import DataError

    files = [] if out is None else [out / "stats.json", out / "stats.html"]
    refuse_existing(files)
    looking = Examination(depth="header", index=index, seconds=media_seconds, workers=workers) if media else None
    found = manifest_stats(manifest, examination=looking, workers=workers, progress=progress(quiet=quiet))
    if found.samples == 0:
        raise DataError(f"{manifest}: none of its {found.rows} rows is sound; `mmrl data validate` says why")
    print(f"{found.samples} samples, {found.files} different media files; {found.rows - found.samples} defective rows")
    tables = {
        "task": found.tasks,
        "answer type": found.answer_types,
        "split": found.splits,
        "media": found.media,
        "options": found.options,
        "right option": found.letters,
        "broken media": found.broken,
    }
    tables |= {f"answer of {task}": dict(list(its.items())[:_ANSWERS]) for task, its in found.answers.items()}
    for head, counts in tables.items():
        if counts:
            print()
            whole = sum(found.answers[head.removeprefix("answer of ")].values()) if head.startswith("answer of") else 0
            rows = [(n, c, f"{c / whole:.1%}") for n, c in counts.items()] if whole else list(shares(counts))
            print_table((head, "samples", "share"), rows)
    if found.quantities:
        print()
        names = next(iter(found.quantities.values()))
        print_table(("quantity", *names), [(name, *its.values()) for name, its in found.quantities.items()])
    if out is not None and not dry_run:
        from mmrl.curation.stats_page import stats_page

        page = stats_page(found)
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(files[0], stats_json(found))
        write_atomically(files[1], page)
    for file in files:
        print(f"{shown(file)}" + (" (not written: dry run)" if dry_run else ""))


def preview(
    manifest: Manifest,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="Write a page.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many samples.")] = 20,
    where: Where = None,
    shuffle: Annotated[
        int | None, typer.Option(metavar="SEED", help="Draw them, instead of the first.", show_default=False)
    ] = None,
    dry_run: DryRun = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Show samples: a table here, or with --out a page with pictures and clips, answers drawn.

    \b
    Examples:
      mmrl data preview data/digits/train.jsonl
      mmrl data preview train.jsonl --out preview.html --limit 100 --shuffle 0 --where 'answer.type == "box"'
    """
    from mmrl.cli.console import print_table, progress
    from mmrl.curation.preview import answer_text, chosen_samples, preview_manifest

    bar = progress(quiet=quiet)
    if out is None:
        samples, _ = chosen_samples(manifest, limit=limit, where=where or "", shuffle=shuffle, workers=workers or 1)
        rows = [(s.id, s.task, _short(s.question), len(s.media), _short(answer_text(s.answer), 24)) for s in samples]
        print_table(("id", "task", "question", "media", "answer"), rows)
        return
    count = preview_manifest(
        manifest,
        out,
        limit=limit,
        where=where or "",
        shuffle=shuffle,
        dry_run=dry_run,
        workers=workers or 1,
        progress=bar,
    )
    print(f"{shown(out)}: {count} samples" + (" (not written: dry run)" if dry_run else ""))


def inspect(
    manifest: Manifest,
    id_: Annotated[str | None, typer.Option("--id", help="The sample to show.", show_default=False)] = None,
    line: Annotated[int | None, typer.Option(min=1, help="Or the line.", show_default=False)] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="Write a page with its media.", show_default=False)
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Show which fields the rows have, and everything about one sample: options, answer, media, visual tokens.

    \b
    Examples:
      mmrl data inspect train.jsonl
      mmrl data inspect train.jsonl --id digits-train-0007 --out sample.html
    """
    from mmrl.atomic import write_atomically
    from mmrl.cli.console import print_table
    from mmrl.curation.inspect import fields_seen, inspect_row, inspection_page

    if id_ is not None and line is not None:
        raise typer.BadParameter("--id and --line exclude each other; give one of them")
    seen, looked = fields_seen(manifest)
    found = inspect_row(manifest, id_=id_ or "", line=line)
    rows = [(one.name, one.rows, ", ".join(one.kinds), _short(", ".join(one.examples), 60)) for one in seen]
    print_table((f"field of the first {looked} rows", "rows", "kind", "examples"), rows)
    print(f"\n{manifest}:{found.line}")
    for name, text in found.fields:
        print(f"  {name}: {text}")
    for defect in found.defects:
        print(f"  defect: {defect}")
    if found.defects:
        print(f"  the line: {found.raw}")
    if out is not None:
        if not dry_run:
            write_atomically(out, inspection_page(found, seen, looked))
        print(f"\n{shown(out)}" + (" (not written: dry run)" if dry_run else ""))


def bias(
    manifest: Manifest,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="MODEL", help=f"Ask it without the media too. {MODEL_HELP}", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="CONFIG", help="Prompts and rewards; default: those of the model's run."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Samples looked at, drawn by the seed.")] = 20_000,
    asked: Annotated[int, typer.Option(min=1, help="Samples that the model is asked.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", help="Write the figures.", show_default=False)
    ] = None,
    dry_run: DryRun = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Find what is right without looking: answer positions, option lengths, words of the question.

    A linear model over the words is the cheap test; --model asks a vision-language model without its pictures. Each is
    held against chance or the best constant answer; "found" is what is unlikely (p < 0.001) and worth 5 points or more.

    \b
    Examples:
      mmrl data bias train.jsonl
      mmrl data bias train.jsonl --model runs/digits --asked 200
    """
    import json
    from dataclasses import asdict

    from mmrl.atomic import write_atomically
    from mmrl.cli.console import print_table, progress
    from mmrl.curation.bias import blind_shortcuts, drawn_samples, manifest_bias
    from mmrl.errors import DataError

    bar = progress(quiet=quiet)
    found = manifest_bias(manifest, limit=limit, seed=seed, workers=workers, progress=bar)
    if found.samples == 0:
        raise DataError(f"{manifest}: none of its {found.rows} rows is sound; `mmrl data validate` says why")
    shortcuts = list(found.shortcuts)
    if model is not None and not dry_run:
        from mmrl.cli.models import model_path
        from mmrl.config.load import load_config
        from mmrl.pipeline.asking import Asking, asking

        samples = drawn_samples(manifest, limit=asked, seed=seed)
        if not samples:
            raise DataError(f"{manifest} has no sample with media, so there is nothing to ask without them")
        settings = load_config(config) if config is not None else None
        asker = asking(
            model_path(model),
            samples[:8],
            config=settings,
            how=Asking(rollouts=1, temperature=0.0, blind=True),
            tell=bar.note,
        )
        with asker as (ask, _):
            shortcuts += blind_shortcuts(samples, ask, progress=bar)
    rows = [
        (s.task, s.kind, s.samples, s.reached, f"{s.low:.2f}–{s.high:.2f}", s.expected, f"{s.p:.1e}",
         "found" if s.found else "")
        for s in shortcuts
    ]  # fmt: skip
    print_table(("task", "by", "samples", "right", "95 %", "expected", "p", ""), rows)
    for task, why in found.skipped.items():
        print(f"{task}: no model of its words: {why}")
    count = sum(s.found for s in shortcuts)
    print(f"{count} short cut(s) found in {found.samples} of {found.rows} rows.")
    if out is not None:
        body = {"rows": found.rows, "samples": found.samples, "shortcuts": [asdict(s) for s in shortcuts],
                "skipped": dict(found.skipped)}  # fmt: skip
        if not dry_run:
            write_atomically(out, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())
        print(f"{shown(out)}" + (" (not written: dry run)" if dry_run else ""))


def _short(text: str, longest: int = 48) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
