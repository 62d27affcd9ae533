"""`mmrl export`: the trained model of a run, ready for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.", show_default=False)],
    step: Annotated[
        int | None, typer.Option(min=0, help="Which checkpoint; default: the newest.", show_default=False)
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="The one that the config's train.keep_best names.")] = False,
) -> None:
    """Copy a run's model, without the trainer's state, and write its model card.

    In Hugging Face layout, adapters merged: `transformers`, vLLM and `mmrl generate` load it as it is. The card
    (README.md) says which data, recipe, metrics and versions made it.

    \b
    Examples:
      mmrl export runs/digits models/digits
      mmrl export runs/digits models/digits-100 --step 100
      mmrl export runs/digits models/digits-best --best
    """
    if best and step is not None:
        raise typer.BadParameter("--best and --step exclude each other; give one of them")
    from mmrl.config.tree import shown
    from mmrl.pipeline import export_run

    print(f"model: {shown(export_run(run, out, step=step, best=best))}")
