"""Two ranks over gloo, at every ZeRO stage, against one process without DeepSpeed on the same global batch.

Every batch has its pictures and clips on one rank and only text on the other.
"""

from __future__ import annotations

import dataclasses
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl.policy.tiny import save_tiny_model
from mmrl.ranks import ALONE
from tests import toy
from tests.backend import two_ranks
from tests.backend.cases import ALGORITHMS, CASES, DECAYING, EIGHT_BIT, PLACES, STAGES, VARIANTS
from tests.backend.two_ranks import MEDIA, SETTINGS, Variant, pictures_then_text, run_ranks, two_steps
from tests.clips import write_clip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this build of torch has no gloo"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both ranks have done all cases."""
    pytest.importorskip("deepspeed")
    folder = tmp_path_factory.mktemp("ranks")
    toy.noise_pictures(folder)
    for i in range(2):
        write_clip(folder / f"{i}.mp4", 12 + i, width=64, height=64)
    save_tiny_model(
        folder / "model", layers=2, hidden_size=64, heads=2, key_value_heads=1, vision_hidden_size=64, seed=1
    )
    run_ranks(folder, "tests.backend.cases")
    return folder


@cache
def alone(folder: Path, variant: Variant, algorithm: str, media: str, minibatches: int) -> dict[str, Any]:
    """One process, plain torch."""
    plain = dataclasses.replace(variant, kind="torch", stage=0, offload=False, unread=False)
    return two_steps(folder, ALONE, variant=plain, algorithm=algorithm, media=media, minibatches=minibatches)


@cache
def alone_with_text(folder: Path) -> dict[str, Any]:
    return pictures_then_text(folder, ALONE, variant=dataclasses.replace(DECAYING, kind="torch"))


def expected(folder: Path, case: str) -> dict[str, Any]:
    given = CASES[case]
    assert isinstance(given, partial)
    keys = given.keywords
    variant = dataclasses.replace(keys["variant"], kind="torch", stage=0, offload=False, unread=False)
    return alone(folder, variant, keys["algorithm"], keys["media"], keys.get("minibatches", 1))


def same_update(found: dict[str, Any], wanted: dict[str, Any], *, within: float = 1e-5) -> None:
    """Metrics, what AdamW remembers of the gradients, weights and copies of the reference's rule."""
    for step, (ours, theirs) in enumerate(zip(found["metrics"], wanted["metrics"], strict=True)):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=within, abs=within), f"step {step}: {name}"
    assert found["state"]["updates"] == wanted["state"]["updates"] > 0
    for kind, theirs in (("weights", wanted["weights"]), *wanted["state"]["copies"].items()):
        ours = found["weights"] if kind == "weights" else found["state"]["copies"][kind]
        assert ours.keys() == theirs.keys()
        assert max(float((ours[n].float() - theirs[n].float()).abs().max()) for n in theirs) <= within, kind
    moments = wanted["state"]["moments"]
    assert found["state"]["moments"].keys() == moments.keys()
    for name, memory in moments.items():
        assert float(memory["step"]) == float(found["state"]["moments"][name]["step"])
        assert torch.allclose(found["state"]["moments"][name]["exp_avg"], memory["exp_avg"], atol=1e-7), name


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("media", MEDIA)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_ranks_update_like_one_process(algorithm: str, media: str, stage: int, folder: Path) -> None:
    case = f"{algorithm}-{media}-{stage}"
    same_update(two_ranks.result(folder, case), expected(folder, case))


@pytest.mark.parametrize(
    "case", [f"{name}-{stage}" for name in VARIANTS if "bfloat16" not in name for stage in PLACES.get(name, (3,))]
)
def test_settings_change_no_update(case: str, folder: Path) -> None:
    updates_a_step = 2 if case.startswith("minibatches") else 1  # rounding adds up with every update
    same_update(two_ranks.result(folder, case), expected(folder, case), within=1e-5 * updates_a_step)


def test_plain_torch_on_two_ranks_updates_like_one_process(folder: Path) -> None:
    same_update(two_ranks.result(folder, "torch"), expected(folder, "torch"))


