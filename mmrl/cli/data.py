"""`mmrl data`: build a data set, find what is wrong with one, look at it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mmrl.cli import data_check, data_choose, data_clean, data_divide, data_fetch, data_look
from mmrl.cli.data_options import DryRun, shown, tell
from mmrl.cli.options import Quiet

app = typer.Typer(no_args_is_help=True, help="Build data sets from recipes, check them and look at them.")

# The verbs of curation, each in its group's file.
COMMANDS: dict[str, Callable[..., None]] = {
    "validate": data_check.validate,
    "stats": data_look.stats,
    "preview": data_look.preview,
    "inspect": data_look.inspect,
    "bias": data_look.bias,
    "filter": data_clean.filter_,
    "dedup": data_clean.dedup,
    "decontaminate": data_clean.decontaminate,
    "difficulty": data_choose.difficulty,
    "select": data_choose.select,
    "split": data_divide.split,
    "mix": data_divide.mix,
    "fetch": data_fetch.fetch,
}


@app.command()
def build(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A name (digits) or a YAML file.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to make.", show_default=False)],
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's own.", show_default=False)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="n_train=500, or an option: size=84. May be repeated.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Build the data set of a recipe: a manifest per split, media, and a lock that says what it was built from.

    The same recipe and seed give the same files. A folder that holds something else is never overwritten.

    \b
    Examples:
      mmrl data build digits --out data/digits
      mmrl data build scenes --out data/scenes --set n_train=500 --set size=224
      mmrl data build my_recipe.yaml --out data/mine --seed 1
    """
    from mmrl.cli.console import print_table, progress
    from mmrl.data.recipe import build_recipe
    from mmrl.data.recipe_file import load_recipe
    from mmrl.rewards.build import reward_uses

    rewards = load_recipe(recipe, seed=seed, settings=settings or ())[0].rewards
    if rewards:
        reward_uses(rewards)  # a misspelt reward is named before anything is built
    report = build_recipe(recipe, out, seed=seed, settings=settings or (), progress=progress(quiet=quiet))
    print_table(
        ("split", "samples", "manifest"),
        [(split, report.counts[split], shown(path)) for split, path in report.manifests.items()],
    )
    if report.dropped:
        print()
        print_table(("left out because", "rows"), list(report.dropped.items()))
        print(f"Which ones: {shown(report.folder / 'dropped.jsonl')}")
    if report.already_there:
        print("It was already there, unchanged; nothing was written.")


@app.command()
def convert(
    format_: Annotated[
        str,
        typer.Argument(metavar="FORMAT", help="One of the formats below.", show_default=False),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON, JSONL, CSV, text, Parquet or a folder.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="Manifest to write.", show_default=False)],
    media: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the rows' paths start. Default: beside FILE.", show_default=False),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="OURS=THEIRS", help="What the file calls a field: answer=label.", show_default=False
        ),
    ] = None,
    constants: Annotated[
        list[str] | None,
        typer.Option(
            "--constant", metavar="FIELD=VALUE", help="A field that all rows have (YAML).", show_default=False
        ),
    ] = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Turn another project's data set into a manifest.

    Rows that cannot become a sample are left out, each with file, row and reason. Media are not opened: follow with
    `validate`. Rows that hold their pictures themselves (Parquet, tar) need a recipe: docs/data_recipes.md.

    \b
    Formats:
      video-r1  vlm-r1  seed-bench-r1  vsi  spans (Charades-STA, ActivityNet)
      geometry3k  r1-v (GEOQA, CLEVR)  screenspot  chartqa  mathvista  mmmu
      sharegpt (LLaMA-Factory, LLaVA)  trl  columns (any table)

    \b
    Examples:
      mmrl data convert video-r1 Video-R1-260k.json --out train.jsonl
      mmrl data convert vlm-r1 rec_jsons_processed/refcoco_train.jsonl --media coco --out refcoco.jsonl
      mmrl data convert columns table.csv --column answer=label --constant 'question=What is shown?' --out t.jsonl
    """
    from mmrl.cli.console import progress
    from mmrl.curation.convert import convert_manifest

    tell(
        convert_manifest(
            file,
            format_,
            out,
            media_root=media,
            columns=dict(_pair(text, "--column") for text in columns or ()),
            constants={key: _value(text) for key, text in (_pair(text, "--constant") for text in constants or ())},
            dry_run=dry_run,
            progress=progress(quiet=quiet),
        )
    )


def _pair(text: str, option: str) -> tuple[str, str]:
    from mmrl.errors import ConfigError

    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value:
        raise ConfigError(f"{option} {text!r} is no pair; write it as key=value")
    return key.strip(), value


def _value(text: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
