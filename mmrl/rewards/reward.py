"""What a reward is: a function of (completion, sample) with a declared range, kind and the answer types it reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, Protocol

from mmrl.errors import ConfigError, RewardError, unknown_name
from mmrl.types import AnswerType, Completion, Sample, Score

RewardKind = Literal["accuracy", "format", "shaping"]


class RewardFunction(Protocol):
    """Scores one completion. The catalogue's are frozen dataclasses of their options; a user's may be any callable.

    Never raises because of what the completion says. Raises `RewardError` where the sample cannot be scored at all.
    A part may also have `bounds` (its range, where the options decide it), `in_process` (whether its time is bounded,
    where the options decide it), `verify(sample)` (raises `RewardError` for a sample it cannot score), `prepare()`
    (slow imports, done once per process before any clock runs) and `gold(sample)` (the right answer's text, where it is
    not what `gold_answer` writes).
    """

    def __call__(self, completion: Completion, sample: Sample, /) -> Score: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """One entry of the catalogue, or a user's reward.

    Example:
        Reward(function=Choice(), summary="the letter of the right option", kind="accuracy", answers=("choice",))
    """

    function: RewardFunction  # the part: called with (completion, sample)
    summary: str  # one line for `mmrl list rewards`
    kind: RewardKind  # accuracy: is it right; format: is it in the asked form; shaping: everything else
    answers: tuple[AnswerType, ...] = ()  # answer types it can score; empty: any
    low: float = 0.0  # declared range of the value: the worst …
    high: float = 1.0  # … and the best
    in_process: bool = True  # its time is bounded whatever the completion says; False: runs where it can be killed
    needs_frames: bool = False  # called with `frames=`, the sample's decoded pictures

    def with_options(self, options: Mapping[str, Any], *, name: str) -> Reward:
        """This reward with other hyper-parameters. `name` is for the message when an option is unknown or wrong."""
        if not options:
            return self
        part = with_options(self.function, options, name=name)
        low, high = getattr(part, "bounds", (self.low, self.high))
        return replace(self, function=part, low=low, high=high, in_process=getattr(part, "in_process", self.in_process))

    def verify(self, sample: Sample, *, name: str) -> None:
        """Raise `RewardError` where `sample` cannot be scored by this reward at all."""
        if self.answers and sample.answer.type not in self.answers:
            raise RewardError(
                f"sample {sample.id!r} (task {sample.task!r}): reward {name!r} scores answers of type "
                f"{', '.join(self.answers)}, and this answer is of type {sample.answer.type!r}. Give the task a reward "
                f"set of its own, or mend the answer's type in the data recipe."
            )
        verify = getattr(self.function, "verify", None)
        if verify is not None:
            verify(sample)

    def unit(self, value: float) -> float:
        """`value` mapped from the declared range into [0, 1]."""
        if self.high <= self.low:
            return 0.0
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def checked(self, result: object) -> Score:
        """What the function returned, as a `Score` in the declared range; `ValueError` where it is no such thing."""
        score = result if isinstance(result, Score) else Score(value=_number(result))
        value = score.value
        if not (self.low <= value <= self.high):
            if not math.isfinite(value) or value < self.low - 1e-6 or value > self.high + 1e-6:
                raise ValueError(f"returned {value!r}, outside its declared range [{self.low:g}, {self.high:g}]")
            score = replace(score, value=min(self.high, max(self.low, value)))
        return score


def wrong_type(sample: Sample, reward: str, accepted: str) -> RewardError:
    """The error for a sample whose answer type a reward cannot read."""
    return RewardError(
        f"sample {sample.id!r}: reward {reward!r} scores answers of type {accepted}, "
        f"and this answer is of type {sample.answer.type!r}."
    )


def with_options(part: Any, options: Mapping[str, Any], *, name: str) -> Any:
    """The dataclass `part` with some of its fields replaced; each must exist and have the type of its default."""
    if not is_dataclass(part) or isinstance(part, type):
        raise ConfigError(f"reward {name!r} takes no options, and {', '.join(options)} was given. Remove `options`.")
    known = {f.name: getattr(part, f.name) for f in fields(part)}
    for key in options:
        if key not in known:
            raise ConfigError(unknown_name(f"option of reward {name!r}:", key, known))
    values = {key: _coerced(value, known[key], f"option {key!r} of reward {name!r}") for key, value in options.items()}
    return replace(part, **values)


def _coerced(value: Any, default: Any, where: str) -> Any:
    """`value` as the type of `default`; YAML's lists become tuples, its integers floats."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_coerced(item, default[0], where) for item in value) if default else tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list"}
        raise ConfigError(f"{where} is {value!r}; it must be {wanted.get(type(default), type(default).__name__)}.")
    return value


def _number(result: object) -> float:
    if isinstance(result, bool | int | float):
        return float(result)
    item = getattr(result, "item", None)  # zero-dimensional arrays and tensors
    if item is not None:
        try:
            return float(item())
        except (TypeError, ValueError, RuntimeError):
            pass
    raise ValueError(f"returned {type(result).__name__}, neither a Score nor a number")
