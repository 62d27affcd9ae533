"""The update of the torch backend: splits change nothing, schedules by hand, state continues exactly."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import FrozenReference
from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.optimizer import schedule
from mmrl.backend.torch_backend import TorchBackend
from mmrl.batch import Streams
from mmrl.errors import ConfigError
from mmrl.policy.load import LoadedModel
from mmrl.policy.render import Renderer
from mmrl.training.update import update
from mmrl.types import RolloutGroup, ScoredGroup
from tests import toy

SETTINGS = OptimizerSettings(learning_rate=1e-2, steps=10)


class Recording(TorchBackend):
    """Keeps the gradient of its last update: Adam's first step is a sign, which magnifies rounding."""

    gradient: torch.Tensor

    def optimizer_step(self) -> tuple[float, float]:
        self._finish_gradients()
        self.gradient = torch.cat([p.grad.flatten() for p in self.policy.parameters() if p.grad is not None])
        return super().optimizer_step()


def backend_of(model: LoadedModel, *, budget: int = 100_000, freeze: tuple[str, ...] = ()) -> Recording:
    reference = FrozenReference()
    return Recording(copy.deepcopy(model), SETTINGS, reference=reference, micro_batch_tokens=budget, freeze=freeze)


@pytest.fixture
def scored(tiny_model: LoadedModel, pictures: list[Path]) -> list[ScoredGroup]:
    """Three groups of four rollouts: a picture, two pictures, none."""
    samples = [toy.choice_sample(f"s{i}", p) for i, p in enumerate([pictures[:1], pictures[1:3], []])]
    prompts, _ = Renderer(tiny_model.processor, tiny_model.policy.family, tiny_model.policy.config).render(samples)
    groups = [toy.random_group(p, size=4, seed=i) for i, p in enumerate(prompts)]
    return [toy.scored(g, [1.2, 0.0, 0.2, 1.0 + 0.1 * i]) for i, g in enumerate(groups)]


def run_update(backend: TorchBackend, scored: list[ScoredGroup], *, minibatches: int = 1) -> dict[str, float]:
    groups: list[RolloutGroup] = [s.group for s in scored]
    reference = backend.outputs(groups, reference=True).logprobs
    old = backend.outputs(groups).logprobs if minibatches > 1 else None
    credited = GRPO.credit(scored, streams=Streams(ref_logprobs=reference, old_logprobs=old), max_tokens=16)
    return update(backend, GRPO, credited, minibatches=minibatches).metrics


def weights(backend: TorchBackend) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for _, value in backend.weights()])


def same_gradient(a: Recording, b: Recording) -> bool:
    return float((a.gradient - b.gradient).norm()) <= 1e-5 * float(a.gradient.norm())


@pytest.mark.parametrize("budget", [1, 80, 120])
def test_micro_batches_change_no_update(budget: int, tiny_model: LoadedModel, scored: list[ScoredGroup]) -> None:
    whole, split = backend_of(tiny_model), backend_of(tiny_model, budget=budget)
    assert len(split.micro_batches([s.group for s in scored])) > 1
    expected, found = run_update(whole, scored), run_update(split, scored)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name
    assert same_gradient(whole, split)


def test_order_of_groups_changes_no_update(tiny_model: LoadedModel, scored: list[ScoredGroup]) -> None:
    forth, back = backend_of(tiny_model), backend_of(tiny_model)
    run_update(forth, scored)
    run_update(back, scored[::-1])
    assert same_gradient(forth, back)


def test_first_update_is_on_policy_and_away_from_nothing(tiny_model: LoadedModel, scored: list[ScoredGroup]) -> None:
    metrics = run_update(backend_of(tiny_model), scored)
    assert metrics["policy/ratio_mean"] == 1.0
    assert metrics["loss/clip_fraction"] == 0.0
    assert metrics["policy/kl_mean"] == pytest.approx(0.0, abs=1e-9)
    assert metrics["optim/updates"] == 1.0


def test_several_updates_of_a_step_leave_the_old_policy_behind(
    tiny_model: LoadedModel, scored: list[ScoredGroup]
) -> None:
    metrics = run_update(backend_of(tiny_model), scored, minibatches=3)
    assert metrics["optim/updates"] == 3.0
    assert metrics["policy/ratio_max"] > 1.01
    assert metrics["policy/kl_mean"] > 1e-6


def test_reference_stays_while_the_policy_moves(tiny_model: LoadedModel, scored: list[ScoredGroup]) -> None:
    backend = backend_of(tiny_model)
    groups = [s.group for s in scored]
    before = backend.outputs(groups).logprobs
    run_update(backend, scored)
    assert torch.equal(backend.outputs(groups, reference=True).logprobs, before)
    assert not torch.allclose(backend.outputs(groups).logprobs, before, atol=1e-3)


def test_frozen_parts_do_not_move(tiny_model: LoadedModel, scored: list[ScoredGroup]) -> None:
    backend = backend_of(tiny_model, freeze=("vision", "projector"))
    before = {name: value.detach().clone() for name, value in backend.weights()}
    run_update(backend, scored)
    moved = {name for name, value in backend.weights() if not torch.equal(value, before[name])}
    assert moved
    assert not any(".visual." in name for name in moved)


