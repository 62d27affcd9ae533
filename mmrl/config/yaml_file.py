"""YAML text → nodes that know their line.

Two things differ from PyYAML's own loader. Plain words and numbers mean what YAML 1.2 says: `1e-6` is a number, `on`,
`off`, `yes` and `no` are words, `010` is ten and `12:30` is text (YAML 1.1 makes them a string, true, 8 and 750). And
a key given twice in one mapping is a mistake, not a silent choice of the second.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from mmrl.config.tree import Node, Origin, Problem

NULL = re.compile(r"~|null|Null|NULL|")
BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
INT = re.compile(r"[-+]?[0-9][0-9_]*")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
SPECIAL_FLOAT = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def parse_yaml(text: str, origin: Origin) -> tuple[Node, list[Problem]]:
    """The tree of `text` and its mistakes. `origin` says where the text is from; its line, if any, is kept.

    A text that is no YAML at all gives an empty mapping and one problem.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        return Node(value={}, origin=origin), [_problem(origin, line, f"not valid YAML: {_words(error)}")]
    except yaml.YAMLError as error:
        return Node(value={}, origin=origin), [_problem(origin, None, f"not valid YAML: {error}")]
    if root is None:
        return Node(value=None, origin=origin), []
    builder = _Builder(origin)
    return builder.build(root, ()), builder.problems


def parse_scalar(text: str) -> str | int | float | bool | None:
    """What a plain (unquoted) word means."""
    if NULL.fullmatch(text):
        return None
    if BOOL.fullmatch(text):
        return text.lower() == "true"
    if INT.fullmatch(text):
        return int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    if match := SPECIAL_FLOAT.fullmatch(text):
        return float(f"{match[1] or ''}{match[2] or match[3]}")
    return text


class _Builder:
    def __init__(self, origin: Origin) -> None:
        self.problems: list[Problem] = []
        self._origin = origin
        self._open: list[yaml.Node] = []  # nodes being built: an alias to one of them would never end

    def build(self, node: yaml.Node, path: tuple[str | int, ...]) -> Node:
        origin = self._at(node)
        if node in self._open:
            self.problems.append(Problem(path=path, origin=origin, text="an alias (*name) that contains itself"))
            return Node(value=None, origin=origin)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path, origin)
            if isinstance(node, yaml.SequenceNode):
                items = tuple(self.build(child, (*path, i)) for i, child in enumerate(node.value))
                return Node(value=items, origin=origin)
            plain_word = isinstance(node, yaml.ScalarNode) and node.style is None
            return Node(value=parse_scalar(node.value) if plain_word else node.value, origin=origin)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...], origin: Origin) -> Node:
        children: dict[str, Node] = {}
        key_origins: dict[str, Origin] = {}
        for key_node, value_node in node.value:
            where = self._at(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(path=path, origin=where, text="a key must be a plain word"))
                continue
            key = str(key_node.value)
            if key in children:
                text = f"given twice; the first is at {key_origins[key]}. Keep one"
                self.problems.append(Problem(path=(*path, key), origin=where, text=text))
            children[key] = self.build(value_node, (*path, key))
            key_origins[key] = where
        return Node(value=children, origin=origin, key_origins=key_origins)

    def _at(self, node: yaml.Node) -> Origin:
        if self._origin.override is not None:
            return self._origin
        return Origin(file=self._origin.file, line=node.start_mark.line + 1)


def _problem(origin: Origin, line: int | None, text: str) -> Problem:
    where = origin if origin.override is not None else Origin(file=origin.file, line=line)
    return Problem(path=(), origin=where, text=text)


def _words(error: yaml.MarkedYAMLError) -> str:
    said = error.problem or error.context or "something is out of place"
    if "found character '\\t'" in said:
        return "a tab where spaces are needed to indent"
    if "mapping values are not allowed" in said:
        return "a second ': ' in one line, or wrong indentation; put a text that holds ': ' in quotes"
    return said


class _Dumper(yaml.SafeDumper):
    """Writes text in quotes wherever YAML 1.1 *or* our reading of plain words would take it for something else."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        """Lists of plain values on one line."""
        short = all(not isinstance(item, list | dict) and len(str(item)) < 20 for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=short or flow_style)


_number = re.compile(f"(?:{INT.pattern}|{FLOAT.pattern})$")
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _number, list("-+.0123456789"))


def dump_yaml(value: object) -> str:
    """YAML that both `parse_yaml` and other readers understand alike."""
    dumped: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return dumped


def parse_override(argument: str) -> tuple[Sequence[str], Node, list[Problem]]:
    """`key.sub=value` → the key's parts, the value and the mistakes."""
    origin = Origin(override=argument)
    key, equals, text = argument.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        problem = Problem(path=(), origin=origin, text="an override is written key.sub=value, as in train.steps=20")
        return (), Node(value={}, origin=origin), [problem]
    node, problems = parse_yaml(text, origin)
    return parts, node, problems
