"""From a config's words to a sampler, and what it says when a word is wrong."""

from __future__ import annotations

import pytest

from mmrl.curriculum.build import build_sampler, settings
from mmrl.curriculum.catalog import SAMPLERS
from mmrl.curriculum.shuffled import Shuffled
from mmrl.curriculum.variance_aware import VarianceAware
from mmrl.errors import ConfigError
from tests import toy

SAMPLES = [toy.choice_sample("s")]


def test_a_name_or_a_name_with_settings() -> None:
    assert isinstance(build_sampler("shuffled", SAMPLES, seed=0), Shuffled)
    built = build_sampler({"type": "variance_aware", "share": 1, "diversity": 0.2}, SAMPLES, seed=0)
    assert isinstance(built, VarianceAware)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("shufled", "Did you mean 'shuffled'"),
        ({"share": 0.5}, "unknown sampler ''"),
        ({"type": "shuffled", "share": 0.5}, "shuffled has no setting 'share'. It has: none"),
        ({"type": "variance_aware", "shares": 0.5}, "Did you mean 'share'"),
        ({"type": "hard_replay", "capacity": 0.5}, "expected a value of type int, got 0.5"),
        ({"type": "hard_replay", "never_solved": 1}, "expected a value of type bool, got 1"),
    ],
)
def test_mistakes_name_the_setting(spec: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_sampler(spec, SAMPLES, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SAMPLERS)
def test_settings_are_plain(name: str) -> None:
    assert {str(p.annotation) for p in settings(name).values()} <= {"float", "int", "bool", "str"}
