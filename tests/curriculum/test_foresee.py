"""Looking ahead tells what a sampler would hand out, and leaves it as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mmrl.curriculum.build import build_sampler
from mmrl.curriculum.catalog import SAMPLERS
from mmrl.curriculum.foresee import Foreseeing, foresee
from tests import toy

SAMPLES = [
    replace(toy.choice_sample(f"s{i}"), metadata={"pass_rate": (i % 5) / 4, "category": "abc"[i % 3]})
    for i in range(17)
]


@pytest.mark.parametrize("name", SAMPLERS)
def test_foreseen_samples_come_next_and_nothing_else_changes(name: str) -> None:
    looking, plain = (build_sampler(name, SAMPLES, seed=7) for _ in range(2))
    for step in range(6):
        foreseen = foresee(looking, 5)
        foresee(looking, 3)
        expected = plain.next(5)
        assert [s.id for s in foreseen] == [s.id for s in expected]
        assert [s.id for s in looking.next(5)] == [s.id for s in expected]
        scored = [toy.scored_lengths(s.id, [float(step % 2), 0.0], [2, 3]) for s in expected]
        scored = [
            replace(g, group=replace(g.group, prompt=replace(g.group.prompt, sample=s)))
            for g, s in zip(scored, expected, strict=True)
        ]
        looking.observe(scored)
        plain.observe(scored)
        assert looking.state() == plain.state()


def test_the_plain_sampler_looks_ahead_by_itself() -> None:
    assert isinstance(build_sampler("shuffled", SAMPLES, seed=1), Foreseeing)
