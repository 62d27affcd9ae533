"""Every claim that comes with mmrl is sound; mistakes in one are said with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrl.claims.configs import as_run, check_configs, laid_over, settings_of, stage_settings
from mmrl.claims.load import find_claim, known_claims, load_claim
from mmrl.errors import ConfigError

CLAIMS = known_claims()


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_and_all_its_configs_are_sound(name: str) -> None:
    claim = load_claim(name)
    assert claim.seeds >= claim.rule.least_seeds, "a full run must be able to decide"
    assert claim.rule.confidence >= 0.95
    untrained = [arm for arm in claim.arms.values() if not arm.stages]
    assert untrained, "the cold start itself is among what is compared"


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_has_a_quick_form_that_decides_nothing(name: str) -> None:
    quick = as_run(load_claim(name, check=False), quick=True, seeds=None, changes={})
    check_configs(quick)
    assert quick.seeds < quick.rule.least_seeds


@pytest.mark.parametrize("name", CLAIMS)
def test_arms_get_the_same_budget(name: str) -> None:
    """RL arms of a claim take as many steps, of as many prompts and rollouts, unless the claim says why not."""
    claim = load_claim(name, check=False)
    budgets: dict[str, set[tuple[object, ...]]] = {}
    for arm_name, arm in claim.arms.items():
        stages = [stage_settings(claim, arm, stage) for stage in arm.stages if stage.learner == "rl"]
        if stages:
            steps = sum(settings["train"]["steps"] for settings in stages)
            asked = {(s["rollout"]["prompts_per_step"], s["rollout"]["group_size"]) for s in stages}
            budgets.setdefault(f"{steps} steps of {sorted(asked)}", set()).add((arm_name,))
    others = {arm for arms in list(budgets.values())[1:] for (arm,) in arms}
    assert all("budget" in claim.arms[str(arm)].says for arm in others), budgets


def test_settings_are_laid_over_each_other_as_config_files_are() -> None:
    merged = laid_over(
        {"train": {"steps": 5, "learning_rate": 1e-4}, "algorithm": {"base": "grpo", "filters": []}},
        {"train": {"steps": 7}, "algorithm": {"base": "apo"}},
        settings_of(["train.warmup_steps=2"]),
    )
    assert merged == {
        "train": {"steps": 7, "learning_rate": 1e-4, "warmup_steps": 2},
        "algorithm": {"base": "apo"},
    }


def test_quick_keeps_what_it_names_and_the_statements_about_it() -> None:
    claim = load_claim("clip_higher", check=False)
    quick = as_run(claim, quick=True, seeds=2, changes={"train": {"steps": 3}})
    assert quick.seeds == 2
    assert set(quick.arms) == set(claim.quick.arms)
    assert all({each.arm, each.against} <= set(quick.arms) for each in quick.verdict)
    assert all(stage.set["train"]["steps"] == 3 for arm in quick.arms.values() for stage in arm.stages)


def test_an_unknown_claim_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'clip_higher'"):
        find_claim("clip_highr")
    with pytest.raises(ConfigError, match=r"there is no claim nowhere\.yaml"):
        find_claim("nowhere.yaml")


def test_mistakes_are_said_together_and_with_their_place(tmp_path: Path) -> None:
    text = CLAIMS["clip_higher"].read_text(encoding="utf-8")
    path = tmp_path / "clip_higher.yaml"
    path.write_text(text.replace("arm: higher,", "arm: hihger,").replace("on: [test]", "on: [tset]"))
    with pytest.raises(ConfigError) as found:
        load_claim(path)
    assert "Did you mean 'higher'?" in str(found.value)
    assert "measures.accuracy.on" in str(found.value)
    path.write_text(text.replace("clip_high: 0.28", "clip_hihg: 0.28"))
    with pytest.raises(ConfigError, match="arm higher, stage 1 rl") as found:
        load_claim(path)
    assert "clip_hihg" in str(found.value)
    path.write_text(text.replace("margin: 0.03", "least: 0.03"))
    with pytest.raises(ConfigError, match="least belongs to higher and lower"):
        load_claim(path)
