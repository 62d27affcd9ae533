"""The language of `filter`: Python's comparisons over the fields of a sample, read as a syntax tree and never executed.

    task == "choice" and 0.2 <= metadata.pass_rate <= 0.8
    images == 1 and len(choices) == 4 and not matches(question, "(?i)none of the above")
    all(item.type == "video" for item in media) or default(metadata.source, "") in ("clevr", "digits")

Names are fields; a dot or [..] goes inside; there are literals, comparisons, and/or/not, arithmetic, `x if c else y`,
comprehensions over one list, and the functions in `FUNCTIONS`. Nothing else is, so that no expression can read a file,
run a program or take the memory of the machine. A field that a row does not have makes the row unfit (reason: "no
metadata.source"), as does a comparison that makes no sense; `has(…)` and `default(…, value)` deal with the former.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from mmrl.curation.pointing import meant, pointed, wrong_syntax
from mmrl.curation.vocabulary import (
    ARITHMETIC,
    COMPARE,
    CONSTANTS,
    FIELDS,
    FUNCTIONS,
    INSIDE,
    MISSING,
    Env,
    found_in,
)
from mmrl.errors import ConfigError
from mmrl.types import Media

Evaluate = Callable[[Env], Any]

_LONGEST = 4000  # characters of an expression
_DEEPEST = 60  # levels of its tree


class Unfit(Exception):
    """The row cannot be judged; `code` is a position in `Expression.reasons`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression: `evaluate(environment(sample))` is true, false, or raises `Unfit`."""

    text: str
    reasons: tuple[str, ...]  # why a row can be unfit
    fields: tuple[str, ...]  # the dotted fields that it reads
    evaluate: Callable[[Env], bool]


def parse_expression(text: str) -> Expression:
    """Checks the whole expression; a ConfigError names the column, what is wrong and what may be meant."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._reasons: list[str] = []
        self._fields: list[str] = []
        self._locals: list[str] = []

    def parse(self) -> Expression:
        if not self._text.strip():
            raise ConfigError('the filter expression is empty; write one such as: task == "choice"')
        if len(self._text) > _LONGEST:
            raise ConfigError(f"the filter expression has {len(self._text)} characters; the limit is {_LONGEST}")
        try:
            tree = ast.parse(self._text, mode="eval").body
        except SyntaxError as error:
            raise wrong_syntax(self._text, error) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise ConfigError(f"the filter expression cannot be read: {error}") from None
        made = self._node(tree, 0)

        def evaluate(env: Env) -> bool:
            value = made(env)
            if value is MISSING:
                raise Unfit(last)
            if not isinstance(value, bool):
                raise ConfigError(
                    f"the filter expression gives {value!r}, which is neither true nor false; compare it with "
                    f"something: {self._text} > 0"
                )
            return value

        last = self._reason("the field does not exist")
        return Expression(self._text, tuple(self._reasons), tuple(dict.fromkeys(self._fields)), evaluate)

    def _node(self, node: ast.expr, depth: int) -> Evaluate:
        if depth > _DEEPEST:
            self._fail(node, f"is nested more than {_DEEPEST} levels deep; write it as several filters")
        match node:
            case ast.Constant(value=bool() | int() | float() | str()):
                value = node.value
                return lambda env: value
            case ast.Name():
                return self._name(node)
            case ast.Attribute() | ast.Subscript():
                return self._inside(node, depth)
            case ast.BoolOp():
                return self._bool(node, depth)
            case ast.UnaryOp(op=ast.Not()):
                inner = self._condition(node.operand, depth)
                return lambda env: not inner(env)
            case ast.UnaryOp(op=ast.USub()):
                minus = self._present(node.operand, depth)
                return self._guarded(node, lambda env: -minus(env))
            case ast.Compare():
                return self._compare(node, depth)
            case ast.BinOp():
                return self._arithmetic(node, depth)
            case ast.IfExp():
                test, yes, no = (
                    self._condition(node.test, depth),
                    self._node(node.body, depth + 1),
                    self._node(node.orelse, depth + 1),
                )
                return lambda env: yes(env) if test(env) else no(env)
            case ast.List() | ast.Tuple():
                items = [self._present(item, depth) for item in node.elts]
                return lambda env: [item(env) for item in items]
            case ast.Call():
                return self._call(node, depth)
            case ast.GeneratorExp() | ast.ListComp():
                return self._comprehension(node, depth)
        if isinstance(node, ast.Constant) and node.value is None:
            self._fail(node, "there is no null: a field that is null does not exist; write not has(…)")
        what = type(node).__name__
        self._fail(node, f"{what} is not part of the language. There are fields, comparisons, and, or, not, "
                         f"arithmetic and {', '.join(FUNCTIONS)}")  # fmt: skip

    def _name(self, node: ast.Name) -> Evaluate:
        name = node.id
        if name in self._locals or name in FIELDS:
            if name in FIELDS:
                self._fields.append(name)
            return lambda env: env[name]
        if name in CONSTANTS:
            constant = CONSTANTS[name]
            return lambda env: constant
        if name == "null":
            self._fail(node, "there is no null: a field that is null does not exist; write not has(…)")
        self._fail(node, f"unknown field {name!r}.{meant(name, [*self._locals, *FIELDS])} Known: {', '.join(FIELDS)}")

    def _inside(self, node: ast.Attribute | ast.Subscript, depth: int) -> Evaluate:
        outer = self._node(node.value, depth + 1)
        if isinstance(node, ast.Attribute):
            key: Any = node.attr
            root = node.value.id if isinstance(node.value, ast.Name) else None
            item = isinstance(node.value, ast.Subscript) and _dotted(node.value.value) == "media"
            known = INSIDE["answer"] if root == "answer" else INSIDE["media"] if item else None
            if known is not None and key not in known:
                self._fail(node, f"{_dotted(node.value)} has no {key!r}.{meant(key, known)} Known: {', '.join(known)}",
                           column=node.end_col_offset - len(key) if node.end_col_offset else None)  # fmt: skip
            if root is not None and root in FIELDS and root not in ("answer", "metadata", *self._locals):
                way = f"write {key}({root})" if key in FUNCTIONS else f"{root} is {FIELDS[root]}"
                self._fail(node, f"{root} has nothing inside called {key!r}; {way}")
            get: Evaluate = lambda env: key  # noqa: E731
        else:
            get = self._present(node.slice, depth) if not isinstance(node.slice, ast.Slice) else self._no_slice(node)
        name = _dotted(node)
        if name:
            self._fields.append(name)

        def value(env: Env) -> Any:
            container = outer(env)
            if container is MISSING:
                return MISSING
            place = get(env)
            if isinstance(container, Mapping):
                found = container.get(place, MISSING)
            elif isinstance(place, str):
                readable = isinstance(container, Media) and place in INSIDE["media"]
                found = getattr(container, place) if readable else MISSING
            else:
                try:
                    found = container[place]
                except IndexError:
                    return MISSING
            return MISSING if found is None else found

        return self._guarded(node, value)

    def _no_slice(self, node: ast.Subscript) -> NoReturn:
        self._fail(node, "slices are not part of the language; use startswith, endswith or matches")

    def _bool(self, node: ast.BoolOp, depth: int) -> Evaluate:
        parts = [self._condition(value, depth) for value in node.values]
        if isinstance(node.op, ast.And):
            return lambda env: all(part(env) for part in parts)
        return lambda env: any(part(env) for part in parts)

    def _compare(self, node: ast.Compare, depth: int) -> Evaluate:
        values = [self._present(value, depth) for value in (node.left, *node.comparators)]
        tests = []
        for op in node.ops:
            if type(op) not in COMPARE:
                self._fail(node, "`is` is not part of the language; write == or !=")
            tests.append(COMPARE[type(op)][1])

        def value(env: Env) -> bool:
            left = values[0](env)
            for test, right in zip(tests, values[1:], strict=True):
                found = right(env)
                if not test(_plain(left), _plain(found)):
                    return False
                left = found
            return True

        return self._guarded(node, value)

    def _arithmetic(self, node: ast.BinOp, depth: int) -> Evaluate:
        if type(node.op) not in ARITHMETIC:
            self._fail(node, "this operator is not part of the language; there are + - * / // % and `and`, `or`, `not`")
        work = ARITHMETIC[type(node.op)]
        left, right = self._present(node.left, depth), self._present(node.right, depth)

        def value(env: Env) -> Any:
            a, b = left(env), right(env)
            if not isinstance(a, int | float) or not isinstance(b, int | float):
                raise TypeError("arithmetic is for numbers")
            return work(a, b)

        return self._guarded(node, value)

    def _call(self, node: ast.Call, depth: int) -> Evaluate:
        if not isinstance(node.func, ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            way = f"; write {name}(…)" if name in FUNCTIONS else f"; functions are {', '.join(FUNCTIONS)}"
            self._fail(node, f"methods cannot be called{way}")
        name = node.func.id
        if name not in FUNCTIONS:
            self._fail(node, f"unknown function {name!r}.{meant(name, FUNCTIONS)} Known: {', '.join(FUNCTIONS)}")
        work, least, most = FUNCTIONS[name]
        if node.keywords or not least <= len(node.args) <= most:
            self._fail(node, f"{name} takes {least if least == most else f'{least} to {most}'} argument(s)")
        if name in ("has", "default"):
            first = self._node(node.args[0], depth + 1)
            if name == "has":
                return lambda env: first(env) is not MISSING
            other = self._present(node.args[1], depth)
            return lambda env: other(env) if (found := first(env)) is MISSING else found
        arguments = [self._present(argument, depth) for argument in node.args]
        if name == "matches":
            pattern = self._pattern(node.args[1])
            return self._guarded(node, lambda env: found_in(arguments[0](env), pattern))
        return self._guarded(node, lambda env: work(*[argument(env) for argument in arguments]))

    def _pattern(self, node: ast.expr) -> re.Pattern[str]:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            self._fail(node, "the pattern of matches must be text in quotes")
        try:
            return re.compile(node.value)
        except re.error as error:
            self._fail(node, f"the pattern is no regular expression ({error})")

    def _comprehension(self, node: ast.GeneratorExp | ast.ListComp, depth: int) -> Evaluate:
        one = node.generators[0]
        if len(node.generators) > 1 or not isinstance(one.target, ast.Name) or one.is_async:
            self._fail(
                node, 'a comprehension goes over one list, with one name: all(item.type == "image" for item in media)'
            )
        source = self._present(one.iter, depth)
        name = one.target.id
        self._locals.append(name)
        tests = [self._condition(test, depth) for test in one.ifs]
        element = self._present(node.elt, depth)
        self._locals.pop()

        def value(env: Env) -> list[Any]:
            found = []
            for item in source(env):
                inner = {**env, name: item}
                if all(test(inner) for test in tests):
                    found.append(element(inner))
            return found

        return self._guarded(node, value)

    def _condition(self, node: ast.expr, depth: int) -> Evaluate:
        """Of and, or, not, if: must be true or false."""
        made = self._present(node, depth)

        def value(env: Env) -> bool:
            found = made(env)
            if not isinstance(found, bool):
                raise TypeError("neither true nor false")
            return found

        return self._guarded(node, value)

    def _present(self, node: ast.expr, depth: int) -> Evaluate:
        """A value that must be there: a field that the row does not have makes it unfit."""
        made = self._node(node, depth + 1)
        if isinstance(node, ast.Constant):
            return made
        name = _dotted(node) or self._source(node)
        code = self._reason(f"no {name}")

        def value(env: Env) -> Any:
            found = made(env)
            if found is MISSING:
                raise Unfit(code)
            return found

        return value

    def _guarded(self, node: ast.expr, work: Evaluate) -> Evaluate:
        code = self._reason(f"cannot be judged: {self._source(node)}")

        def value(env: Env) -> Any:
            try:
                return work(env)
            except (TypeError, ValueError, ZeroDivisionError, OverflowError, KeyError, AttributeError):
                raise Unfit(code) from None

        return value

    def _reason(self, text: str) -> int:
        if text not in self._reasons:
            self._reasons.append(text)
        return self._reasons.index(text)

    def _source(self, node: ast.expr) -> str:
        text = ast.get_source_segment(self._text, node) or ast.unparse(node)
        return " ".join(text.split())

    def _fail(self, node: ast.expr, why: str, *, column: int | None = None) -> NoReturn:
        raise pointed(self._text, node.lineno, (node.col_offset if column is None else column) + 1, why)


def _dotted(node: ast.expr) -> str:
    """metadata.source, media[0].path; empty where it is something else."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            outer = _dotted(node.value)
            return f"{outer}.{node.attr}" if outer else ""
        case ast.Subscript(slice=ast.Constant(value=value)):
            outer = _dotted(node.value)
            return f"{outer}[{value!r}]" if outer else ""
    return ""


def _plain(value: Any) -> Any:
    """Tuples compare like the lists they are in JSON."""
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
