"""Engine against trainer: what is measured and how tokens are weighed, by hand and in the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmrl import build
from mmrl.algorithms.dr_grpo import DR_GRPO
from mmrl.algorithms.grpo import GRPO
from mmrl.batch import PolicyOutputs, Streams, Totals, TrainBatch
from mmrl.config.schema import Config
from mmrl.policy.load import load_model
from mmrl.progress import SilentProgress
from mmrl.rollout.engine import RolloutEngine, Sampling
from mmrl.traces.reader import TraceReader
from mmrl.training.loop import Trainer, train
from mmrl.training.metrics import metric, read_metrics, reproducible
from mmrl.training.mismatch import Correction, Masked, Truncated, corrected, mismatch, mismatch_metrics
from mmrl.types import Prompt, RolloutGroup
from tests import toy

# Of two completions, of two and three tokens. Differences 0.2, −0.3 | 1, −1 and, by a demonstration, none.
TRAINER = torch.tensor([[-1.0, -1.0, 0.0], [-0.5, -2.0, -0.7]])
ENGINE = torch.tensor([[-1.2, -0.7, 0.0], [-1.5, -1.0, math.nan]])
RATIOS = [1.221403, 0.740818, 2.718282, 0.367879]


def batch_of(engine: Tensor = ENGINE, old: Tensor | None = None) -> TrainBatch:
    group = toy.scored_lengths("two", [1, 0], [2, 3])
    batch = DR_GRPO.credit([group], streams=Streams(old_logprobs=old), max_tokens=4).batch
    return replace(batch, engine_logprobs=engine)


@pytest.mark.parametrize(
    ("correction", "weights", "share"),
    [
        (Truncated(cap=2.0), [[1.221403, 0.740818, 1.0], [2.0, 0.367879, 1.0]], 0.25),
        (Truncated(cap=1.0), [[1.0, 0.740818, 1.0], [1.0, 0.367879, 1.0]], 0.5),
        (Masked(floor=0.5, cap=2.0), [[1.221403, 0.740818, 1.0], [0.0, 0.0, 1.0]], 0.5),
        (Masked(floor=0.0, cap=3.0), [[1.221403, 0.740818, 1.0], [2.718282, 0.367879, 1.0]], 0.0),
    ],
    ids=str,
)
def test_weights_of_tokens(correction: Correction, weights: list[list[float]], share: float) -> None:
    found = mismatch(TRAINER, batch_of(), correction)
    assert found.weights is not None
    for row, expected in zip(found.weights.tolist(), weights, strict=True):
        assert row == pytest.approx(expected, abs=1e-6)
    metrics = mismatch_metrics(found.sums, found.maxima)
    assert metrics["policy/behavior_corrected_fraction"] == share


def test_what_is_measured_does_not_depend_on_the_correction() -> None:
    """Gaps 0.2, 0.3, 1, 1. Effective sample size 5.048382² / (4 · (1.491825 + 0.548812 + 7.389056 + 0.135335))."""
    assert sum(RATIOS) == pytest.approx(5.048382)
    for correction in (None, Truncated(cap=1.1), Masked()):
        found = mismatch(TRAINER, batch_of(), correction)
        metrics = mismatch_metrics(found.sums, found.maxima)
        assert found.sums["compared"] == 4
        assert metrics["policy/behavior_gap_mean"] == pytest.approx(0.625, abs=1e-6)
        assert metrics["policy/behavior_gap_max"] == pytest.approx(1.0, abs=1e-6)
        assert metrics["policy/behavior_ess"] == pytest.approx(0.666128, abs=1e-5)
        assert ("policy/behavior_corrected_fraction" in metrics) == (correction is not None)
        for name in metrics:
            metric(name)


def test_where_engine_and_trainer_agree_nothing_changes_at_all() -> None:
    for correction in (Truncated(), Masked()):
        found = mismatch(TRAINER, batch_of(TRAINER), correction)
        assert found.weights is not None
        assert found.weights.tolist() == [[1.0] * 3] * 2
        metrics = mismatch_metrics(found.sums, found.maxima)
        assert metrics["policy/behavior_ess"] == 1.0
        assert metrics["policy/behavior_corrected_fraction"] == 0.0


def test_a_step_of_demonstrations_measures_nothing() -> None:
    found = mismatch(TRAINER, batch_of(torch.full((2, 3), math.nan)), Truncated())
    assert found.weights is not None
    assert found.weights.tolist() == [[1.0] * 3] * 2
    assert mismatch_metrics(found.sums, found.maxima) == {}


def test_a_ratio_beyond_all_bounds_stays_a_number() -> None:
    """An engine that was certain to the contrary: 300 nats."""
    far = batch_of(torch.tensor([[-301.0, -1.0, 0.0], [-0.5, -2.0, -0.7]]))
    found = mismatch(TRAINER, far, Truncated())
    assert found.weights is not None
    assert found.weights[0].tolist() == [2.0, 1.0, 1.0]
    assert 0 < mismatch_metrics(found.sums, found.maxima)["policy/behavior_ess"] == pytest.approx(0.2, abs=1e-3)


def test_the_weight_is_fixed_for_the_step() -> None:
    """With several updates it is the old policy's ratio, however far the policy has moved meanwhile."""
    moved = TRAINER + 3.0
    first = mismatch(TRAINER, batch_of(old=TRAINER), Truncated())
    later = mismatch(moved, batch_of(old=TRAINER), Truncated())
    assert first.weights is not None
    assert later.weights is not None
    assert torch.equal(first.weights, later.weights)
    assert first.sums == later.sums


