"""Counters that do not depend on the machine, and the least that a step can do.

Counted: pictures given to the image processor, vision patches given to a vision tower, positions (padding included)
given to a language model, in every model of the process. Told apart by pass: rollout (inside generation), update (with
gradient), reference (another model than the policy), old (all else).
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TOWER, DECODER = "VisionTransformer", "TextModel"  # in the class names of transformers' Qwen vision models


class Counts:
    """Counts between `start` and `stop`; costs nothing outside."""

    def __init__(self) -> None:
        self._policy: set[int] = set()
        self._handles: list[Any] = []
        self._generating = 0
        self._images = 0
        self._patches: dict[str, int] = defaultdict(int)
        self._tokens: dict[str, int] = defaultdict(int)

    def policy(self, model: nn.Module) -> None:
        """The model that is trained; every other is the reference."""
        self._policy = {id(module) for module in model.modules()}

    def images_of(self, image_processor: Any) -> None:
        """Count the pictures that this processor is given."""
        inner = image_processor.preprocess

        def preprocess(images: Any, *args: Any, **kwargs: Any) -> Any:
            self._images += _pictures(images)
            return inner(images, *args, **kwargs)

        image_processor.preprocess = preprocess

    def generation(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function; the passes inside it are rollouts."""

        def generate(*args: Any, **kwargs: Any) -> Any:
            self._generating += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._generating -= 1

        return generate

    def start(self) -> None:
        self._images = 0
        self._patches.clear()
        self._tokens.clear()
        for module in [m for m in gc.get_objects() if issubclass(type(m), nn.Module)]:
            if TOWER in type(module).__name__:
                self._handles.append(module.register_forward_pre_hook(self._tower, with_kwargs=True))
            elif DECODER in type(module).__name__:
                self._handles.append(module.register_forward_pre_hook(self._decoder, with_kwargs=True))

    def stop(self) -> dict[str, Any]:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        return {"images": self._images, "patches": dict(self._patches), "tokens": dict(self._tokens)}

    def _tower(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        patches: Tensor = args[0] if args else kwargs["hidden_states"]
        self._patches[self._pass(module)] += patches.shape[0]

    def _decoder(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        embedded = kwargs.get("inputs_embeds")
        read: Tensor = embedded if embedded is not None else (args[0] if args else kwargs["input_ids"])
        self._tokens[self._pass(module)] += read.shape[0] * read.shape[1]

    def _pass(self, module: nn.Module) -> str:
        if id(module) not in self._policy:
            return "reference"
        if self._generating:
            return "rollout"
        return "update" if torch.is_grad_enabled() else "old"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The least one step with a single optimiser update can do."""

    images: int
    patches: int
    tokens: int
    why: str

    @staticmethod
    def of(
        prompts: Sequence[tuple[int, int]], *, group_size: int, completion_tokens: int, beta: float, frozen: bool
    ) -> Bounds:
        """`prompts`: (prompt tokens, vision patches) of each prompt, all with different pictures, one each.

        Passes are rollout and update, and the reference where beta is not 0. The old policy needs none: with one
        update it is the policy itself. Every pass reads a prompt once, and each completion but for its last token,
        which predicts nothing: P + G·(C − 1) tokens.
        """
        passes = 2 + (beta != 0)
        tokens = passes * sum(p + group_size * (completion_tokens - 1) for p, _ in prompts)
        encodes = 1 if frozen else passes - 1
        why = (
            "frozen tower: its features are the same in every pass, so each picture is encoded once"
            if frozen
            else "trainable tower: one encode for rollout and update, whose weights are the same"
            + (", one with the reference's weights" if beta else "")
        )
        return Bounds(
            images=len(prompts), patches=encodes * sum(patches for _, patches in prompts), tokens=tokens, why=why
        )


def beside_bounds(counts: dict[str, Any], bounds: Bounds) -> dict[str, Any]:
    """Totals with their bounds and how many times the bound they are."""
    totals = {
        "images": counts["images"],
        "patches": sum(counts["patches"].values()),
        "tokens": sum(counts["tokens"].values()),
    }
    least = {"images": bounds.images, "patches": bounds.patches, "tokens": bounds.tokens}
    return {
        name: {"counted": total, "bound": least[name], "times": round(total / least[name], 3)}
        for name, total in totals.items()
    } | {"by_pass": {"patches": counts["patches"], "tokens": counts["tokens"]}}


def _pictures(images: Any) -> int:
    return sum(map(_pictures, images)) if isinstance(images, list | tuple) else 1
