"""`mmrl app inspect`: pages in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Pages in the browser: what a run wrote, what a model says.", no_args_is_help=True)

Host = Annotated[
    str, typer.Option("--host", help="Address to listen on; another than the own machine's needs a password.")
]
Port = Annotated[
    int | None,
    typer.Option("--port", min=1, max=65535, help="Default: the first free one from 7860.", show_default=False),
]
User = Annotated[str, typer.Option("--user", help="Name to log in with, where a password is set.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", metavar="FILE", help="Ask for the password in its first line.", show_default=False),
]
Share = Annotated[bool, typer.Option("--share", help="Also through Gradio's public relay; needs a password.")]
Browser = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


def need_apps() -> None:
    """ConfigError that says what to install where the pages' packages are missing."""
    from importlib.util import find_spec

    from mmrl.errors import ConfigError

    missing = [name for name in ("gradio", "plotly", "duckdb", "pyarrow", "orjson") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the pages need packages that are not installed ({', '.join(missing)}): pip install 'mmrl[apps]'"
        )


@app.command("inspect")
def inspect(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN…", help="Run folders, folders of runs, manifests; default: runs.", show_default=False
        ),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = None,
    user: User = "mmrl",
    password_file: PasswordFile = None,
    share: Share = False,
    open_browser: Browser = False,
) -> None:
    """Look into runs, also while they go on: curves, groups, what the policy saw, wrote and was paid.

    The first look at a large run indexes its traces, while the page can be used already; the index stays beside them.

    \b
    Examples:
      mmrl app inspect
      mmrl app inspect runs/digits runs/digits-apo
      mmrl app inspect runs/digits my/manifest.jsonl --port 8000
    """
    need_apps()
    from mmrl_apps.inspector.app import build
    from mmrl_apps.inspector.inspector import Inspector
    from mmrl_apps.shared.serving import Serving, read_password, serve

    how = Serving(
        host=host, port=port, user=user, password=read_password(password_file), share=share, open_browser=open_browser
    )
    inspector = Inspector(runs or [Path("runs")])
    inspector.follow()
    try:
        serve(build(inspector), how, announce=lambda address: print(f"{address}  (Ctrl-C ends it)", flush=True))
    finally:
        inspector.close()