def test_it_scales_the_surrogate_s_gradient_and_nothing_else() -> None:
    """Dr. GRPO, on-policy: advantages ±0.5, divided by 2 completions of 4 tokens at most: 0.0625 a token."""
    logprobs = TRAINER.clone().requires_grad_()
    batch = batch_of()
    apart = mismatch(logprobs, batch, Truncated(cap=2.0))
    terms = DR_GRPO.loss(PolicyOutputs(logprobs=logprobs), corrected(batch, apart.weights), Totals.of(batch))
    terms.loss.backward()
    assert logprobs.grad is not None
    expected = [[-0.0625 * 1.221403, -0.0625 * 0.740818, 0.0], [0.0625 * 2.0, 0.0625 * 0.367879, 0.0625]]
    for row, wanted in zip(logprobs.grad.tolist(), expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-6)

    anchored = replace(batch, streams=Streams(ref_logprobs=TRAINER - 0.3))
    plain = GRPO.loss(PolicyOutputs(logprobs=TRAINER), anchored, Totals.of(batch))
    weighed = GRPO.loss(PolicyOutputs(logprobs=TRAINER), corrected(anchored, apart.weights), Totals.of(batch))
    assert weighed.divergence == plain.divergence > 0
    assert weighed.surrogate != plain.surrogate


def test_padding_and_the_choice_of_micro_batches_change_nothing() -> None:
    whole = mismatch(TRAINER, batch_of(), Truncated())
    assert whole.weights is not None
    for row in range(2):
        alone = mismatch(TRAINER[row : row + 1], batch_of().select(torch.tensor([row])), Truncated())
        assert alone.weights is not None
        assert torch.equal(alone.weights[0], whole.weights[row])


# ── in the loop ──


class Apart:
    """An engine that says of every token what another policy would: `by` nats more than its own."""

    def __init__(self, engine: RolloutEngine, by: Callable[[int], float]) -> None:
        self._engine = engine
        self._by = by

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        return [
            replace(
                group,
                rollouts=tuple(
                    replace(
                        rollout,
                        policy_logprobs=tuple(x + self._by(t) for t, x in enumerate(rollout.policy_logprobs)),
                    )
                    for rollout in group.rollouts
                ),
            )
            for group in self._engine.generate(prompts, sampling, step=step, sizes=sizes)
        ]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, version: int) -> None:
        self._engine.load_weights(weights, version=version)


@pytest.fixture
def make(tmp_path: Path, tiny_folder: Path, pictures: list[Path]) -> Callable[..., Trainer]:
    samples = [toy.choice_sample(f"s{i}", [pictures[i % 4]], answer="ABCD"[i % 4]) for i in range(4)]

    def trainer(name: str, **keys: Any) -> Trainer:
        config = config_of(tmp_path, tiny_folder, **keys)
        (tmp_path / name).mkdir()
        return build.build_trainer(
            config,
            run_dir=tmp_path / name,
            model=load_model(str(tiny_folder)),
            train=samples,
            validation=[],
            scorer=build.build_scorer(config, samples),
            progress=SilentProgress(),
        )

    return trainer


