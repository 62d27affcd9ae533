"""`mmrl data`: build a data set, find what is wrong with one, look at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmrl.cli import data_check, data_choose, data_clean, data_divide, data_look
from mmrl.cli.options import Quiet

if TYPE_CHECKING:
    from mmrl.types import Dropped, Sample

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
        [(split, report.counts[split], _near(path)) for split, path in report.manifests.items()],
    )
    if report.dropped:
        print()
        print_table(("left out because", "rows"), list(report.dropped.items()))
        print(f"Which ones: {_near(report.folder / 'dropped.jsonl')}")
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
) -> None:
    """Turn another project's data set into a manifest.

    Rows that cannot become a sample are left out, each with the reason. Media are not opened: follow with `validate`.
    Rows that hold their pictures themselves (Parquet, tar) need a recipe: docs/data_recipes.md.

    \b
    Formats:
      video-r1  vlm-r1  seed-bench-r1  vsi  spans (Charades-STA, ActivityNet)
      geometry3k  r1-v (GEOQA, CLEVR)  screenspot  chartqa  mathvista  mmmu
      sharegpt (LLaMA-Factory, LLaVA)  trl  columns (any table)

    \b
    Examples:
      mmrl data convert video-r1 Video-R1-260k.json --out train.jsonl
      mmrl data convert vlm-r1 rec_jsonl/refcoco_train.jsonl --media coco --out refcoco.jsonl
    """
    from mmrl.data.convert import convert_file

    _refuse_existing([out, _dropped_file(out)])
    samples, dropped = convert_file(file, format_, media_root=file.parent if media is None else media)
    _write_kept(out, samples, dropped)


def _refuse_existing(paths: Sequence[Path]) -> None:
    from mmrl.errors import RunError

    there = [str(path) for path in paths if path.exists()]
    if there:
        raise RunError(f"{', '.join(there)} exist(s) and is not overwritten; choose another --out, or delete it first")


def _dropped_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}.dropped.jsonl")


def _write_kept(out: Path, kept: Sequence[Sample], dropped: Sequence[Dropped]) -> None:
    """The manifest of the samples that stay, and beside it the list of the others."""
    from mmrl.data.manifest import write_manifest
    from mmrl.errors import DataError

    out.parent.mkdir(parents=True, exist_ok=True)
    if kept:
        write_manifest(out, kept)
        print(f"{out}: {len(kept)} samples")
    _tell_dropped(dropped, _dropped_file(out))
    if not kept:
        raise DataError(f"no sample is left; {_dropped_file(out)} says why. {out} was not written")


def _tell_dropped(dropped: Sequence[Dropped], path: Path) -> None:
    """A table of the reasons, and a file of the samples; nothing where nothing was left out."""
    if not dropped:
        return
    from collections import Counter

    from mmrl.cli.console import print_table
    from mmrl.data.jsonl import write_json_lines

    write_json_lines(path, [{"id": d.sample_id, "reason": d.reason, "detail": d.detail} for d in dropped])
    print()
    print_table(("left out because", "samples"), Counter(d.reason for d in dropped).most_common())
    print(f"Which ones: {_near(path)}")


def _near(path: Path) -> Path:
    """Relative to where the user stands, where that is shorter."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
