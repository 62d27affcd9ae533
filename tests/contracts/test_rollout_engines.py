"""What every engine promises, run over every engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmrl.policy.packed import pack, split_groups
from mmrl.policy.render import Renderer
from mmrl.rollout.engine import RolloutEngine, Sampling
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.tensors import pad_rows
from mmrl.types import FinishReason, Prompt, RolloutGroup
from tests import toy
from tests.policy.prompts import KINDS, prompts_of

SAMPLING = Sampling(group_size=3, max_tokens=12)


Make = Callable[[int], RolloutEngine]


def scripted(request: pytest.FixtureRequest, model: toy.LoadedModel, seed: int) -> RolloutEngine:
    return ScriptedEngine(lambda sample, index: f"{sample.id} answers {index}"[: 8 + index], run_seed=seed)


def with_transformers(request: pytest.FixtureRequest, model: toy.LoadedModel, seed: int) -> RolloutEngine:
    return TransformersEngine(model.policy, model.processor.tokenizer, run_seed=seed)


def with_vllm(request: pytest.FixtureRequest, model: toy.LoadedModel, seed: int) -> RolloutEngine:
    from mmrl.rollout.vllm_engine import VllmEngine

    sampler = request.getfixturevalue("vllm_sampler")
    engine = VllmEngine(model.policy, model.processor.tokenizer, run_seed=seed, sampler=sampler)
    engine.load_weights(model.policy.model.named_parameters(), version=0)
    return engine


def with_servers(request: pytest.FixtureRequest, model: toy.LoadedModel, seed: int) -> RolloutEngine:
    from mmrl.rollout.vllm_server_engine import ServerSettings, VllmServerEngine

    engine = VllmServerEngine(
        model.policy,
        model.processor,
        request.getfixturevalue("vllm_servers"),
        run_seed=seed,
        vllm=toy.vllm_settings(),
        settings=ServerSettings(),
    )
    engine.load_weights(model.policy.model.named_parameters(), version=0)
    return engine


REAL_VLLM = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
SAMPLING_THE_POLICY = [
    with_transformers,
    pytest.param(with_vllm, marks=REAL_VLLM),
    pytest.param(with_servers, marks=REAL_VLLM),
]


@pytest.fixture(params=[scripted, *SAMPLING_THE_POLICY])
def make(request: pytest.FixtureRequest, tiny_model: toy.LoadedModel) -> Make:
    return lambda seed: request.param(request, tiny_model, seed)


@pytest.fixture(params=SAMPLING_THE_POLICY)
def make_real(request: pytest.FixtureRequest, tiny_model: toy.LoadedModel) -> Make:
    return lambda seed: request.param(request, tiny_model, seed)


@pytest.fixture
def prompts(tiny_model: toy.LoadedModel, pictures: list[Path]) -> list[Prompt]:
    samples = [
        toy.choice_sample("short", pictures[:1]),
        toy.choice_sample("long", pictures[:3], question="Which of these? " * 4),
        toy.choice_sample("text"),
    ]
    return Renderer(tiny_model.processor, tiny_model.policy.family, tiny_model.policy.config).render(samples)[0]


def test_one_group_per_prompt_in_order(make: Make, prompts: list[Prompt]) -> None:
    groups = make(0).generate(prompts, SAMPLING, step=0)
    assert [g.prompt for g in groups] == prompts
    assert [[r.index for r in g.rollouts] for g in groups] == [[0, 1, 2]] * 3


def test_sizes_are_per_prompt_and_leave_every_rollout_as_it_was(make: Make, prompts: list[Prompt]) -> None:
    even = make(0).generate(prompts, SAMPLING, step=0)
    uneven = make(0).generate(prompts, SAMPLING, step=0, sizes=[1, 4, 2])
    assert [len(g.rollouts) for g in uneven] == [1, 4, 2]
    for group, other in zip(uneven, even, strict=True):
        both = list(zip(group.rollouts, other.rollouts, strict=False))
        assert [a.token_ids for a, _ in both] == [b.token_ids for _, b in both]
        assert [a.seed for a, _ in both] == [b.seed for _, b in both]


def test_no_prompts_give_no_groups(make: Make) -> None:
    assert make(0).generate([], SAMPLING, step=0) == []


def test_rollouts_are_well_formed(make: Make, prompts: list[Prompt]) -> None:
    for group in make(0).generate(prompts, SAMPLING, step=0):
        for rollout in group.rollouts:
            count = len(rollout.token_ids)
            assert 1 <= count <= SAMPLING.max_tokens
            assert len(rollout.behavior_logprobs) == len(rollout.policy_logprobs) == count
            assert max(rollout.behavior_logprobs) <= 0
            assert rollout.completion.token_count == count
            assert rollout.completion.views == group.prompt.views
            assert not (rollout.truncated and count < SAMPLING.max_tokens)


def test_the_same_name_gives_the_same_rollout(make: Make, prompts: list[Prompt]) -> None:
    first = make(7).generate(prompts, SAMPLING, step=3)
    assert make(7).generate(prompts, SAMPLING, step=3) == first
    for changed in (make(8).generate(prompts, SAMPLING, step=3), make(7).generate(prompts, SAMPLING, step=4)):
        assert [r.seed for g in changed for r in g.rollouts] != [r.seed for g in first for r in g.rollouts]
    evaluation = make(7).generate(prompts, replace(SAMPLING, purpose="evaluation"), step=3)
    assert evaluation[0].rollouts[0].seed != first[0].rollouts[0].seed


def test_a_rollout_does_not_depend_on_its_batch(make: Make, prompts: list[Prompt]) -> None:
    together = make(1).generate(prompts, SAMPLING, step=0)
    for prompt, group in zip(prompts, together, strict=True):
        [alone] = make(1).generate([prompt], SAMPLING, step=0)
        assert [r.token_ids for r in alone.rollouts] == [r.token_ids for r in group.rollouts]
    more = make(1).generate(prompts[:1], replace(SAMPLING, group_size=5), step=0)[0].rollouts[:3]
    assert [r.token_ids for r in more] == [r.token_ids for r in together[0].rollouts]


def test_policy_version_is_stamped(make: Make, prompts: list[Prompt]) -> None:
    engine = make(0)
    engine.load_weights([], version=5)
    [group] = engine.generate(prompts[:1], SAMPLING, step=0)
    assert {r.policy_version for r in group.rollouts} == {5}


def test_cut_completions_say_so(make: Make, prompts: list[Prompt]) -> None:
    groups = make(0).generate(prompts, replace(SAMPLING, max_tokens=2), step=0)
    reasons = {r.completion.finish_reason for g in groups for r in g.rollouts if len(r.token_ids) == 2}
    assert FinishReason.LENGTH in reasons


def distance(groups: list[RolloutGroup], model: toy.LoadedModel) -> float:
    """Largest difference between what the engine says of the policy's log-probabilities and what training would."""
    policy = model.policy
    packed = pack(split_groups(groups, 10_000), policy.family, policy.config, pad_id=0)
    with torch.no_grad():
        ours = policy(packed).logprobs[torch.argsort(packed.rows)]
    said = pad_rows([r.policy_logprobs for g in groups for r in g.rollouts], ours.shape[1])
    return float((said - ours).abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_the_trained_policy_s(make_real: Make, tiny_model: toy.LoadedModel, kind: str) -> None:
    engine = make_real(0)
    shown = prompts_of(kind, tiny_model)
    for sampling in (SAMPLING, replace(SAMPLING, temperature=0.7, top_p=0.9, top_k=20)):
        assert distance(engine.generate(shown, sampling, step=0), tiny_model) < 1e-4


def test_behavior_is_the_distribution_that_was_drawn_from(
    make_real: Make, prompts: list[Prompt], tiny_model: toy.LoadedModel
) -> None:
    """Plain sampling shares out the banned ids' probability; with top-k 1 whatever is drawn was certain."""
    engine = make_real(0)
    for group in engine.generate(prompts, SAMPLING, step=0):
        for rollout in group.rollouts:
            more = torch.tensor(rollout.behavior_logprobs) - torch.tensor(rollout.policy_logprobs)
            assert float(more.min()) > -1e-5
            assert 1e-4 < float(more.max()) < 0.1
    for group in engine.generate(prompts, replace(SAMPLING, top_k=1), step=0):
        assert max(abs(x) for r in group.rollouts for x in r.behavior_logprobs) < 1e-6
        assert len({r.token_ids for r in group.rollouts}) == 1


def test_greedy_takes_the_likeliest(make_real: Make, prompts: list[Prompt]) -> None:
    engine = make_real(0)
    greedy = engine.generate(prompts, replace(SAMPLING, temperature=0.0), step=0)
    certain = engine.generate(prompts, replace(SAMPLING, top_k=1), step=0)
    assert [r.token_ids for g in greedy for r in g.rollouts] == [r.token_ids for g in certain for r in g.rollouts]


def test_new_weights_are_sampled_from_with_nothing_left_of_the_old(
    make_real: Make, prompts: list[Prompt], tiny_model: toy.LoadedModel
) -> None:
    """The prompts were seen before: their keys, values and pictures are cached, of the old weights."""
    engine = make_real(0)
    before = engine.generate(prompts, SAMPLING, step=0)
    with torch.no_grad():
        for n, parameter in enumerate(tiny_model.policy.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n))
            parameter.add_(0.1 * parameter.std().nan_to_num(0.1) * noise)
    engine.load_weights(tiny_model.policy.model.named_parameters(), version=1)
    after = engine.generate(prompts, SAMPLING, step=0)
    assert {r.policy_version for g in after for r in g.rollouts} == {1}
    assert distance(after, tiny_model) < 1e-4 < distance(before, tiny_model)


