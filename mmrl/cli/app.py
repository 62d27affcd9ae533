"""`mmrl app inspect` and `mmrl app demo`: pages in the browser."""

from __future__ import annotations

import functools
import inspect
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmrl.cli.generate import Mode
from mmrl.cli.models import MODEL_HELP

if TYPE_CHECKING:
    from mmrl_apps.shared.serving import Serving

app = typer.Typer(help="Pages in the browser: what a run wrote, what a model says.", no_args_is_help=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Where a page is served and who may see it: the options that all of them have."""

    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; another than the own machine's needs a password.")
    ] = "127.0.0.1"
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Default: the first free one from 7860.", show_default=False),
    ] = None
    user: Annotated[str, typer.Option("--user", help="Name to log in with, where a password is set.")] = "mmrl"
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file", metavar="FILE", help="Ask for the password in its first line.", show_default=False
        ),
    ] = None
    share: Annotated[bool, typer.Option("--share", help="Also through Gradio's public relay; needs a password.")] = (
        False
    )
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False

    def serving(self, **more: Any) -> Serving:
        """As the pages take it. ConfigError where others could reach it without a password."""
        from mmrl_apps.shared.serving import Serving, read_password

        return Serving(
            host=self.host,
            port=self.port,
            user=self.user,
            password=read_password(self.password_file),
            share=self.share,
            open_browser=self.open_browser,
            **more,
        )


def with_page_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the options of a `Page` in place of its parameter `page`."""
    own = inspect.signature(command, eval_str=True).parameters
    shared = inspect.signature(Page, eval_str=True).parameters

    @functools.wraps(command)
    def run(**given: Any) -> None:
        page = Page(**{name: given.pop(name) for name in shared})
        command(page=page, **given)

    parameters = [*(parameter for name, parameter in own.items() if name != "page"), *shared.values()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


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
@with_page_options
def inspect_runs(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN…", help="Run folders, folders of runs, manifests; default: runs.", show_default=False
        ),
    ] = None,
    *,
    page: Page,
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
    from mmrl_apps.shared.serving import serve

    how = page.serving()
    inspector = Inspector(runs or [Path("runs")])

    def begin(address: str) -> None:
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        inspector.follow()

    try:
        serve(build(inspector), how, announce=begin)
    finally:
        inspector.close()


class Engine(StrEnum):
    """What the models are sampled with."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"


class Device(StrEnum):
    """Where the models are."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


@app.command("demo")
@with_page_options
def demo(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)],
    against: Annotated[
        str | None, typer.Option("--against", metavar="BASE", help="A second model beside it.", show_default=False)
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="transformers runs everywhere; vllm is faster where it is installed.")
    ] = Engine.TRANSFORMERS,
    device: Annotated[Device, typer.Option(help="auto: a GPU where there is one.")] = Device.CPU,
    mode: Annotated[
        Mode | None, typer.Option(help="Form of the completion; default: that of the model's run.", show_default=False)
    ] = None,
    keep: Annotated[
        Path, typer.Option("--keep", metavar="FOLDER", help="Where exchanges go that are kept as traces.")
    ] = Path("runs/demo"),
    *,
    page: Page,
) -> None:
    """Ask a model about pictures and clips in the browser; its base beside it, several samples and how they agree.

    Both models are asked as in the run of MODEL. What visitors upload is removed when the page is closed, unless they
    keep an exchange; `mmrl app inspect` opens what was kept.

    \b
    Examples:
      mmrl app demo runs/digits
      mmrl app demo runs/digits --against runs/digits/cold_start
      mmrl app demo Qwen/Qwen2.5-VL-3B-Instruct --device cuda --engine vllm
    """
    need_apps()
    from mmrl.cli.models import model_path

    named = [(given, model_path(given)) for given in (model, *([against] if against is not None else []))]
    from mmrl_apps.demo.models import Named
    from mmrl_apps.demo.start import ready
    from mmrl_apps.shared.serving import serve

    how = page.serving(largest_upload="64mb")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was uploaded is removed then too
    with ready(
        [Named(given=_short(given), path=path) for given, path in named],
        keep=keep,
        mode=mode.value if mode is not None else None,
        engine=engine.value,
        device=device.value,
    ) as opened:
        serve(opened.page, how, announce=lambda address: print(f"{address}  (Ctrl-C ends it)", flush=True))


def _short(given: str) -> str:
    """A path's last parts: enough to tell models apart on a page."""
    return "/".join(Path(given).parts[-3:])
