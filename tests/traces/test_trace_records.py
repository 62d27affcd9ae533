"""What is written is what is read."""

import dataclasses
import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.traces.codec import decode, encode_line
from mmrl.traces.record import TraceDrop, TraceGroup, TraceRollout
from mmrl.types import (
    Answer,
    Completion,
    Dropped,
    FinishReason,
    Media,
    MediaView,
    RewardResult,
    RewardStatus,
    Rollout,
    Sample,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
six_digits = finite.map(lambda value: float(f"{value:.6g}")).filter(math.isfinite)
text = st.text(st.characters(), max_size=8)  # any code point, lone surrogates and line separators included
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
mappings = st.dictionaries(text, json_values, max_size=2)
maybe = st.none() | finite

media = st.builds(
    Media,
    type=st.sampled_from(["image", "video", "frames"]),
    path=st.none() | text,
    paths=st.lists(text, max_size=2).map(tuple),
    start=maybe,
    end=maybe,
    fps=maybe,
    max_frames=st.none() | st.integers(1, 64),
)
answers = st.builds(
    Answer,
    type=st.sampled_from(["choice", "choices", "number", "boxes"]),
    value=text | finite | st.lists(st.tuples(finite, finite, finite, finite), max_size=2).map(tuple),
    unit=st.none() | text,
    space=st.sampled_from(["pixels", "unit", "norm1000"]),
)
samples = st.builds(
    Sample,
    id=text,
    task=text,
    question=text,
    answer=answers,
    media=st.lists(media, max_size=2).map(tuple),
    choices=st.lists(text, max_size=2).map(tuple),
    metadata=mappings,
)
views = st.builds(
    MediaView,
    width=st.integers(1, 9999),
    height=st.integers(1, 9999),
    spoken_width=finite,
    spoken_height=finite,
    seconds=st.lists(finite, max_size=2).map(tuple),
    frames=st.lists(st.integers(0, 99), max_size=2).map(tuple),
    reader=text,
    reader_note=text,
)
results = st.builds(
    RewardResult,
    value=finite,
    weight=finite,
    status=st.sampled_from(RewardStatus),
    details=mappings,
    seconds=six_digits,
)
drops = st.builds(
    Dropped,
    sample_id=text,
    stage=st.sampled_from(["media", "rollout", "reward", "filter", "view"]),
    reason=text,
    detail=text,
)


@st.composite
def groups(draw: st.DrawFn) -> TraceGroup:
    seen = tuple(draw(st.lists(views, max_size=2)))
    dropped = draw(st.none() | drops)
    tokens = draw(st.lists(st.integers(0, 200_000), min_size=1, max_size=3))
    per_token = st.lists(six_digits, min_size=len(tokens), max_size=len(tokens)).map(tuple)
    rollout = st.builds(
        TraceRollout,
        rollout=st.builds(
            Rollout,
            completion=st.builds(
                Completion,
                text=text,
                token_count=st.none() | st.integers(0, 99),
                finish_reason=st.sampled_from(FinishReason),
                views=st.just(seen),
            ),
            token_ids=st.just(tuple(tokens)),
            behavior_logprobs=per_token,
            policy_logprobs=per_token,
            index=st.integers(0, 15),
            seed=st.integers(0, 2**63 - 1),
            policy_version=st.integers(0, 999),
            origin=st.sampled_from(["policy", "ground_truth"]),
        ),
        rewards=st.dictionaries(text, results, max_size=2),
        total=finite,
        accuracy=finite,
        format=finite,
        advantage=finite if dropped is None else st.none(),
        streams=st.dictionaries(text, per_token, max_size=2),
    )
    return TraceGroup(
        step=draw(st.integers(0, 10**7)),
        sample=draw(samples),
        prompt_text=draw(text),
        prompt_tokens=draw(st.integers(0, 99)),
        views=seen,
        rollouts=tuple(draw(st.lists(rollout, max_size=2))),
        dropped=dropped,
    )


@settings(deadline=None)  # a busy machine is no defect
@given(groups() | st.builds(TraceDrop, step=st.integers(0, 10**7), dropped=drops))
def test_every_field_survives_writing_and_reading(record: TraceGroup | TraceDrop) -> None:
    line = encode_line(record)
    assert line.count(b"\n") == 1
    assert decode(json.loads(line)) == record


def test_log_probabilities_keep_six_digits_and_rewards_all_of_them() -> None:
    third = 1 / 3
    rollout = TraceRollout(
        rollout=Rollout(
            completion=Completion(text="x"),
            token_ids=(1, 2),
            behavior_logprobs=(-third, -1e-9 * third),
            policy_logprobs=(-math.inf, math.nan),
            index=0,
            seed=0,
            policy_version=0,
        ),
        rewards={"r": RewardResult(value=third, weight=math.nan, details={"tuple": (1, math.inf), "odd": {1, 2}})},
        total=third,
        accuracy=0.0,
        format=1.0,
        advantage=math.inf,
    )
    sample = Sample(id="s", task="t", question="q", answer=Answer(type="number", value=1.0))
    group = TraceGroup(step=0, sample=sample, prompt_text="", prompt_tokens=1, views=(), rollouts=(rollout,))
    line = encode_line(group)
    json.loads(line, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(f"{name} is not JSON")))
    read = decode(json.loads(line))
    assert isinstance(read, TraceGroup)
    (back,) = read.rollouts
    assert back.rollout.behavior_logprobs == (-0.333333, -3.33333e-10)
    assert all(math.isnan(value) for value in back.rollout.policy_logprobs)
    assert back.total == third
    assert back.rewards["r"].value == third
    assert math.isnan(back.rewards["r"].weight)
    assert back.rewards["r"].details == {"tuple": [1, None], "odd": [1, 2]}
    assert back.advantage is not None
    assert math.isnan(back.advantage)


def test_every_field_of_the_record_is_covered_by_the_round_trip() -> None:
    """A field added to a type must be added to the codec: equality above only sees fields that are drawn."""
    drawn = {Media: media, Answer: answers, Sample: samples, MediaView: views, RewardResult: results, Dropped: drops}
    for kind, strategy in drawn.items():
        names = {field.name for field in dataclasses.fields(kind)}
        described = repr(strategy)
        assert all(f"{name}=" in described for name in names), (kind, names)
