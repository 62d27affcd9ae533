"""What every engine promises, run over every engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mmrl.policy.render import Renderer
from mmrl.rollout.engine import RolloutEngine, Sampling
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.types import FinishReason, Prompt
from tests import toy

SAMPLING = Sampling(group_size=3, max_tokens=12)


def scripted(model: toy.LoadedModel, seed: int) -> RolloutEngine:
    return ScriptedEngine(lambda sample, index: f"{sample.id} answers {index}"[: 8 + index], run_seed=seed)


def with_transformers(model: toy.LoadedModel, seed: int) -> RolloutEngine:
    return TransformersEngine(model.policy, model.processor.tokenizer, run_seed=seed)


ENGINES: dict[str, Callable[[toy.LoadedModel, int], RolloutEngine]] = {
    "scripted": scripted,
    "transformers": with_transformers,
}


@pytest.fixture(params=ENGINES)
def make(request: pytest.FixtureRequest, tiny_model: toy.LoadedModel) -> Callable[[int], RolloutEngine]:
    return lambda seed: ENGINES[request.param](tiny_model, seed)


@pytest.fixture
def prompts(tiny_model: toy.LoadedModel, pictures: list[Path]) -> list[Prompt]:
    samples = [
        toy.choice_sample("short", pictures[:1]),
        toy.choice_sample("long", pictures[:3], question="Which of these? " * 4),
        toy.choice_sample("text"),
    ]
    return Renderer(tiny_model.processor, tiny_model.policy.family, tiny_model.policy.config).render(samples)[0]


def test_one_group_per_prompt_in_order(make: Callable[[int], RolloutEngine], prompts: list[Prompt]) -> None:
    groups = make(0).generate(prompts, SAMPLING, step=0)
    assert [g.prompt for g in groups] == prompts
    assert [[r.index for r in g.rollouts] for g in groups] == [[0, 1, 2]] * 3


def test_sizes_are_per_prompt_and_leave_every_rollout_as_it_was(
    make: Callable[[int], RolloutEngine], prompts: list[Prompt]
) -> None:
    even = make(0).generate(prompts, SAMPLING, step=0)
    uneven = make(0).generate(prompts, SAMPLING, step=0, sizes=[1, 4, 2])
    assert [len(g.rollouts) for g in uneven] == [1, 4, 2]
    for group, other in zip(uneven, even, strict=True):
        both = list(zip(group.rollouts, other.rollouts, strict=False))
        assert [a.token_ids for a, _ in both] == [b.token_ids for _, b in both]
        assert [a.seed for a, _ in both] == [b.seed for _, b in both]


def test_no_prompts_give_no_groups(make: Callable[[int], RolloutEngine]) -> None:
    assert make(0).generate([], SAMPLING, step=0) == []


def test_rollouts_are_well_formed(make: Callable[[int], RolloutEngine], prompts: list[Prompt]) -> None:
    for group in make(0).generate(prompts, SAMPLING, step=0):
        for rollout in group.rollouts:
            count = len(rollout.token_ids)
            assert 1 <= count <= SAMPLING.max_tokens
            assert len(rollout.behavior_logprobs) == len(rollout.policy_logprobs) == count
            assert max(rollout.behavior_logprobs) <= 0
            assert rollout.completion.token_count == count
            assert rollout.completion.views == group.prompt.views
            assert not (rollout.truncated and count < SAMPLING.max_tokens)


def test_the_same_name_gives_the_same_rollout(make: Callable[[int], RolloutEngine], prompts: list[Prompt]) -> None:
    first = make(7).generate(prompts, SAMPLING, step=3)
    assert make(7).generate(prompts, SAMPLING, step=3) == first
    for changed in (make(8).generate(prompts, SAMPLING, step=3), make(7).generate(prompts, SAMPLING, step=4)):
        assert [r.seed for g in changed for r in g.rollouts] != [r.seed for g in first for r in g.rollouts]
    evaluation = make(7).generate(prompts, replace(SAMPLING, purpose="evaluation"), step=3)
    assert evaluation[0].rollouts[0].seed != first[0].rollouts[0].seed


def test_a_rollout_does_not_depend_on_its_batch(make: Callable[[int], RolloutEngine], prompts: list[Prompt]) -> None:
    together = make(1).generate(prompts, SAMPLING, step=0)
    for prompt, group in zip(prompts, together, strict=True):
        [alone] = make(1).generate([prompt], SAMPLING, step=0)
        assert [r.token_ids for r in alone.rollouts] == [r.token_ids for r in group.rollouts]
    more = make(1).generate(prompts[:1], replace(SAMPLING, group_size=5), step=0)[0].rollouts[:3]
    assert [r.token_ids for r in more] == [r.token_ids for r in together[0].rollouts]


def test_policy_version_is_stamped(make: Callable[[int], RolloutEngine], prompts: list[Prompt]) -> None:
    engine = make(0)
    engine.load_weights([], version=5)
    [group] = engine.generate(prompts[:1], SAMPLING, step=0)
    assert {r.policy_version for r in group.rollouts} == {5}


def test_cut_completions_say_so(make: Callable[[int], RolloutEngine], prompts: list[Prompt]) -> None:
    groups = make(0).generate(prompts, replace(SAMPLING, max_tokens=2), step=0)
    reasons = {r.completion.finish_reason for g in groups for r in g.rollouts if len(r.token_ids) == 2}
    assert FinishReason.LENGTH in reasons
