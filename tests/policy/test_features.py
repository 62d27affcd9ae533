"""Visual features are encoded as rarely as they may be, and gradients do not notice."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmrl.algorithms.reference import FrozenReference
from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.torch_backend import TorchBackend
from mmrl.policy.features import FeatureStore
from mmrl.policy.policy import Policy
from mmrl.policy.render import Renderer
from mmrl.rollout.engine import Sampling
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.types import RolloutGroup, VisionItem
from tests import toy


def item(name: str, *values: float) -> VisionItem:
    return VisionItem(patches=torch.tensor(values)[:, None], grid=(1, 1, len(values)), digest=name)


class Tower:
    """Features are the patches times a weight; every call is written down."""

    def __init__(self) -> None:
        self.weight = torch.tensor(2.0, requires_grad=True)
        self.calls: list[list[str]] = []

    def __call__(self, media: Sequence[VisionItem]) -> list[Tensor]:
        self.calls.append([m.digest for m in media])
        together = torch.cat([m.patches for m in media])[None] * self.weight
        return list(together.split([len(m.patches) for m in media], dim=1))


def test_a_learning_tower_encodes_a_picture_of_several_micro_batches_once() -> None:
    tower, store = Tower(), FeatureStore()
    a, b, c = item("a", 1.0, 2.0), item("b", 3.0), item("c", 5.0)
    passes = [[a, b], [a], [c, a]]
    store.begin_pass([[m.digest for m in media] for media in passes])
    for media in passes:
        store.features(media, tower).square().sum().backward()
    owed = store.end_update()
    assert owed is not None
    owed.backward()
    assert tower.calls == [["a"], ["b"], ["c"]]  # a by itself: it must outlive its micro-batch's backward
    # Σ (w·x)² over what was shown: d/dw = 2·w·Σ x² = 4 · (3·(1 + 4) + 9 + 25)
    assert tower.weight.grad == pytest.approx(4 * (15 + 9 + 25))


def test_a_learning_tower_keeps_nothing_beyond_a_pass() -> None:
    tower, store = Tower(), FeatureStore()
    for _ in range(2):
        store.begin_pass([["a"], ["a"]])
        store.features([item("a", 1.0)], tower)
        store.features([item("a", 1.0)], tower)
        store.end_pass()
    assert tower.calls == [["a"], ["a"]]


def test_a_learning_tower_encodes_once_for_rollouts_and_update_as_far_as_there_is_room() -> None:
    tower, store = Tower(), FeatureStore()
    a, b, c = item("a", 1.0, 2.0), item("b", 3.0, 4.0), item("c", 5.0)
    store.begin_step(held_patches=3)  # a and c
    with torch.no_grad():  # rollouts, then the old pass
        sampled = store.features([a, b, c], tower)
        store.begin_pass([["a"], ["b"], ["c"]])
        store.features([b, a], tower)
        store.end_pass()
    assert tower.calls == [["a", "c"], ["b"], ["b"]]
    assert sampled.flatten().tolist() == [2.0, 4.0, 6.0, 8.0, 10.0]
    store.begin_pass([["a", "b"], ["c"]])
    for media in ([a, b], [c]):
        store.features(media, tower).square().sum().backward()
    owed = store.end_update()
    assert owed is not None
    owed.backward()
    assert tower.calls[3:] == [["b"]]
    # Σ (w·x)² over a, b and c: d/dw = 2·w·Σ x² = 4 · (1 + 4 + 9 + 16 + 25)
    assert tower.weight.grad == pytest.approx(4 * 55)
    with torch.no_grad():  # after the update the weights are others
        store.features([a], tower)
    assert tower.calls[-1] == ["a"]


def test_what_is_held_ends_with_the_step() -> None:
    tower, store = Tower(), FeatureStore()
    for _ in range(2):
        store.begin_step(held_patches=100)
        with torch.no_grad():
            store.features([item("a", 1.0)], tower)
    assert tower.calls == [["a"], ["a"]]


def test_bytes_of_the_towers_graph_grow_with_the_patches_as_foretold(tiny_model: toy.LoadedModel) -> None:
    policy = tiny_model.policy
    per_patch = policy.tower_bytes_per_patch()
    weights = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    kept: dict[int, int] = {}

    def note(saved: Tensor) -> Tensor:
        if saved.untyped_storage().data_ptr() not in weights:
            kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    inner: Any = policy.model
    patches = torch.randn(8 * 12, inner.model.visual.patch_embed.proj.weight[0].numel())
    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        out = policy.family.encode_vision(policy.model, patches, [(1, 8, 12)])
    assert out.requires_grad
    assert sum(kept.values()) == pytest.approx(96 * per_patch, rel=0.1)


def test_a_frozen_tower_encodes_once_until_it_is_told_to_forget() -> None:
    tower, store = Tower(), FeatureStore(frozen=True)
    a, b = item("a", 1.0), item("b", 4.0)
    for media in ([a], [b, a], [a, b]):
        store.begin_pass([[m.digest for m in media]])
        features = store.features(media, tower)
        assert not features.requires_grad
        assert features.flatten().tolist() == [2.0 * float(m.patches) for m in media]
        store.end_pass()
        assert store.end_update() is None
    assert tower.calls == [["a"], ["b"]]
    store.forget()
    store.features([a], tower)
    assert tower.calls[-1] == ["a"]


def test_frozen_features_are_bounded_in_bytes_and_the_oldest_goes_first() -> None:
    tower, store = Tower(), FeatureStore(frozen=True, capacity=8)  # two features of four bytes
    a, b, c = item("a", 1.0), item("b", 2.0), item("c", 3.0)
    for media in ([a], [b], [a], [c], [a], [b]):
        store.features(media, tower)
    assert tower.calls == [["a"], ["b"], ["c"], ["b"]]  # b was the least recently used when c came


class CountsPatches:
    """Counts the patches that go into a policy's tower."""

    def __init__(self, policy: Policy) -> None:
        self.patches = 0
        inner: Any = policy.model
        inner.model.visual.register_forward_pre_hook(self._count)

    def _count(self, _module: Any, arguments: tuple[Any, ...]) -> None:
        self.patches += len(arguments[0])


