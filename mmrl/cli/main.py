"""`mmrl`: the table of commands. Each lives in its own file and loads what it needs when it is called.

To add a command: a file in this folder with one function (or a `typer.Typer` for a group), and a line below. Import
nothing heavy at the top of that file: `mmrl --help` reads them all and has half a second.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from mmrl import __version__
from mmrl.cli import app as app_pages
from mmrl.cli import config, data, explain, export, generate, model, replicate, rewards, run, score, serve, sft, train
from mmrl.cli.doctor import doctor
from mmrl.cli.eval import evaluate
from mmrl.cli.list import list_names
from mmrl.cli.outcome import finish
from mmrl.cli.plan import plan

COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "train": train.train,
    "sft": sft.sft,
    "eval": evaluate,
    "generate": generate.generate,
    "score": score.score,
    "export": export.export,
    "serve": serve.serve,
    "doctor": doctor,
    "plan": plan,
    "list": list_names,
    "explain": explain.explain,
    "replicate": replicate.replicate,
}

GROUPS: dict[str, typer.Typer] = {
    "data": data.app,
    "rewards": rewards.app,
    "config": config.app,
    "model": model.app,
    "app": app_pages.app,
}

# For this process and its children; a variable that is set already stays.
ENVIRONMENT = {
    # Libraries that talk by themselves: their bars and warnings would break ours.
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that wait for each other spin for some ten microseconds, then sleep (GNU OpenMP, which torch brings on
    # Linux). Its own default spins for milliseconds: on a machine that does anything else beside, a step took more than
    # ten times as long. Sleeping at once (OMP_WAIT_POLICY=PASSIVE) makes decoding a small model half as fast.
    "GOMP_SPINCOUNT": "10000",
}

app = typer.Typer(
    name="mmrl",
    help="Fine-tune vision-language models by reinforcement learning with verifiable rewards.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: it can be piped, quoted and read on any terminal
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"mmrl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def _worth_saying(record: logging.LogRecord) -> bool:
    """Not: that there is no GPU. Where DeepSpeed is installed, saving a model imports it, and it says so on stdout."""
    return "Setting accelerator to CPU" not in record.getMessage()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (`outcome.py`)."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("DeepSpeed").addFilter(_worth_saying)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if int(os.environ.get("RANK", "0")) > 0:  # one of several that torchrun or deepspeed started: the first one speaks
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # until the process ends
    with _tidy_at_sigterm():
        return finish(lambda: app(args=given, prog_name="mmrl", standalone_mode=False))


@contextmanager
def _tidy_at_sigterm() -> Iterator[None]:
    """SIGTERM ends the command like an error: temporary folders go, processes of ours end. Its exit code is 143.

    Commands that can be resumed have handlers of their own meanwhile (`interrupted.py`).
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
