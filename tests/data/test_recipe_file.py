"""Recipe files: found by name from anywhere, and every mistake in one is named at once."""

from pathlib import Path

import pytest

from mmrl.data.recipe_file import find_recipe, known_recipes, load_recipe
from mmrl.errors import ConfigError

SOUND = "name: mine\nbuilder: digits\nsplits: {train: 8, test: 2}\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_recipe_that_ships_is_sound():
    assert "digits" in known_recipes()
    for name in known_recipes():
        assert load_recipe(name)[0].name == name


def test_a_bare_name_means_a_shipped_recipe_wherever_it_is_run(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_recipe("digits") == known_recipes()["digits"]


def test_a_path_is_taken_as_given(tmp_path, monkeypatch):
    path = written(tmp_path, SOUND)
    monkeypatch.chdir(tmp_path)
    assert find_recipe("mine.yaml").resolve() == path
    assert load_recipe(path)[0].splits == {"train": 8, "test": 2}


def test_an_unknown_name_and_a_missing_path_say_what_there_is(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown recipe 'digit'\. Did you mean 'digits'\?"):
        find_recipe("digit")
    with pytest.raises(ConfigError, match="called by its name: digits"):
        find_recipe(tmp_path / "digits.yaml")


def test_a_given_seed_replaces_the_recipes(tmp_path):
    path = written(tmp_path, SOUND + "seed: 3\n")
    assert load_recipe(path)[0].seed == 3
    assert load_recipe(path, seed=4)[0].seed == 4


def test_options_are_completed_with_the_builders_defaults(tmp_path):
    recipe, options = load_recipe(written(tmp_path, SOUND + "options: {size: 28}\n"))
    assert recipe.options == {
        "question": "Which digit is written here?",
        "task": "choice",
        "size": 28,
        "ink": "dark",
        "limit": None,
    }
    assert options.model_dump() == recipe.options


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "holds no recipe"),
        ("- a\n", "holds no recipe"),
        ("name: [", "is not readable YAML"),
        ("name: mine\n", "builder is missing; every recipe needs it"),
        (SOUND + "sead: 3\n", "unknown key 'sead'. Did you mean 'seed'?"),
        (SOUND.replace("digits", "digit"), "unknown builder 'digit'. Did you mean 'digits'?"),
        (SOUND.replace("mine", "My Set"), "name: String should match pattern"),
        (SOUND.replace("train: 8", "train: 0"), "splits.train is 0; give a count or a share above 0"),
        (SOUND.replace("train", "dropped"), "no split can be named 'dropped'"),
        (SOUND.replace("{train: 8, test: 2}", "{}"), "splits: "),
        (SOUND + "options: {sizes: 3}\n", "options.sizes: unknown key 'sizes'. Did you mean 'size'?"),
        (SOUND + "options: {size: 3}\n", "options.size: Input should be greater than or equal to 8 (it is 3)"),
    ],
)
def test_a_mistake_is_named(tmp_path, text, what):
    with pytest.raises(ConfigError) as caught:
        load_recipe(written(tmp_path, text))
    assert what in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_recipe(written(tmp_path, "nam: mine\nbuilder: 3\nsplits: {train: -1}\n"))
    for what in ("'nam'", "name is missing", "builder", "splits.train"):
        assert what in str(caught.value)
