"""Blackened pictures: how much, which, what black is, and that the policy reads them otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.torch_backend import TorchBackend
from mmrl.batch import PolicyOutputs, Streams, TrainBatch
from mmrl.objective.regularizer import PerceptionGain
from mmrl.policy.load import LoadedModel
from mmrl.policy.masking import black_patch, blackened
from mmrl.policy.render import Renderer
from mmrl.training.streams import StepStreams
from mmrl.types import Prompt
from tests import toy


def prompt_of(model: LoadedModel, picture: Path) -> Prompt:
    policy = model.policy
    [prompt], _ = Renderer(model.processor, policy.family, policy.config).render([toy.choice_sample("s", [picture])])
    return prompt


def test_black_is_what_a_black_picture_becomes(tiny_model: LoadedModel, tmp_path: Path) -> None:
    Image.new("RGB", (84, 84)).save(tmp_path / "black.png")
    vision = prompt_of(tiny_model, tmp_path / "black.png").vision
    assert vision is not None
    assert torch.allclose(vision.patches, black_patch(tiny_model.processor).expand_as(vision.patches), atol=1e-6)


def test_about_the_asked_share_of_patches_is_black_the_same_for_the_same_seed(
    tiny_model: LoadedModel, pictures: list[Path]
) -> None:
    prompt, black = prompt_of(tiny_model, pictures[1]), black_patch(tiny_model.processor)
    made = [blackened(prompt, fraction=0.6, seed=seed, black=black).vision for seed in (1, 1, 2)]
    assert prompt.vision is not None
    assert made[0] is not None
    assert made[1] is not None
    assert made[2] is not None
    assert torch.equal(made[0].patches, made[1].patches)
    assert made[0].digests == made[1].digests
    assert not torch.equal(made[0].patches, made[2].patches)
    assert len({*prompt.vision.digests, *made[0].digests, *made[2].digests}) == 3
    dark = (made[0].patches == black).all(dim=1)
    assert float(dark.float().mean()) == pytest.approx(0.6, abs=0.2)
    assert torch.equal(made[0].patches[~dark], prompt.vision.patches[~dark])
    assert blackened(toy.text_prompt("t"), fraction=0.6, seed=1, black=black) == toy.text_prompt("t")


def test_the_stream_is_the_policy_s_under_the_blackened_picture(tiny_model: LoadedModel, pictures: list[Path]) -> None:
    settings = OptimizerSettings(learning_rate=1e-3, steps=1)
    backend = TorchBackend(tiny_model, settings, reference=ALGORITHMS["papo"].reference)
    group = toy.random_group(prompt_of(tiny_model, pictures[1]), size=3, seed=0)
    black = black_patch(tiny_model.processor)

    def blacken(prompt: Prompt, fraction: float, seed: int) -> Prompt:
        return blackened(prompt, fraction=fraction, seed=seed, black=black)

    algorithm = ALGORITHMS["papo"]
    assert algorithm.masked_fraction == 0.6
    made = StepStreams(backend, algorithm, minibatches=1, decode=str, blacken=blacken)
    streams = made.assemble([group])
    assert streams.masked_logprobs is not None
    assert streams.ref_logprobs is not None
    clear = backend.outputs([group]).logprobs
    assert float((streams.masked_logprobs - clear).abs().max()) > 1e-4


def test_the_gain_by_hand() -> None:
    """d = −0.3 and 0.3: k3 = 0.040818 and 0.049859; far away the bounds act; without the stream it is 0."""
    policy = torch.tensor([[-1.0, -1.0, -30.0]])
    masked = torch.tensor([[-1.3, -0.7, -1.0]])
    batch = toy_batch(Streams(masked_logprobs=masked))
    found = PerceptionGain(coef=0.01)(PolicyOutputs(logprobs=policy), batch)
    assert found[0].tolist() == pytest.approx([-0.00040818, -0.00049859, -0.1], abs=1e-7)
    assert PerceptionGain()(PolicyOutputs(logprobs=policy), toy_batch(Streams())).abs().max() == 0


def toy_batch(streams: Streams) -> TrainBatch:
    group = toy.scored(toy.random_group(toy.text_prompt("g"), size=1, seed=0, longest=1), [1.0])
    return replace(ALGORITHMS["dr_grpo"].credit([group], streams=Streams(), max_tokens=3).batch, streams=streams)