def test_freezing_everything_is_a_mistake(tiny_model: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        backend_of(tiny_model, freeze=("vision", "projector", "language"))


def test_state_continues_exactly(tiny_model: LoadedModel, scored: list[ScoredGroup], tmp_path: Path) -> None:
    """Three updates in one go, or two, a save, and one more in a new backend: bit for bit."""
    from mmrl.policy.load import load_model

    straight = backend_of(tiny_model)
    for _ in range(3):
        run_update(straight, scored)
    first = backend_of(tiny_model)
    for _ in range(2):
        run_update(first, scored)
    first.save_model(tmp_path / "model")
    torch.save(first.state(), tmp_path / "state.pt")
    resumed = TorchBackend(
        load_model(str(tmp_path / "model")), SETTINGS, reference=FrozenReference(), micro_batch_tokens=100_000
    )
    resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    run_update(resumed, scored)
    assert torch.equal(weights(resumed), weights(straight))


@pytest.mark.parametrize(
    ("kind", "shares"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.7, 0.4, 0.1]),
        ("cosine", [0.5, 1.0, 1.0, 0.775, 0.325, 0.1]),
    ],
)
def test_schedules_by_hand(kind: str, shares: list[float]) -> None:
    """Two updates of warm-up, then from 1 to 0.1 over the remaining four."""
    settings = OptimizerSettings(
        learning_rate=1.0,
        steps=6,
        warmup_steps=2,
        schedule=kind,  # type: ignore[arg-type]
        final_fraction=0.1,
    )
    assert [schedule(settings, i) for i in range(6)] == pytest.approx(shares)


def moved_by(backend: TorchBackend, before: dict[str, torch.Tensor]) -> dict[str, float]:
    """The largest change of any number in each part of the model."""
    found: dict[str, float] = {}
    for name, value in backend.weights():
        part = "projector" if ".merger." in name else "vision" if ".visual." in name else "language"
        found[part] = max(found.get(part, 0.0), float((value.float() - before[name].float()).abs().max()))
    return found


def test_parts_learn_at_rates_of_their_own(tiny_model: LoadedModel, scored: list[ScoredGroup]) -> None:
    """Adam's first step moves a number by its learning rate, where the gradient is not nearly 0."""
    settings = replace(SETTINGS, part_learning_rates={"vision": 1e-4, "projector": 1e-3})
    backend = TorchBackend(copy.deepcopy(tiny_model), settings, reference=FrozenReference())
    before = {name: value.clone() for name, value in backend.weights()}
    run_update(backend, scored)
    moved = moved_by(backend, before)
    assert moved["vision"] == pytest.approx(1e-4, rel=0.01)
    assert moved["projector"] == pytest.approx(1e-3, rel=0.01)
    assert moved["language"] == pytest.approx(1e-2, rel=0.01)


def test_bfloat16_weights_are_the_rounding_of_masters_that_move(
    tiny_model: LoadedModel, scored: list[ScoredGroup]
) -> None:
    """Thirty updates of 1e-5 each are below what most bfloat16 weights can show at once, and are not lost."""
    model = copy.deepcopy(tiny_model)
    model.policy.to(torch.bfloat16)
    backend = TorchBackend(model, OptimizerSettings(learning_rate=1e-5, steps=30), reference=FrozenReference())
    begun = {name: value.clone() for name, value in backend.weights()}
    for _ in range(3):
        run_update(backend, scored)
    masters = backend.state()["masters"]
    assert masters.keys() == begun.keys()
    for name, value in backend.weights():
        assert value.dtype == torch.bfloat16
        assert torch.equal(masters[name].to(torch.bfloat16), value)
    moved = torch.cat([(masters[n] - begun[n].float()).abs().flatten() for n in begun])
    shown = torch.cat([(v.float() - begun[n].float()).abs().flatten() for n, v in backend.weights()])
    assert float((moved > 5e-6).float().mean()) > 3 * float((shown > 5e-6).float().mean())


def test_masters_are_in_the_state(tiny_folder: Path, scored: list[ScoredGroup], tmp_path: Path) -> None:
    """Resumed in bfloat16: weights from the model's files, what they round from the state, bit for bit."""
    from mmrl.policy.load import load_model

    model = load_model(str(tiny_folder), dtype=torch.bfloat16)
    first = TorchBackend(model, SETTINGS, reference=FrozenReference())
    run_update(first, scored)
    first.save_model(tmp_path / "model")
    torch.save(first.state(), tmp_path / "state.pt")
    run_update(first, scored)
    resumed = TorchBackend(
        load_model(str(tmp_path / "model"), dtype=torch.bfloat16), SETTINGS, reference=FrozenReference()
    )
    resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    run_update(resumed, scored)
    ours, theirs = (backend.state()["masters"] for backend in (resumed, first))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_eight_bit_adamw_learns_nearly_alike_and_resumes(
    tiny_model: LoadedModel, scored: list[ScoredGroup], tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    settings = replace(SETTINGS, optimizer="adamw_8bit")
    eight, plain = (
        TorchBackend(copy.deepcopy(tiny_model), one, reference=FrozenReference()) for one in (settings, SETTINGS)
    )
    for backend in (eight, plain):
        run_update(backend, scored)
        run_update(backend, scored)
    assert torch.nn.functional.cosine_similarity(weights(eight), weights(plain), dim=0) > 0.99
    kept = eight.state()["moments"]
    assert any(memory["state1"].dtype == torch.uint8 for memory in kept.values())
    torch.save(eight.state(), tmp_path / "state.pt")
    again = TorchBackend(copy.deepcopy(tiny_model), settings, reference=FrozenReference())
    again.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    found = again.state()["moments"]
    assert all(torch.equal(found[name]["state1"], memory["state1"]) for name, memory in kept.items())
    with pytest.raises(ConfigError, match="adamw_8bit"):
        plain.load_state(eight.state())
