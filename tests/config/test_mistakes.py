"""Every mistake at once, each with its key, its place and what to do."""

from pathlib import Path

import pytest

from mmrl.config.load import load_config
from mmrl.errors import ConfigError

GOOD = """\
run: {name: mini}
model: {tiny: {}}
data: {recipe: digits}
rewards:
  default: [{name: choice}]
"""


def message(folder: Path, text: str, *overrides: str) -> str:
    """What load_config says of `text`, with the folder's name cut out."""
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value).replace(f"{folder}/", "")


def test_unknown_key_is_reported_with_its_line_and_the_nearest_known(tmp_path: Path):
    said = message(tmp_path, GOOD + "rollout:\n  temperature: 1\n  grup_size: 8\n")
    assert said == "c.yaml:8: rollout.grup_size: unknown key; did you mean 'rollout.group_size'?"


def test_key_in_the_wrong_section_is_sent_to_its_own(tmp_path: Path):
    said = message(tmp_path, GOOD + "group_size: 8\n")
    assert said == "c.yaml:6: group_size: unknown key here; did you mean 'rollout.group_size'?"


def test_mistakes_of_every_kind_come_out_together(tmp_path: Path):
    text = """\
run: {name: 5, seed: -1}
model: {tiny: {heads: 3}}
data: {recipe: digits}
rewards:
  default:
    - {name: chioce}
    - {name: format, options: {stricct: true}}
algorithm: {base: grpo, surrogate: {clip_hihg: 0.3}}
rollout: {prompts_per_step: 10}
train:
  steps: 5
  steps: 1e1
  schedule: cosin
  max_grad_norm: on
evaluation: {ks: [8]}
prompt:
"""
    said = message(
        tmp_path, text, "train.minibatches=2.5", "sft.warmup_steps=999", "nonsense", "rewards.default.9.weight=1"
    )
    lines = dict(line.strip().split(": ", 1) for line in said.splitlines()[1:] if "override" in line)
    assert said.startswith("c.yaml: 17 problems\n")
    for expected in (
        "c.yaml:1: run.name: must be text, not 5; put it in quotes",
        "c.yaml:1: run.seed: must be at least 0, not -1",
        "c.yaml:2: model.tiny.heads: 3 does not divide model.tiny.hidden_size (128)",
        "c.yaml:6: rewards.default.0.name: unknown reward 'chioce'. Did you mean 'choice'?",
        "c.yaml:7: rewards.default.1.options: unknown option of reward 'format'",
        "c.yaml:8: algorithm.surrogate: Clipped has no hyper-parameter 'clip_hihg'. Did you mean 'clip_high'?",
        "c.yaml:12: train.steps: given twice; the first is at c.yaml:11",
        "c.yaml:12: train.steps: must be a whole number, not 10.0; write 10",
        "c.yaml:13: train.schedule: must be one of 'constant', 'linear' or 'cosine', not 'cosin'; did you mean",
        "c.yaml:14: train.max_grad_norm: must be a number, not 'on'",
        "c.yaml:15: evaluation: pass@8 needs samples_per_prompt of at least 8",
        "c.yaml:16: prompt: must be a section of key: value lines, not empty",
    ):
        assert expected in said
    assert lines["override train.minibatches=2.5"] == "train.minibatches: must be a whole number, not 2.5"
    assert lines["override sft.warmup_steps=999"].startswith("sft.warmup_steps: 999 is more than sft.steps (150)")
    assert lines["override nonsense"].startswith("an override is written key.sub=value")
    assert "no item of this number" in lines["override rewards.default.9.weight=1"]


def test_a_switch_is_true_or_false_and_nothing_else(tmp_path: Path):
    said = message(tmp_path, GOOD.replace("name: choice", "name: choice, normalize: on"))
    assert said.endswith("rewards.default.0.normalize: must be true or false, not 'on'")


