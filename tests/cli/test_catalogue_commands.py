"""`mmrl list`, `mmrl explain`, `mmrl config`: what they print, made from the catalogues."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.cli.explain import slot_texts
from mmrl.cli.main import main
from mmrl.config.load import load_config
from mmrl.data.recipe_file import known_recipes
from mmrl.rewards.catalog import REWARDS

ROOT = Path(__file__).parents[2]
FAMILY_NAMES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "lfm2_vl"]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("algorithms", ALGORITHMS),
        ("rewards", REWARDS),
        ("families", FAMILY_NAMES),
        ("recipes", sorted(known_recipes())),
    ],
)
def test_list_names_everything_of_a_kind(kind: str, names: list[str], capsys: pytest.CaptureFixture[str]):
    lines = printed(capsys, "list", kind).splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(names)


def test_recipes_are_listed_with_rows_or_shares_and_what_they_are(capsys: pytest.CaptureFixture[str]):
    lines = {line.split()[0]: line for line in printed(capsys, "list", "recipes").splitlines()}
    assert "3,000 train + 200 validation + 400 test" in lines["room"]
    assert "75 % train + 25 % test " in lines["charades_sta"]  # 12 to 4 in the recipe
    assert "Spans of time for sentences" in lines["charades_sta"]


def test_explain_against_shows_only_the_slots_that_differ(capsys: pytest.CaptureFixture[str]):
    lines = printed(capsys, "explain", "dr_grpo", "--against", "grpo").splitlines()
    assert [line.split()[0] for line in lines[4:]] == [
        "advantage",
        "aggregation",
        "divergence",
        "divergence_aggregation",
        "reference",
    ]
    assert lines[6].split("  ")[0] == "divergence"
    assert "k3 {coef: 0.04, clamp: inf}" in lines[6]
    assert lines[6].endswith("none")


def test_explain_against_itself_finds_no_difference(capsys: pytest.CaptureFixture[str]):
    assert "Every slot is as in grpo." in printed(capsys, "explain", "grpo", "--against", "grpo")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_explain_shows_formula_and_hyper_parameters(name: str, capsys: pytest.CaptureFixture[str]):
    text = printed(capsys, "explain", name)
    assert find_spec(f"mmrl.algorithms.{name}"), "explain takes the formula from the file of the algorithm's name"
    assert f"arXiv:{ALGORITHMS[name].paper}" in text
    for slot, parts in slot_texts(ALGORITHMS[name]).items():
        assert f"{slot:24}{parts}" in text


def test_config_show_prints_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = ROOT / "configs/algorithms/dapo.yaml"
    shown = tmp_path / "shown.yaml"
    shown.write_text(printed(capsys, "config", "show", str(source), "train.learning_rate=1e-6"))
    assert load_config(shown) == load_config(source, ["train.learning_rate=1e-6"])