def config_of(
    folder: Path,
    model: Path,
    *,
    rollout: dict[str, Any] | None = None,
    backend: dict[str, Any] | None = None,
    **keys: Any,
) -> Config:
    return Config.model_validate(
        {
            "run": {"name": "toy", "folder": str(folder), "seed": 3},
            "model": {"path": str(model)},
            "data": {"train": "unused"},
            "rewards": {"default": [{"path": "tests.training.length_reward:short"}]},
            "algorithm": {"base": "grpo"},
            "rollout": {"prompts_per_step": 2, "group_size": 3, "max_tokens": 8, **(rollout or {})},
            "train": {"steps": 2, "learning_rate": 1e-3, **keys},
            "backend": backend or {},
        }
    )


def logged(trainer: Trainer) -> list[dict[str, float]]:
    return [reproducible(row) for row in read_metrics(trainer.run_dir / "metrics.jsonl")]


@pytest.mark.parametrize("minibatches", [1, 2])
def test_a_run_measures_corrects_and_traces(make: Callable[..., Trainer], minibatches: int) -> None:
    """Every other token of the engine's is 1 nat less likely than the trainer's: ratios e and 1."""
    trainer = make(f"apart{minibatches}", minibatches=minibatches, rollout={"correction": {"kind": "truncated"}})
    trainer = replace(trainer, engine=Apart(trainer.engine, lambda t: -1.0 if t % 2 else 0.0))
    train(trainer)
    for row in logged(trainer):
        groups = TraceReader(trainer.run_dir).read(int(row["step"])).groups
        weights = [r.streams["correction"] for group in groups for r in group.rollouts]
        odd = sum(t % 2 for w in weights for t in range(len(w)))
        count = sum(map(len, weights))
        for found in weights:
            assert found == pytest.approx([2.0 if t % 2 else 1.0 for t in range(len(found))], abs=1e-4)
        assert row["policy/behavior_gap_mean"] == pytest.approx(odd / count, abs=1e-4)
        assert row["policy/behavior_gap_max"] == pytest.approx(1.0, abs=1e-4)
        assert row["policy/behavior_corrected_fraction"] == pytest.approx(odd / count)
        share = (odd * math.e + count - odd) ** 2 / (count * (odd * math.e**2 + count - odd))
        assert row["policy/behavior_ess"] == pytest.approx(share, rel=1e-4)


def test_every_token_twice_as_likely_is_twice_the_gradient(make: Callable[..., Trainer]) -> None:
    """Truncated at 2 where the ratio is e everywhere: as the plain step with its gradient doubled."""
    plain, doubled = make("plain"), make("doubled", rollout={"correction": {"kind": "truncated", "cap": 2.0}})
    doubled = replace(doubled, engine=Apart(doubled.engine, lambda t: -1.0))
    algorithm = replace(DR_GRPO, filters=())
    for trainer in (plain, doubled):
        train(replace(trainer, algorithm=algorithm, settings=replace(trainer.settings, steps=1)))
    [one], [two] = logged(plain), logged(doubled)
    assert two["optim/grad_norm"] == pytest.approx(2 * one["optim/grad_norm"], rel=1e-4)
    assert "policy/behavior_corrected_fraction" not in one
    assert one["policy/behavior_ess"] == pytest.approx(1.0, abs=1e-6)


def test_the_policy_itself_is_not_corrected_unless_that_is_asked_for(tmp_path: Path) -> None:
    def correction(engine: str, **keys: Any) -> Correction | None:
        return build.build_correction(config_of(tmp_path, tmp_path, rollout={"engine": engine, "correction": keys}))

    assert correction("transformers") is None
    assert correction("vllm") == correction("vllm_server") == Truncated(cap=2.0)
    assert correction("transformers", kind="truncated", cap=3) == Truncated(cap=3.0)
    assert correction("vllm", kind="masked", floor=0.25) == Masked(floor=0.25, cap=2.0)
    assert correction("vllm", kind="none") is None


@pytest.mark.parametrize("keys", [{"kind": "sequence"}, {"cap": 0.5}, {"floor": 1.5}], ids=str)
def test_a_correction_that_cannot_leave_agreement_alone_is_refused(tmp_path: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="correction"):
        config_of(tmp_path, tmp_path, rollout={"correction": keys})