def test_names_in_catalogues_are_checked_with_a_guess(tmp_path: Path):
    text = GOOD.replace("name: choice", "name: chioce") + "algorithm: gropo\n"
    said = message(tmp_path, text, "data.recipe=digit")
    assert "c.yaml:5: rewards.default.0.name: unknown reward 'chioce'. Did you mean 'choice'?" in said
    assert "c.yaml:6: algorithm: unknown algorithm 'gropo'. Did you mean 'grpo'?" in said
    assert "override data.recipe=digit: data.recipe: unknown recipe 'digit'. Did you mean 'digits'?" in said


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.warmup_steps=200", "200 is more than train.steps (100)"),
        ("train.minibatches=3", "3 minibatches of equal size cannot be made of rollout.prompts_per_step (16)"),
        ("train.freeze=[vision, projector, language]", "nothing would train"),
        ("algorithm={divergence: {type: none}}", "algorithm: give a base"),
        ("algorithm=5", "must be text or a section of key: value lines, not 5"),
        ("rewards.default=[]", "has no reward; give at least one"),
        ("rewards.default=[{path: my_pkg.area}]", "'my_pkg.area' is not of the form package.module:function"),
        ("data.recipe=recipes/none.yaml", "there is no 'recipes/none.yaml' in the current folder"),
        ("model={path: ./no/such/model}", "there is no './no/such/model'"),
        ("model.min_pixels=9", "more than model.max_pixels (4)"),
        (f"run.folder={__file__}/runs", "test_mistakes.py is a file; name a folder"),
        ("extends=other.yaml", "'extends' stands at the top of a config file only"),
        ("train.betas=[0.9]", "the list is too short"),
        ("rollout.servers={urls: ['http://a:1', 'http://b:1', 'http://a:1']}", "names http://a:1 more than once"),
        ("rollout.servers={start: 2, gpus: [1]}", "rollout.servers.gpus: 1 for 2 servers"),
        ("rollout.servers={urls: ['http://a:1', 'http://b:1'], gpus: [1]}", "rollout.servers.gpus: 1 for 2 servers"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, override: str, expected: str):
    assert expected in message(tmp_path, GOOD.replace("tiny: {}", "tiny: {}, max_pixels: 4"), override)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "c.yaml: is empty"),
        ("- a\n", "c.yaml: holds no section"),
        ("run: {name: a\n", "c.yaml:2: not valid YAML"),
        ("run:\n\tname: a\n", "c.yaml:2: not valid YAML: a tab where spaces are needed"),
        ("extends: none.yaml\n", "c.yaml:1: there is no config file"),
        ("extends: 5\n", "c.yaml:1: extends: must be a file name"),
        ("run: &r {name: *r}\n", "an alias (*name) that contains itself"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, expected: str):
    assert expected in message(tmp_path, text)


def test_missing_file_suggests_its_neighbour(tmp_path: Path):
    (tmp_path / "digits.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"there is no config file .*digts\.yaml\. Did you mean .*digits\.yaml\?"):
        load_config(tmp_path / "digts.yaml")


def test_folder_instead_of_file_lists_what_is_in_it(tmp_path: Path):
    (tmp_path / "digits.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"is a folder; name a YAML file in it: digits\.yaml"):
        load_config(tmp_path)


def test_missing_sections_are_named_with_what_they_are_for(tmp_path: Path):
    said = message(tmp_path, "run: {seed: 1}\n")
    assert "c.yaml:1: run.name: is missing: folder name of the run" in said
    assert "model: is missing: a section with path, tiny" in said
    assert "rewards: is missing: task → its rewards" in said


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["backend.offload_optimizer=cpu"], "backend.offload_optimizer: is DeepSpeed's, with backend.type torch"),
        (["backend.offload_weights=cpu"], "backend.offload_weights: is DeepSpeed's"),
        (
            ["backend.type=deepspeed", "backend.zero_stage=0", "backend.offload_optimizer=cpu"],
            "backend.offload_optimizer: needs backend.zero_stage 1 or more; at stage 0",
        ),
        (
            ["backend.type=deepspeed", "backend.zero_stage=2", "backend.offload_weights=cpu"],
            "backend.offload_weights: needs backend.zero_stage 3 or more; at stage 2",
        ),
        (
            ["backend.type=deepspeed", "backend.offload_optimizer=cpu", "train.optimizer=adamw_8bit"],
            "train.optimizer: adamw_8bit with backend.offload_optimizer",
        ),
        (
            ["backend.type=deepspeed", "backend.zero_stage=3", "backend.offload_optimizer=nvme"],
            "backend.offload_optimizer: must be one of 'none' or 'cpu', not 'nvme'",
        ),
    ],
)
def test_what_a_backend_cannot_do_is_refused_by_name(tmp_path: Path, overrides: list[str], said: str):
    assert said in message(tmp_path, GOOD, *overrides)
