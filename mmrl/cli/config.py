"""`mmrl config`: is this file right, and what does it come to?"""

from __future__ import annotations

import typer

from mmrl.cli.options import ConfigFile, Overrides

app = typer.Typer(no_args_is_help=True, help="Check a config, or show what it comes to.")


@app.command()
def check(config: ConfigFile, overrides: Overrides = None) -> None:
    """Report every mistake in a config at once.

    Each with its key, the line or override that set it, and what is wrong.

    \b
    Examples:
      mmrl config check configs/quickstart/digits.yaml
      mmrl config check my.yaml train.steps=20 rollout.group_size=4
    """
    from mmrl.config.load import load_config
    from mmrl.config.tree import shown

    load_config(config, overrides or ())
    print(f"{shown(config)} is sound.")


@app.command()
def show(config: ConfigFile, overrides: Overrides = None) -> None:
    """Print the whole config that a file comes to.

    After `extends` and overrides, with all defaults. The output is itself a config.

    \b
    Examples:
      mmrl config show configs/algorithms/dapo.yaml
      mmrl config show configs/quickstart/digits.yaml run.seed=1 > mine.yaml
    """
    from mmrl.config.load import dump_config, load_config

    print(dump_config(load_config(config, overrides or ())), end="")
