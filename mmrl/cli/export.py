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
) -> None:
    """Copy a run's model, without the trainer's state.

    In Hugging Face layout: `transformers`, vLLM and `mmrl generate` load it as it is.

    \b
    Examples:
      mmrl export runs/digits models/digits
      mmrl export runs/digits models/digits-100 --step 100
    """
    from mmrl.config.tree import shown
    from mmrl.pipeline import export_run

    print(f"model: {shown(export_run(run, out, step=step))}")
