"""Puts a page on an address: the own machine's by default, never on a public one by itself."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmrl.errors import ConfigError
from mmrl_apps.shared.style import page_css, theme

if TYPE_CHECKING:
    import gradio as gr

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where and to whom."""

    host: str = "127.0.0.1"
    port: int | None = None  # None: the first free one from 7860
    user: str = "mmrl"
    password: str = ""  # empty: whoever reaches the address may look
    share: bool = False  # through Gradio's public relay; only where it is asked for
    open_browser: bool = False
    largest_upload: str = "1mb"  # of one file

    def __post_init__(self) -> None:
        if (self.share or self.host not in LOOPBACK) and not self.password:
            what = "--share makes the page public" if self.share else f"--host {self.host} can be reached by others"
            raise ConfigError(f"{what}, and no password is set. Give --password-file FILE (its first line counts).")


def read_password(file: Path | None) -> str:
    """The first line of a file; empty without one."""
    if file is None:
        return ""
    try:
        first = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--password-file {file} cannot be read ({error}).") from error
    if not first:
        raise ConfigError(f"--password-file {file}: its first line is empty; write the password there.")
    return first


def serve(
    page: gr.Blocks, how: Serving, *, wait: bool = True, announce: Callable[[str], None] = lambda address: None
) -> str:
    """Launch; returns the address, with `wait` after Ctrl-C. `announce` hears it as soon as the page can be opened."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own address whether it answers: not by way of a proxy
        named = filter(None, os.environ.get(name, "").split(","))
        os.environ[name] = ",".join(dict.fromkeys((*named, *LOOPBACK)))
    login = None
    if how.password:

        def login(user: str, password: str) -> bool:
            right = hmac.compare_digest(password.encode(), how.password.encode())
            return hmac.compare_digest(user.encode(), how.user.encode()) and right

    page.queue(default_concurrency_limit=4, max_size=64, api_open=False)
    try:
        _, address, _ = page.launch(
            server_name=how.host,
            server_port=how.port,
            share=how.share,
            inbrowser=how.open_browser,
            auth=login,
            auth_message="This page asks for the name and password that it was started with." if how.password else None,
            max_file_size=how.largest_upload,
            allowed_paths=[],
            quiet=True,
            prevent_thread_lock=True,
            show_error=True,
            footer_links=["settings"],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            strict_cors=True,
            theme=theme(),
            css=page_css(),
            _frontend=False,  # no second look at the own address, which a busy machine fails: the start has asked it
        )
    except OSError as error:
        raise ConfigError(
            f"the page cannot be put on {how.host}:{how.port or 7860} ({error}); try another --port."
        ) from error
    announce(str(address))
    if wait:
        page.block_thread()
    return str(address)
