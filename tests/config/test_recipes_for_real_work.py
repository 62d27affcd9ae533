"""configs/recipes/: every combination of model, data and number of GPUs is sound, and takes steps when made tiny."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmrl.config.load import changed, load_config
from mmrl.config.schema import Config
from mmrl.training.metrics import read_metrics
from tests.clips import write_clip
from tests.toy import noise_pictures

FOLDER = Path(__file__).parents[2] / "configs" / "recipes"
TASKS = ("view_r1", "seed_bench_r1", "vsi_100k", "refcoco", "video_r1")
MODELS = {"qwen2_vl_2b": "qwen2_vl", "qwen2_5_vl_3b": "qwen2_5_vl", "qwen2_5_vl_7b": "qwen2_5_vl"}
GPUS = (1, 4, 8)
RECIPES = [(task, model, gpus) for task in TASKS for model in MODELS for gpus in GPUS]


def recipe(task: str, model: str, gpus: int) -> Config:
    return load_config(FOLDER / task / f"{model}_{gpus}gpu.yaml")


def test_there_is_one_for_every_combination_and_no_other() -> None:
    found = {path.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*.yaml") if path.parent.name != "parts"}
    assert found == {f"{task}/{model}_{gpus}gpu.yaml" for task, model, gpus in RECIPES}


@pytest.mark.parametrize(("task", "model", "gpus"), RECIPES)
def test_a_recipe_is_sound_and_says_what_it_is(task: str, model: str, gpus: int) -> None:
    found = recipe(task, model, gpus)
    assert found.run.name == f"{task}-{model}-{gpus}gpu"
    assert found.model.path is not None
    assert found.model.path.lower().replace("-", "_").replace(".", "_").endswith(f"{model}_instruct")
    assert found.backend.dtype == "bfloat16"
    whole_model = found.train.lora is None
    if model.endswith("7b") and whole_model:
        assert (found.backend.type, found.backend.zero_stage) == ("deepspeed", 3)
    assert found.train.warmup_steps <= found.train.steps * found.train.minibatches


def test_published_values_reach_the_run() -> None:
    """Those that several parts could have overwritten."""
    apo, care = recipe("view_r1", "qwen2_5_vl_3b", 8), recipe("seed_bench_r1", "qwen2_5_vl_7b", 4)
    assert (apo.rollout.prompts_per_step * apo.rollout.group_size // apo.train.minibatches, apo.train.betas) == (
        64,
        (0.9, 0.95),
    )
    assert (care.train.max_grad_norm, care.rollout.top_p, care.train.learning_rate) == (5.0, 0.95, 1e-6)
    rates = {
        model: {recipe("vsi_100k", model, gpus).train.learning_rate for gpus in GPUS}
        for model in ("qwen2_vl_2b", "qwen2_5_vl_7b")
    }
    assert rates == {"qwen2_vl_2b": {1e-5}, "qwen2_5_vl_7b": {5e-6}}
    assert recipe("vsi_100k", "qwen2_vl_2b", 1).rollout.group_size == 14


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from mmrl.policy.tiny import save_tiny_model

    made = {}
    for family in sorted(set(MODELS.values())):
        made[family] = tmp_path_factory.mktemp("models") / family
        save_tiny_model(
            made[family],
            family=family,
            hidden_size=32,
            layers=1,
            heads=2,
            key_value_heads=1,
            vision_depth=1,
            vision_hidden_size=32,
        )
    return made


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Per recipe four samples with the kinds of media and answers that it trains on."""
    folder = tmp_path_factory.mktemp("data")
    [picture] = noise_pictures(folder, [(56, 56)])
    clip = write_clip(folder / "clip.mp4", frames=8, width=56, height=56)
    image = {"type": "image", "path": str(picture)}
    video = {"type": "video", "path": str(clip)}
    letters = {"choices": ["left", "right"], "answer": {"type": "choice", "value": "A"}}
    number: dict[str, Any] = {"answer": {"type": "number", "value": 4.0}}
    kinds: dict[str, list[dict[str, Any]]] = {
        "view_r1": [{"task": "math", "media": [image], "answer": {"type": "math", "value": "1/2"}}],
        "seed_bench_r1": [{"task": "choice", "media": [video, image], **letters}],
        "vsi_100k": [
            {"task": "vsi_choice", "media": [video], **letters},
            {"task": "vsi_number", "media": [video], **number},
        ],
        "refcoco": [{"task": "box", "media": [image], "answer": {"type": "box", "value": [1, 1, 30, 30]}}],
        "video_r1": [
            {"task": "choice", "media": [video], **letters},
            {"task": "number", "media": [image], **number},
            {"task": "regression", "media": [video], **number},
            {"task": "ocr", "media": [image], "answer": {"type": "text", "value": "a door"}},
        ],
    }
    paths = {}
    for task, rows in kinds.items():
        paths[task] = folder / f"{task}.jsonl"
        paths[task].write_text(
            "".join(json.dumps({"id": f"s{i}", "question": "What?", **rows[i % len(rows)]}) + "\n" for i in range(4))
        )
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_recipe_takes_two_steps(
    task: str, models: dict[str, Path], manifests: dict[str, Path], tmp_path: Path
) -> None:
    """Model and data tiny, and what a processor without a GPU asks for: fewer and shorter completions, float32."""
    from mmrl.pipeline import train_stage
    from mmrl.progress import SilentProgress

    for model, family in MODELS.items():
        for gpus in GPUS:
            found = recipe(task, model, gpus)
            small = changed(
                found,
                [
                    f"model.path={models[family]}",
                    "data.recipe=null",
                    f"data.train={manifests[task]}",
                    f"run.folder={tmp_path}",
                    "video.max_frames=4",
                    "rollout.engine=transformers",
                    "rollout.prompts_per_step=2",
                    "rollout.group_size=2",
                    "rollout.max_tokens=4",
                    "train.steps=2",
                    "train.warmup_steps=0",
                    f"train.minibatches={min(2, found.train.minibatches)}",
                    "evaluation.every=0",
                    "backend.type=torch",
                    "backend.offload_optimizer=none",
                    "backend.dtype=float32",
                    "backend.device=cpu",
                    "backend.threads=1",
                    "tracking.to=[]",
                ],
            )
            train_stage(small, resume=False, overwrite=False, progress=SilentProgress())
            rows = read_metrics(tmp_path / found.run.name / "metrics.jsonl")
            assert [row["step"] for row in rows] == [0, 1]
            assert all(row["rollout/groups"] == 2 and row["optim/updates"] > 0 for row in rows)