def test_the_comparison_sees_a_lost_share(folder: Path) -> None:
    """One step fewer, or another batch, is not the same update."""
    found = two_ranks.result(folder, "grpo-mixed-3")
    with pytest.raises(AssertionError):
        same_update(found, expected(folder, "grpo-image-3"))
    with pytest.raises(AssertionError):
        same_update(found, expected(folder, "apo-mixed-3"))


@pytest.mark.parametrize("case", [*(f"text-{stage}" for stage in STAGES), "text-torch"])
def test_what_has_no_gradient_is_updated_like_one_process(case: str, folder: Path) -> None:
    """Text only on all ranks after pictures: the tower's momentum and weight decay go on, and count in no norm."""
    found = two_ranks.result(folder, case)
    wanted = alone_with_text(folder)
    same_update(found, wanted)
    assert found["state"]["updates"] == 4


@pytest.mark.parametrize("case", [*(f"bfloat16-{stage}" for stage in STAGES), "torch-bfloat16", "unread_bfloat16-3"])
def test_bfloat16_keeps_float32_masters(case: str, folder: Path) -> None:
    """Masters move by less than a bfloat16 weight can show, weights are their rounding, and gradients agree."""
    found = two_ranks.result(folder, case)
    wanted = expected(folder, case)
    masters = found["state"]["masters"]
    assert masters.keys() == wanted["state"]["masters"].keys()
    for name, master in masters.items():
        assert master.dtype == torch.float32
        if name in found["weights"]:
            assert torch.equal(master.to(torch.bfloat16), found["weights"][name]), name
        # Two steps of Adam move each number by about the learning rate at most.
        assert float((master - wanted["state"]["masters"][name]).abs().max()) <= 4.2 * SETTINGS.learning_rate, name
    moved = [float((m - m.to(torch.bfloat16).float()).abs().max()) for m in masters.values()]
    assert max(moved) > 0  # they hold what bfloat16 cannot
    norms = [[step["optim/grad_norm"] for step in run["metrics"]] for run in (found, wanted)]
    assert norms[0] == pytest.approx(norms[1], rel=0.03)


@pytest.mark.parametrize("case", ["resumed-3-1", "resumed-1-3", "resumed-2-0", "resumed-0-2", "resumed-lora"])
def test_a_checkpoint_loads_at_another_stage(case: str, folder: Path) -> None:
    """… and what one stage saved, another and one plain process go on from alike."""
    keys = CASES[case].keywords  # type: ignore[attr-defined]
    plain = dataclasses.replace(keys["variant"], kind="torch", stage=0)
    from tests.backend.cases import resumed

    wanted = resumed(folder, ALONE, of=keys["of"], variant=plain, algorithm=keys["algorithm"])
    same_update(two_ranks.result(folder, case), wanted)
    assert wanted["state"]["updates"] == 3


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_not_finite_updates_nothing(stage: int, folder: Path) -> None:
    """One rank's loss, then its gradients. The steps after are what they would have been."""
    found = two_ranks.result(folder, f"not_finite-{stage}")
    assert found["unchanged"]
    loss, gradient = found["skipped"]
    assert [what for what, _ in loss] == ["loss"]
    assert loss[0][1] == (2, 3, 4)  # the groups of the rank that spoilt it
    assert [what for what, _ in gradient] == ["gradient"]
    same_update(found, expected(folder, "grpo-mixed-0"))


def test_stage_3_leaves_a_rank_half_and_gives_back_the_whole(folder: Path) -> None:
    """Weights and the moving reference's copies; a model saved from shards is the model that was loaded."""
    found = two_ranks.result(folder, "whole-3")
    from mmrl.policy.load import load_model

    whole = sum(p.numel() for p in load_model(str(folder / "model")).policy.parameters())
    assert found["held"] == 0  # whole parameters
    assert found["copies"] <= 1.05 * whole  # two copies, half of each
    assert found["inside"] == whole
    assert found["after"] == 0
    assert found["same"]


def test_what_cannot_be_done_is_refused_with_a_way_out(folder: Path) -> None:
    assert "Take one of the two" in two_ranks.result(folder, "refused-8bit")


