"""Arguments that several commands share, with one wording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A run's YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Change settings of the file: train.steps=20", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only results and reasons for failure.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on in the existing run folder, from its last checkpoint.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove an existing run folder first.")]


def check_one_of(resume: bool, overwrite: bool) -> None:
    """--resume keeps what --overwrite removes."""
    if resume and overwrite:
        raise typer.BadParameter("--resume and --overwrite exclude each other; give one of them")
