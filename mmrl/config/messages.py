"""What the schema refuses, in plain words: the key, the place, the reason and the nearest known key."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mmrl.config.schema import Config
from mmrl.config.tree import KeyPath, Node, Problem, dotted, find, origin_of, plain
from mmrl.errors import nearest

UNIONS = (Union, types.UnionType)

# What a value must be, by the kind of pydantic's complaint. Filled in with the complaint's context.
MUST_BE = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list: [a, b]",
    "list_type": "a list: [a, b]",
    "dict_type": "a section of key: value lines",
    "model_type": "a section of key: value lines",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
    "finite_number": "a finite number",
}


def schema_problems(error: ValidationError, root: Node) -> list[Problem]:
    """One problem per key, in the order of the config's sections."""
    found: dict[KeyPath, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _path_in_config(detail["loc"])
        text = _text(detail["type"], detail.get("ctx", {}), path, root) or _lower(detail["msg"])
        found.setdefault(path, []).append(text)
    return [Problem(path=path, origin=origin_of(root, path), text=_joined(texts)) for path, texts in found.items()]


def _path_in_config(loc: tuple[int | str, ...]) -> KeyPath:
    """Pydantic's location without the names of union members, which are no keys of the config."""
    path: KeyPath = ()
    for part in loc:
        if get_origin(_annotation_at(path)) not in UNIONS:
            path = (*path, part)
    return path


def _text(kind: str, context: dict[str, Any], path: KeyPath, root: Node) -> str | None:
    if kind == "missing":
        return _missing(path)
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "value_error":
        return str(context["error"])
    node = find(root, path)
    value = plain(node) if node is not None else None
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']} (letters, digits, '.', '_', '-'), not {_quoted(value)}"
    if kind not in MUST_BE:
        return None
    return f"must be {MUST_BE[kind].format(**context)}, not {_quoted(value)}{_advice(kind, value, context)}"


def _advice(kind: str, value: Any, context: dict[str, Any]) -> str:
    if kind == "literal_error" and isinstance(value, str):
        guess = nearest(value, [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")])
        return f"; did you mean {guess!r}?" if guess else ""
    if value is None:
        return "; give it a value or remove the line"
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if kind == "string_type" and isinstance(value, (int, float, bool)):
        return "; put it in quotes"
    return ""


def _missing(path: KeyPath) -> str:
    if path and isinstance(path[-1], int):
        return "is missing: the list is too short"
    description = _description_at(path)
    return f"is missing: {description}" if description else "is missing"


def _unknown_key(path: KeyPath) -> str:
    key, around = str(path[-1]), path[:-1]
    if key == "extends":
        return "'extends' stands at the top of a config file only, not in a section or an override"
    known = _keys_at(around)
    if guess := nearest(key, known):
        return f"unknown key; did you mean {dotted((*around, guess))!r}?"
    elsewhere = [candidate for candidate in all_keys() if candidate[-1] == key]
    if elsewhere:
        return f"unknown key here; did you mean {dotted(elsewhere[0])!r}?"
    return f"unknown key. Known here: {', '.join(known)}"


def all_keys(section: type[BaseModel] = Config, above: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key of the schema, sections included; the tasks of `rewards` have no fixed names and are left out."""
    for name, field in section.model_fields.items():
        yield (*above, name)
        inner = _section_in(field.annotation)
        if inner is not None and get_origin(field.annotation) is not dict:
            yield from all_keys(inner, (*above, name))


def _keys_at(path: KeyPath) -> list[str]:
    section = _annotation_at(path)
    return list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []


def _description_at(path: KeyPath) -> str | None:
    section = _annotation_at(path[:-1])
    if not path or not isinstance(section, type) or not issubclass(section, BaseModel):
        return None
    field = section.model_fields.get(str(path[-1]))
    if field is None:
        return None
    if field.description:
        return field.description
    inner = _section_in(field.annotation)
    return f"a section with {', '.join(inner.model_fields)}" if inner else None


def _annotation_at(path: KeyPath) -> Any:
    """The section class at `path`, walking through optional sections, lists and mappings of them; or None."""
    here: Any = Config
    for key in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(key))
            here = _without_none(field.annotation) if field else None
        elif get_origin(here) in (dict, tuple):
            here = _without_none(get_args(here)[1 if get_origin(here) is dict else 0])
        else:
            return None
    return here


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in UNIONS:
        members = [member for member in get_args(annotation) if member is not type(None)]
        return members[0] if len(members) == 1 else annotation
    return annotation


def _section_in(annotation: Any) -> type[BaseModel] | None:
    annotation = _without_none(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _joined(texts: list[str]) -> str:
    """Several complaints about one value (the members of a union) as one: "must be a or b, not c"."""
    if len(texts) > 1 and all(text.startswith("must be ") for text in texts):
        wanted = [text.removeprefix("must be ").split(", not ")[0] for text in texts]
        return f"must be {' or '.join(wanted)}, not {texts[0].split(', not ', 1)[1].split(';')[0]}"
    return "; ".join(dict.fromkeys(texts))


def _quoted(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a section"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
