"""What a config takes over from its data recipe."""

from pathlib import Path

import pytest

from mmrl.config.load import dump_config, load_config
from mmrl.config.recipe_settings import settings_in_words
from mmrl.errors import ConfigError

RECIPE = """\
name: mine
builder: digits
splits: {train: 9, test: 1}
prompt: {mode: answer}
rewards:
  choice: [{name: choice, weight: 0.75}, {name: format, weight: 0.25, options: {tags: [answer]}}]
"""
RUN = "run: {name: mini}\nmodel: {tiny: {}}\ndata: {recipe: mine.yaml}\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    return tmp_path / "run.yaml"


def test_rewards_and_prompt_mode_are_the_recipes_where_the_config_names_none(run: Path):
    run.write_text(RUN + "prompt: {system: Be brief.}\n")
    config = load_config(run)
    assert config.prompt.mode == "answer"
    assert config.prompt.system == "Be brief."
    assert [(r.name, r.weight) for r in config.rewards["choice"]] == [("choice", 0.75), ("format", 0.25)]
    assert settings_in_words(config) == "rewards and prompt mode (answer): as the recipe mine says"
    dumped = run.with_name("dumped.yaml")
    dumped.write_text(dump_config(config))
    assert load_config(dumped) == config


def test_the_configs_own_win_one_by_one_and_that_is_said(run: Path):
    run.write_text(RUN + "rewards: {default: [{name: choice}]}\n")
    config = load_config(run)
    assert set(config.rewards) == {"default"}
    assert config.prompt.mode == "answer"
    assert settings_in_words(config) == "rewards: the config's own, not those of the recipe mine"
    run.write_text(RUN + "prompt: {mode: think_answer}\nrewards: {default: [{name: choice}]}\n")
    config = load_config(run)
    assert config.prompt.mode == "think_answer"
    assert "rewards and prompt mode (think_answer, not answer): the config's own" in settings_in_words(config)


def test_overrides_change_the_recipes_settings_and_may_name_the_recipe(run: Path):
    run.write_text(RUN.replace("mine.yaml", "digits"))
    config = load_config(run, [f"data.recipe={run.with_name('mine.yaml')}", "rewards.choice.0.weight=0.5"])
    assert [r.weight for r in config.rewards["choice"]] == [0.5, 0.25]
    assert "the config's own" in settings_in_words(config)


def test_null_gives_inherited_rewards_back_to_the_recipe(run: Path):
    run.with_name("base.yaml").write_text("rewards: {default: [{name: iou}]}\n")
    run.write_text(RUN + "extends: base.yaml\nrewards: null\n")
    assert set(load_config(run).rewards) == {"choice"}


def test_a_mode_that_the_recipes_rewards_do_not_fit_is_refused_where_they_stand(run: Path):
    run.write_text(RUN + "prompt: {mode: think_answer}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:6: rewards\.choice\.1: format wants"):
        load_config(run)


def test_a_recipe_without_rewards_gives_none(run: Path):
    run.with_name("mine.yaml").write_text(RECIPE.partition("prompt:")[0])
    run.write_text(RUN)
    with pytest.raises(ConfigError, match="rewards: is missing"):
        load_config(run)
