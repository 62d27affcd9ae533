"""The default engine: its log-probabilities are the policy's, its choices follow its distributions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmrl.policy.packed import pack, split_groups
from mmrl.policy.render import Renderer
from mmrl.rollout.engine import Sampling
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.tensors import pad_rows
from mmrl.types import FinishReason, Prompt
from tests import toy

SAMPLING = Sampling(group_size=4, max_tokens=24)


@pytest.fixture
def engine(tiny_model: toy.LoadedModel) -> TransformersEngine:
    return TransformersEngine(tiny_model.policy, tiny_model.processor.tokenizer, run_seed=0)


@pytest.fixture
def prompts(tiny_model: toy.LoadedModel, pictures: list[Path]) -> list[Prompt]:
    samples = [
        toy.choice_sample("one", pictures[:1]),
        toy.choice_sample("three", pictures[:3]),
        toy.choice_sample("none"),
    ]
    return Renderer(tiny_model.processor, tiny_model.policy.family, tiny_model.policy.config).render(samples)[0]


@pytest.mark.parametrize(
    "sampling", [SAMPLING, replace(SAMPLING, temperature=0.7, top_p=0.9, top_k=20)], ids=["plain", "cut"]
)
def test_policy_logprobs_are_those_of_the_packed_policy(
    prompts: list[Prompt], tiny_model: toy.LoadedModel, sampling: Sampling
) -> None:
    # Many tokens end a completion, so that rollouts finish at different times.
    tiny_model.policy.model.generation_config.eos_token_id = list(range(12, 448, 9))  # type: ignore[union-attr]
    engine = TransformersEngine(tiny_model.policy, tiny_model.processor.tokenizer, run_seed=0)
    groups = engine.generate(prompts, sampling, step=0)
    lengths = {len(r.token_ids) for g in groups for r in g.rollouts}
    assert len(lengths) > 2  # finished rows left the batch at different times
    policy = tiny_model.policy
    packed = pack(split_groups(groups, 10_000), policy.family, policy.config, pad_id=0)
    with torch.no_grad():
        outputs = policy(packed).logprobs[torch.argsort(packed.rows)]
    said = pad_rows([r.policy_logprobs for g in groups for r in g.rollouts], outputs.shape[1])
    assert torch.allclose(said, outputs, atol=1e-4)


def test_behaviour_is_the_policy_when_nothing_is_cut(engine: TransformersEngine, prompts: list[Prompt]) -> None:
    """Apart from the banned ids, whose probability is shared out."""
    for group in engine.generate(prompts, SAMPLING, step=0):
        for rollout in group.rollouts:
            gap = torch.tensor(rollout.behavior_logprobs) - torch.tensor(rollout.policy_logprobs)
            assert float(gap.min()) >= -1e-6
            assert float(gap.max()) < 0.1


def test_greedy_takes_the_likeliest_and_ignores_the_seed(engine: TransformersEngine, prompts: list[Prompt]) -> None:
    groups = engine.generate(prompts, replace(SAMPLING, temperature=0.0), step=0)
    assert all(len({r.token_ids for r in g.rollouts}) == 1 for g in groups)


def test_vision_placeholders_and_padding_ids_are_never_sampled(
    engine: TransformersEngine, prompts: list[Prompt], tiny_model: toy.LoadedModel
) -> None:
    config = tiny_model.policy.config
    with torch.no_grad():  # as likely as can be
        table = tiny_model.policy.family.token_embedding(tiny_model.policy.model).weight
        table[config.image_token_id] *= 50  # type: ignore[index,operator]
        table[config.video_token_id] *= -50  # type: ignore[index,operator]
    groups = engine.generate(prompts, replace(SAMPLING, group_size=8), step=0)
    written = {t for g in groups for r in g.rollouts for t in r.token_ids}
    assert not written & {config.image_token_id, config.video_token_id}


def test_a_stop_string_ends_the_completion_and_stays_in_it(engine: TransformersEngine, prompts: list[Prompt]) -> None:
    free = engine.generate(prompts, SAMPLING, step=0)
    text = free[0].rollouts[0].completion.text
    stop = text[5:7]
    groups = engine.generate(prompts, replace(SAMPLING, stop=(stop,)), step=0)
    rollout = groups[0].rollouts[0]
    assert stop in rollout.completion.text
    assert rollout.completion.finish_reason is FinishReason.STOP
    assert rollout.token_ids == free[0].rollouts[0].token_ids[: len(rollout.token_ids)]
    assert stop not in rollout.completion.text[:-4]


def test_streamed_pieces_are_the_text(engine: TransformersEngine, prompts: list[Prompt]) -> None:
    pieces: list[str] = []
    rollout = engine.stream(prompts[1], SAMPLING, on_text=pieces.append)
    assert "".join(pieces) == rollout.completion.text
    assert len(pieces) > 3
    [group] = engine.generate([prompts[1]], replace(SAMPLING, group_size=1), step=0)
    assert group.rollouts[0].token_ids == rollout.token_ids


def test_a_streamed_group_is_the_generated_one(engine: TransformersEngine, prompts: list[Prompt]) -> None:
    """Rollouts end at different tokens: each gets its own pieces, in order, also after others have left the batch."""
    sampling = replace(SAMPLING, group_size=3)
    texts = ["", "", ""]

    def add(index: int, piece: str) -> None:
        texts[index] += piece

    group = engine.stream_group(prompts[1], sampling, step=5, on_text=add)
    assert texts == [rollout.completion.text for rollout in group.rollouts]
    [generated] = engine.generate([prompts[1]], sampling, step=5)
    assert [r.token_ids for r in group.rollouts] == [r.token_ids for r in generated.rollouts]


def test_what_on_text_raises_ends_the_writing(engine: TransformersEngine, prompts: list[Prompt]) -> None:
    calls: list[str] = []

    def stop(piece: str) -> None:
        calls.append(piece)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.stream(prompts[1], SAMPLING, on_text=stop)
    assert len(calls) == 1


def test_generation_leaves_the_policy_as_it_was(
    engine: TransformersEngine, prompts: list[Prompt], tiny_model: toy.LoadedModel
) -> None:
    tiny_model.policy.train()
    engine.generate(prompts, SAMPLING, step=0)
    assert tiny_model.policy.training
    assert all(p.grad is None for p in tiny_model.policy.parameters())


def test_loading_weights_of_another_policy_changes_what_is_sampled(
    engine: TransformersEngine, prompts: list[Prompt], tiny_folder: Path
) -> None:
    from mmrl.policy.load import load_model

    before = engine.generate(prompts, SAMPLING, step=0)
    other = load_model(str(tiny_folder))
    with torch.no_grad():
        for parameter in other.policy.parameters():
            parameter.mul_(1.1)
    engine.load_weights(other.policy.model.named_parameters(), version=1)
    after = engine.generate(prompts, SAMPLING, step=0)
    expected = TransformersEngine(other.policy, other.processor.tokenizer, run_seed=0).generate(
        prompts, SAMPLING, step=0
    )
    assert [r.token_ids for g in after for r in g.rollouts] == [r.token_ids for g in expected for r in g.rollouts]
    assert [r.token_ids for g in after for r in g.rollouts] != [r.token_ids for g in before for r in g.rollouts]
