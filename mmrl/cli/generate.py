"""`mmrl generate`: ask a model one question."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mmrl.cli.models import MODEL_HELP


class Mode(StrEnum):
    """The form that is asked for."""

    THINK_ANSWER = "think_answer"
    ANSWER = "answer"
    THINK = "think"
    OBSERVE = "observe"
    VANILLA = "vanilla"


def generate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)],
    question: Annotated[str, typer.Option("--question", "-q", help="What to ask.", show_default=False)],
    image: Annotated[
        list[Path] | None,
        typer.Option(
            "--image",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="A picture; may be repeated.",
            show_default=False,
        ),
    ] = None,
    video: Annotated[
        list[Path] | None,
        typer.Option(
            "--video",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="A clip; may be repeated. Clips come after pictures.",
            show_default=False,
        ),
    ] = None,
    choices: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Option texts, separated by commas.", show_default=False)
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="Form of the completion; default: that of the model's run.", show_default=False)
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0: always the likeliest token.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest completion, in tokens.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling; matters above temperature 0.")] = 0,
) -> None:
    """Ask a model a question about pictures and clips.

    The completion is printed as it is written.

    \b
    Examples:
      mmrl generate runs/digits --image seven.png --question "Which digit is written here?" --choices 7,8,9
      mmrl generate Qwen/Qwen2.5-VL-3B-Instruct --image a.png --image b.png --question "What changed?" --mode answer
      mmrl generate runs/clips --video clip.mp4 --question "When does the door open?"
    """
    from mmrl.cli.console import warn
    from mmrl.cli.models import model_path
    from mmrl.types import FinishReason

    path = model_path(model)
    options = [text.strip() for text in choices.split(",")] if choices is not None else []
    if not all(options):
        raise typer.BadParameter(
            "one of the options is empty; separate their texts by single commas", param_hint="--choices"
        )
    from mmrl.pipeline import generate_answer

    completion = generate_answer(
        path,
        question,
        [str(file) for file in image or ()],
        clips=[str(file) for file in video or ()],
        choices=options,
        mode=mode.value if mode is not None else None,
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        on_text=lambda text: print(text, end="", flush=True),
    )
    print()
    if completion.finish_reason is FinishReason.LENGTH:
        warn(f"Cut after {max_tokens} tokens; --max-tokens allows more.")
