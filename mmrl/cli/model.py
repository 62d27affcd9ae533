"""`mmrl model`: make a model to try things with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make small models to try things with.")


@app.callback()
def _group() -> None:
    """Keeps `tiny` a subcommand while it is the only one."""


@app.command()
def tiny(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.", show_default=False)],
    hidden_size: Annotated[int, typer.Option(min=32, help="Width of the language model.")] = 128,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the language model.")] = 3,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads; must divide the hidden size.")] = 4,
    key_value_heads: Annotated[int, typer.Option(min=1, help="Must divide the heads.")] = 2,
    vision_depth: Annotated[int, typer.Option(min=1, help="Layers of the vision tower.")] = 2,
    vision_hidden_size: Annotated[int, typer.Option(min=32, help="Width of the vision tower.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of the random weights.")] = 0,
    family: Annotated[str, typer.Option(help="Its architecture; see `mmrl list families`.")] = "qwen2_5_vl",
) -> None:
    """Make a real but tiny vision-language model with random weights.

    In Hugging Face layout, with processor and tokenizer: `transformers` loads it as it is.

    \b
    Examples:
      mmrl model tiny models/tiny
      mmrl model tiny models/tiny3 --family qwen3_vl
      mmrl model tiny models/wider --hidden-size 256 --layers 4 --seed 1
    """
    from mmrl.policy.tiny import save_tiny_model

    if hidden_size % heads:
        raise typer.BadParameter(f"{heads} does not divide the hidden size {hidden_size}", param_hint="--heads")
    if heads % key_value_heads:
        raise typer.BadParameter(f"{key_value_heads} does not divide {heads} heads", param_hint="--key-value-heads")
    parameters = save_tiny_model(
        out,
        family=family,
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        key_value_heads=key_value_heads,
        vision_depth=vision_depth,
        vision_hidden_size=vision_hidden_size,
        seed=seed,
    )
    print(f"{out}: {parameters / 1e6:.2f} M parameters")
