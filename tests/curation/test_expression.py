"""The language of `filter`: what it means, what it refuses and how it says so."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.curation.expression import Unfit, parse_expression
from mmrl.curation.vocabulary import environment
from mmrl.errors import ConfigError
from mmrl.types import Answer, Media, Sample

SAMPLE = Sample(
    id="s-7",
    task="count",
    question="<image> How many red balls are there?",
    answer=Answer(type="choice", value="B"),
    media=(Media(type="image", path="/d/a.png"), Media(type="video", path="/d/b.mp4", start=1.5)),
    choices=("one", "two", "three"),
    metadata={"source": "clevr", "pass_rate": 0.25, "tags": ["a", "b"], "deep": {"er": 3}, "empty": None},
)


def value(text: str) -> bool:
    return parse_expression(text).evaluate(environment(SAMPLE))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('task == "count"', True),
        ("0.2 <= metadata.pass_rate < 0.25", False),
        ("0.2 <= metadata.pass_rate <= 0.25", True),
        ('right == "two" and answer.value == "B"', True),
        ("images == 1 and videos == 1 and frames == 0", True),
        ("words == 7", True),
        ('metadata.source in ("clevr", "digits")', True),
        ('"b" in metadata.tags and metadata["deep"].er * 2 == 6', True),
        ('not startswith(lower(id), "s-") or matches(question, "red|blue")', True),
        ('all(item.type == "image" for item in media)', False),
        ('any(endswith(m.path, ".mp4") and m.start > 1 for m in media)', True),
        ("sum([len(c) for c in choices if len(c) > 3]) == 5", True),
        ("has(metadata.missing) or has(metadata.empty)", False),
        ("default(metadata.missing, 4) > 3", True),
        ("has(media[5])", False),
        ("(1 if images == 1 else 2) == 1", True),
        ("-1 + 7 // 2 % 2 < 1 and true and not false", True),
        ('choices == ["one", "two", "three"]', True),
    ],
)
def test_expressions_mean_what_they_say(text: str, expected: bool):
    assert value(text) is expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("metadata.missing > 3", "no metadata.missing"),
        ("metadata.deep.more.inside > 3", "no metadata.deep.more.inside"),
        ("metadata.source > 3", "cannot be judged: metadata.source > 3"),
        ("len(metadata.pass_rate) > 3", "cannot be judged: len(metadata.pass_rate)"),
        ("1 / (images - 1) > 0", "cannot be judged: 1 / (images - 1)"),
        ("not words", "cannot be judged: words"),
        ("media[1].fps > 3", "no media[1].fps"),
    ],
)
def test_rows_that_cannot_be_judged_say_why(text: str, reason: str):
    expression = parse_expression(text)
    with pytest.raises(Unfit) as unfit:
        expression.evaluate(environment(SAMPLE))
    assert expression.reasons[unfit.value.code] == reason


@pytest.mark.parametrize(
    ("text", "column", "part"),
    [
        ('taks == "x"', 1, "Did you mean 'task'"),
        ('task == "x" and lenn(question) > 3', 17, "Did you mean 'len'"),
        ('answer.typ == "x"', 8, "Did you mean 'type'"),
        ('media[0].pth == "x"', 10, "Did you mean 'path'"),
        ('task = "x"', 6, "write == to compare"),
        ("images > 1 && videos > 1", 13, "write and"),
        ("question.lower() == 'x'", 1, "write lower(…)"),
        ("question.lower == 'x'", 1, "write lower(question)"),
        ("task is None", 9, "there is no null"),
        ("len(question, 1) > 0", 1, "len takes 1 argument"),
        ('matches(question, "(")', 19, "no regular expression"),
        ("matches(question, task)", 19, "must be text in quotes"),
        ("words ** 2 > 1", 1, "not part of the language"),
        ("__import__('os').system('true')", 1, "methods cannot be called"),
        ("(lambda: 1)() == 1", 2, "methods cannot be called"),
        ("[x for x in media for y in media] == []", 1, "goes over one list"),
        ("question[0:2] == 'x'", 1, "slices are not part"),
        ("task ==", 8, "invalid syntax"),
    ],
)
def test_mistakes_are_pointed_at(text: str, column: int, part: str):
    with pytest.raises(ConfigError) as error:
        parse_expression(text)
    message = str(error.value)
    assert part in message
    first, shown, mark = message.split("\n")
    assert shown == f"  {text}"
    if part != "methods cannot be called":
        assert f"column {column}:" in first
        assert mark.index("^") == column + 1


@pytest.mark.parametrize("text", ["", "  ", "1 " + "+ 1" * 5000, "(" * 300 + "1" + ")" * 300, "not " * 90 + "true"])
def test_what_is_empty_too_long_or_too_deep_is_refused(text: str):
    with pytest.raises(ConfigError):
        parse_expression(text)


def test_what_is_neither_true_nor_false_is_refused():
    with pytest.raises(ConfigError, match="neither true nor false"):
        value("words + 1")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abc.()[]{}<>=!+-*/%,:'\" 019_media", max_size=40))
def test_no_text_does_anything_but_give_a_verdict_or_an_error(text: str):
    result: Any
    try:
        result = value(text)
    except (ConfigError, Unfit):
        return
    assert isinstance(result, bool)


@pytest.mark.parametrize(
    "text", ["media[0].__class__ == 1", "[m.__class__ for m in media] == []", "metadata.__class__ == 1"]
)
def test_nothing_of_python_can_be_reached(text: str):
    with pytest.raises((ConfigError, Unfit)):
        value(text)