@pytest.mark.parametrize("stage", STAGES)
def test_a_moving_reference_follows_float32_masters(stage: int, folder: Path) -> None:
    """decay 0.5 after one update: the mean of what was and the masters, not of what was and their rounding."""
    found = two_ranks.result(folder, f"masters-{stage}")
    precise, masters = found["state"]["copies"]["precise"], found["state"]["masters"]
    off, rounded_off = 0.0, 0.0
    for name, before in found["before"].items():
        master = masters[name].detach()
        off = max(off, float((precise[name] - (before + master) / 2).abs().max()))
        rounding = master.to(torch.bfloat16).float()
        rounded_off = max(rounded_off, float((precise[name] - (before + rounding) / 2).abs().max()))
        assert torch.equal(found["state"]["copies"]["reference"][name], precise[name].to(torch.bfloat16)), name
    assert off <= 1e-7
    assert rounded_off > 1e-4


@pytest.mark.parametrize("stage", STAGES)
def test_a_rule_that_moves_the_policy_moves_its_masters(stage: int, folder: Path) -> None:
    """θ ← EMA after the second update: the masters are what the average was, in float32; weights their rounding."""
    found = two_ranks.result(folder, f"falls_back-{stage}")
    first, state = found["first"], found["state"]
    for name, master in state["masters"].items():
        assert torch.equal(found["weights"][name], master.to(torch.bfloat16)), name
        start = state["copies"]["reference"][name].float()
        assert torch.equal(state["copies"]["average"][name], start), name  # EMA ← start
        # Average after the first update, between start and the masters then; Adam's second step is at most the rate.
        average = first["copies"]["average"][name]
        assert torch.allclose(average, (start + first["masters"][name]) / 2, atol=1e-7), name
        assert float((master - average).abs().max()) <= 2.2 * SETTINGS.learning_rate, name
    moved = [float((m - m.to(torch.bfloat16).float()).abs().max()) for m in state["masters"].values()]
    assert max(moved) > 1e-4


@pytest.mark.parametrize("case", [*(f"8bit-{stage}" for stage in STAGES), "8bit-bfloat16"])
def test_eight_bits_resume_exactly(case: str, folder: Path) -> None:
    """The same ranks and stage go on with the very same numbers, whatever blocks the shards were cut into."""
    found = two_ranks.result(folder, case)
    straight, again = found["third"], found["again"]
    assert straight["metrics"] == again["metrics"]
    assert all(torch.equal(straight["weights"][n], again["weights"][n]) for n in straight["weights"])
    kept = found["state"]["pieces"]["held"] if case != "8bit-0" else [list(found["state"]["moments"].values())]
    assert any(memory["state1"].dtype == torch.uint8 for memory in kept[0])


@pytest.mark.parametrize("stage", STAGES)
def test_eight_bits_update_nearly_like_one_process(stage: int, folder: Path) -> None:
    """Blocks lie elsewhere, so that numbers are rounded otherwise; directions of the whole update agree."""
    found = two_ranks.result(folder, f"8bit-{stage}")
    wanted = alone(folder, EIGHT_BIT, "grpo_care", "mixed", 1)
    from mmrl.policy.load import load_model

    start = dict(load_model(str(folder / "model")).policy.model.named_parameters())
    moved = [torch.cat([(w["weights"][n] - start[n].detach()).flatten() for n in start]) for w in (found, wanted)]
    assert float(torch.nn.functional.cosine_similarity(moved[0], moved[1], dim=0)) > 0.98
    assert [m["optim/grad_norm"] for m in found["metrics"]] == pytest.approx(
        [m["optim/grad_norm"] for m in wanted["metrics"]], rel=0.02
    )


def test_eight_bits_go_on_at_another_stage(folder: Path) -> None:
    """… with what was written out, and one plain process with the same."""
    from tests.backend.cases import resumed

    straight = two_ranks.result(folder, "8bit-2")["third"]
    plain = resumed(
        folder, ALONE, of="8bit-2", variant=Variant(kind="torch", optimizer="adamw_8bit"), algorithm="grpo_care"
    )
    for found in (two_ranks.result(folder, "8bit-2-to-3"), plain):
        assert found["state"]["updates"] == 3
        moved = [
            torch.cat(
                [(w["weights"][n] - two_ranks.result(folder, "8bit-2")["weights"][n]).flatten() for n in w["weights"]]
            )
            for w in (found, straight)
        ]
        assert float(torch.nn.functional.cosine_similarity(moved[0], moved[1], dim=0)) > 0.98
