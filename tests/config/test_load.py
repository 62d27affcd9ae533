"""Reading, extending, overriding, dumping."""

from pathlib import Path

import pytest
import yaml

from mmrl.config.load import dump_config, load_config
from mmrl.errors import ConfigError

ROOT = Path(__file__).parents[2]
MINIMAL = """\
run: {name: mini}
model: {tiny: {}}
data: {recipe: digits}
rewards:
  default: [{name: choice}]
"""


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    return write(tmp_path / "minimal.yaml", MINIMAL)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


SHIPPED = sorted(
    path
    for path in (ROOT / "configs").rglob("*.yaml")
    if path.parent.name != "parts" and "claims" not in path.parts  # those are no runs: tests/claims checks them
)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path: Path):
    assert load_config(path).run.name


def test_shipped_config_loads_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    recipe = load_config(ROOT / "configs/quickstart/digits.yaml").data.recipe
    assert recipe == str(ROOT / "data_recipes/digits.yaml")


def test_exponent_without_point_is_a_number(minimal: Path):
    assert load_config(minimal, ["train.learning_rate=1e-6"]).train.learning_rate == 0.000001


def test_words_that_yaml_1_1_takes_for_truth_stay_words(tmp_path: Path, minimal: Path):
    child = write(tmp_path / "a.yaml", "extends: minimal.yaml\nrollout: {stop: [on, no, 12:30, '010']}\n")
    assert load_config(child).rollout.stop == ("on", "no", "12:30", "010")


def test_later_files_win_and_lists_replace(tmp_path: Path, minimal: Path):
    write(tmp_path / "sub/a.yaml", "rollout: {group_size: 4, top_k: 5, stop: [a, b]}\n")
    write(tmp_path / "sub/b.yaml", "rollout: {group_size: 6, stop: [c]}\n")
    child = write(
        tmp_path / "child.yaml", "extends: [minimal.yaml, sub/a.yaml, sub/b.yaml]\nrollout: {max_tokens: 9}\n"
    )
    rollout = load_config(child).rollout
    assert (rollout.group_size, rollout.top_k, rollout.max_tokens, rollout.stop) == (6, 5, 9, ("c",))


def test_null_removes_an_inherited_section(tmp_path: Path, minimal: Path):
    write(tmp_path / "a.yaml", "extends: minimal.yaml\nsft: {steps: 20}\n")
    child = write(tmp_path / "b.yaml", "extends: a.yaml\nsft: null\n")
    assert load_config(child).sft is None


def test_a_part_of_another_type_replaces_the_inherited_one(tmp_path: Path, minimal: Path):
    write(tmp_path / "a.yaml", "extends: minimal.yaml\nalgorithm: {base: grpo, divergence: {type: k3, coef: 0.1}}\n")
    child = write(tmp_path / "b.yaml", "extends: a.yaml\nalgorithm: {divergence: {type: none}}\n")
    assert load_config(child).algorithm == {"base": "grpo", "divergence": {"type": "none"}}


def test_circle_of_configs_is_named(tmp_path: Path):
    write(tmp_path / "a.yaml", "extends: b.yaml\n")
    write(tmp_path / "b.yaml", "x: 1\nextends: a.yaml\n")
    with pytest.raises(ConfigError, match=r"b\.yaml:2: .*circle: .*a\.yaml → .*b\.yaml → .*a\.yaml"):
        load_config(tmp_path / "a.yaml")


def test_the_same_base_may_be_reached_twice(tmp_path: Path, minimal: Path):
    write(tmp_path / "a.yaml", "extends: minimal.yaml\n")
    child = write(tmp_path / "b.yaml", "extends: [minimal.yaml, a.yaml]\n")
    assert load_config(child).run.name == "mini"


def test_overrides_reach_sections_lists_and_missing_sections(minimal: Path):
    given = [
        "rollout.group_size=2",
        "rewards.default.0.weight=0.5",
        "sft.steps=70",
        "prompt.system='a: b'",
        "sft.samples=",
    ]
    config = load_config(minimal, given)
    assert config.rollout.group_size == 2
    assert config.rewards["default"][0].weight == 0.5
    assert config.sft is not None
    assert (config.sft.steps, config.sft.samples) == (70, None)
    assert config.prompt.system == "a: b"


def test_dumped_config_loads_to_an_equal_one(tmp_path: Path, minimal: Path):
    given = ["train.learning_rate=1e-6", "rollout.stop=['1e-6', 'on', '010', 'a: b', '</answer>']", "sft={steps: 30}"]
    config = load_config(minimal, [*given, "algorithm={base: dapo, surrogate: {clip_high: 0.3}}", "prompt.system='5'"])
    dumped = dump_config(config)
    assert load_config(write(tmp_path / "elsewhere/dumped.yaml", dumped)) == config
    assert yaml.safe_load(dumped)["rollout"]["stop"] == ["1e-6", "on", "010", "a: b", "</answer>"]


def test_manifest_is_found_beside_the_config_then_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = MINIMAL.replace("{recipe: digits}", "{train: data/train.jsonl}")
    config = write(tmp_path / "project/configs/a.yaml", text)
    write(tmp_path / "data/train.jsonl", "")
    write(tmp_path / "elsewhere/data/train.jsonl", "")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_config(config).data.train == str(tmp_path / "data/train.jsonl")
    nearer = write(tmp_path / "project/data/train.jsonl", "")
    assert load_config(config).data.train == str(nearer)
    assert load_config(config, ["data.train=data/train.jsonl"]).data.train == str(
        tmp_path / "elsewhere/data/train.jsonl"
    )


def test_hub_name_of_a_model_is_left_alone(minimal: Path):
    config = load_config(minimal, ["model.tiny=", "model.path=Qwen/Qwen2.5-VL-3B-Instruct"])
    assert config.model.path == "Qwen/Qwen2.5-VL-3B-Instruct"
