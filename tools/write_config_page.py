"""Writes docs/config.md from the schema of the config: `python tools/write_config_page.py`."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mmrl.config.schema import Config

PAGE = Path(__file__).parents[1] / "docs" / "config.md"

HEAD = """\
# Configuration

<!-- Written by tools/write_config_page.py from mmrl/config/schema.py; do not edit by hand. -->

A run is one YAML file with the sections below. Only `run.name`, `model`, `data` and `rewards` must be there (`rewards`
not beside `data.recipe`); a key that is not on this page is an error, which names the nearest. `extends: other.yaml`
begins with another file's values (relative to this file; sections are merged, `key: null` takes a
value away). On the command line `section.key=value` changes one:
`mmrl train mine.yaml train.steps=200 rollout.group_size=16`.

    mmrl config check mine.yaml     says everything that is wrong with it, at once
    mmrl config show mine.yaml      says every value, defaults included

Names in **rewards**: [rewards.md](rewards.md). In **algorithm**: [algorithms.md](algorithms.md) and a page for
[each](algorithms/README.md). What runs log: [metrics.md](metrics.md). From one's own pictures to a model:
[guide.md](guide.md).
"""


def config_page() -> str:
    """The page as it should be."""
    return HEAD + "".join(_sections(Config, ""))


def _sections(model: type[BaseModel], path: str) -> Iterator[str]:
    """The section at `path`, then those inside it."""
    inner: list[tuple[str, type[BaseModel]]] = []
    rows = []
    for name, info in model.model_fields.items():
        full = f"{path}.{name}" if path else name
        found = _model_inside(info.annotation)
        if found is not None:
            below = f"{full}.TASK" if name == "rewards" else full
            inner.append((below, found))
            meaning = f"{info.description}; " if info.description else ""
            kind = "task → list of sections" if name == "rewards" else "section"
            cells = [f"`{name}`", kind, _default(info), f"{meaning}[below](#{_anchor(below)})"]
        else:
            cells = [f"`{name}`", _type(info), _default(info), _linked(info.description or "")]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    title = f"## {path}" if path else "## The file"
    about = _linked(" ".join((model.__doc__ or "").split()))
    yield f"\n{title}\n\n{about + chr(10) + chr(10) if about else ''}"
    yield "| key | value | default | meaning |\n|---|---|---|---|\n" + "".join(rows)
    for full, found in inner:
        yield from _sections(found, full)


def _linked(text: str) -> str:
    return re.sub(r"docs/([a-z_]+\.md)", r"[\1](\1)", text)


def _anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _model_inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _model_inside(part)) is not None), None)


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    if info.default is PydanticUndefined:
        return "`{}`"
    if isinstance(info.default, BaseModel):
        changed = info.default.model_dump(mode="json", exclude_defaults=True)
        return f"`{json.dumps(changed)}`" if changed else "its own"
    if info.default is None:
        return "none"
    value = info.default
    shown = f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    return f"`{shown}`"


def _type(info: FieldInfo) -> str:
    return _said(info.annotation, tuple(info.metadata))


def _said(annotation: Any, bounds: tuple[Any, ...]) -> str:
    """A type and its range in words."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        inside = parts[0]
        metadata = [m for part in parts[1:] for m in (part.metadata if isinstance(part, FieldInfo) else [part])]
        return _said(inside, (*metadata, *bounds))
    if origin in (typing.Union, types.UnionType):
        kinds = [part for part in parts if part is not type(None)]
        return " or ".join(_said(part, bounds) for part in kinds)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin is tuple:
        if len(parts) == 2 and parts[1] is Ellipsis:
            return f"list of {_said(parts[0], ())}{_range(bounds)}"
        return f"{len(parts)} × {_said(parts[0], ())}"
    if origin is dict or annotation is dict:
        return "mapping"
    name = {int: "whole number", float: "number", bool: "true, false", str: "text"}.get(annotation, str(annotation))
    return name + _range(bounds)


def _range(bounds: tuple[Any, ...]) -> str:
    said = []
    for bound in bounds:
        match bound:
            case Gt(gt=low):
                said.append(f"> {low:g}")
            case Ge(ge=low):
                said.append(f"≥ {low:g}")
            case Lt(lt=high):
                said.append(f"< {high:g}")
            case Le(le=high):
                said.append(f"≤ {high:g}")
            case MultipleOf(multiple_of=step):
                said.append(f"a multiple of {step}")
            case MinLen(min_length=1):
                said.append("not empty")
            case MinLen(min_length=count):
                said.append(f"at least {count}")
            case MaxLen(max_length=count):
                said.append(f"at most {count}")
            case _:
                if getattr(bound, "pattern", None):
                    said.append(f"`{bound.pattern}`")
    return f", {', '.join(said)}" if said else ""


if __name__ == "__main__":
    PAGE.write_text(config_page(), encoding="utf-8")