def step_of(backend: TorchBackend, engine: TransformersEngine, groups: list[RolloutGroup]) -> None:
    """The passes of one step: rollout, old, reference, update."""
    backend.begin_step()
    engine.generate([g.prompt for g in groups], Sampling(group_size=2, max_tokens=3), step=0)
    backend.outputs(groups)
    backend.outputs(groups, reference=True)
    for parts in backend.micro_batches(groups):
        out, _ = backend.forward(parts)
        backend.backward(out.logprobs.sum())
    backend.optimizer_step()


@pytest.mark.parametrize("budget", [100_000, 40])
def test_patches_encoded_in_a_step_are_at_their_bound(
    budget: int, tiny_model: toy.LoadedModel, pictures: list[Path]
) -> None:
    """Frozen: every picture once a step. Learning: once for rollout, old and update together, once by the reference."""
    samples = [toy.choice_sample(f"s{i}", p) for i, p in enumerate([pictures[:1], pictures[:2], []])]
    prompts, _ = Renderer(tiny_model.processor, tiny_model.policy.family, tiny_model.policy.config).render(samples)
    groups = [toy.random_group(p, size=4, seed=i) for i, p in enumerate(prompts)]
    shown = [m for p in prompts if p.vision is not None for m in p.vision.items()]
    bound = sum(len(m.patches) for m in {m.digest: m for m in shown}.values())
    for freeze, passes in ((("vision", "projector"), 1), ((), 2)):
        backend = TorchBackend(
            copy.deepcopy(tiny_model),
            OptimizerSettings(learning_rate=1e-3, steps=2),
            reference=FrozenReference(),
            freeze=freeze,
            micro_batch_tokens=budget,
        )
        counters = [CountsPatches(backend.policy)]
        if backend._reference is not None:
            counters.append(CountsPatches(backend._reference))
        step_of(backend, TransformersEngine(backend.policy, tiny_model.processor.tokenizer, run_seed=0), groups)
        assert sum(c.patches for c in counters) == passes * bound


@pytest.mark.parametrize("budget", [100_000, 40])
def test_gradients_through_features_of_the_rollouts_are_those_of_an_encoding_in_the_update(
    budget: int, tiny_model: toy.LoadedModel, pictures: list[Path]
) -> None:
    samples = [toy.choice_sample(f"s{i}", p) for i, p in enumerate([pictures[:1], pictures[:2], []])]
    prompts, _ = Renderer(tiny_model.processor, tiny_model.policy.family, tiny_model.policy.config).render(samples)
    groups = [toy.random_group(p, size=4, seed=i) for i, p in enumerate(prompts)]
    found = []
    for held in (True, False):
        backend = TorchBackend(
            copy.deepcopy(tiny_model), OptimizerSettings(learning_rate=1e-3, steps=2), micro_batch_tokens=budget
        )
        assert backend._held_patches > 1000
        if not held:
            backend._held_patches = 0
        counter = CountsPatches(backend.policy)
        backend.begin_step()
        engine = TransformersEngine(backend.policy, tiny_model.processor.tokenizer, run_seed=0)
        engine.generate(prompts, Sampling(group_size=2, max_tokens=3), step=0)
        for parts in backend.micro_batches(groups):
            out, _ = backend.forward(parts)
            backend.backward(out.logprobs.sum())
        backend._finish_gradients()
        gradients = {name: p.grad for name, p in backend.policy.named_parameters() if p.grad is not None}
        found.append((counter.patches, gradients))
    (once, ours), (twice, expected) = found
    assert twice == 2 * once
    assert ours.keys() == expected.keys()
    for name, gradient in ours.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-5 * float(expected[name].abs().max())), name