def test_ends_are_told_apart(make_real: Make, prompts: list[Prompt], tiny_model: toy.LoadedModel) -> None:
    """An end token or a stop string that was written is STOP, whether or not it was the last token allowed."""
    engine = make_real(0)
    end = tiny_model.processor.tokenizer.eos_token_id
    with torch.no_grad():  # an end now and then
        table = tiny_model.policy.family.token_embedding(tiny_model.policy.model).weight
        table[end] *= 6  # type: ignore[index,operator]
    engine.load_weights(tiny_model.policy.model.named_parameters(), version=1)
    groups = engine.generate(prompts, replace(SAMPLING, group_size=24), step=0)
    rollouts = [r for g in groups for r in g.rollouts]
    for rollout in rollouts:
        assert (rollout.token_ids[-1] == end) == (rollout.completion.finish_reason is FinishReason.STOP)
        assert end not in rollout.token_ids[:-1]
    assert {r.truncated for r in rollouts} == {True, False}
    whole = max(rollouts, key=lambda r: len(r.completion.text))
    stop = whole.completion.text[3:5]
    [cut] = [
        r
        for g in engine.generate(prompts, replace(SAMPLING, group_size=24, stop=(stop,)), step=0)
        for r in g.rollouts
        if r.seed == whole.seed
    ]
    assert cut.completion.finish_reason is FinishReason.STOP
    assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]
    assert stop in cut.completion.text
    assert len(cut.token_ids) < len(whole.token_ids)


def test_what_stands_for_media_is_never_sampled(
    make_real: Make, prompts: list[Prompt], tiny_model: toy.LoadedModel
) -> None:
    config = tiny_model.policy.config
    engine = make_real(0)
    with torch.no_grad():  # as likely as can be
        table = tiny_model.policy.family.token_embedding(tiny_model.policy.model).weight
        table[config.image_token_id] *= 50  # type: ignore[index,operator]
        table[config.video_token_id] *= -50  # type: ignore[index,operator]
    engine.load_weights(tiny_model.policy.model.named_parameters(), version=1)
    for sampling in (SAMPLING, replace(SAMPLING, top_k=5, temperature=0.5)):
        groups = engine.generate(prompts, sampling, step=0)
        written = {t for g in groups for r in g.rollouts for t in r.token_ids}
        assert not written & {config.image_token_id, config.video_token_id}
