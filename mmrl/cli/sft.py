"""`mmrl sft`: the supervised cold start alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmrl.cli.options import ConfigFile, Overrides, Overwrite, Quiet


def sft(
    config: ConfigFile,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Model folder to make; default: in the run folder.", show_default=False
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Run the supervised cold start of a config.

    Teaches the model the form of the answers, and as much of the task as `sft.steps` and `sft.samples` give.

    \b
    Examples:
      mmrl sft configs/quickstart/digits.yaml --out models/cold
      mmrl sft my.yaml sft.steps=300 sft.samples=200
    """
    from mmrl.cli.console import progress
    from mmrl.config.load import load_config
    from mmrl.config.tree import shown
    from mmrl.pipeline import cold_start_stage

    loaded = load_config(config, overrides or ())
    model = cold_start_stage(loaded, out=out, overwrite=overwrite, progress=progress(quiet=quiet))
    print(f"model: {shown(model)}")
