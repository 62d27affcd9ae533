"""A run that is resumed with another length says what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrl.config.schema import Config
from mmrl.pipeline.run_folder import open_run


def opened(folder: Path, steps: int, *, schedule: str, algorithm: str, resume: bool) -> list[str]:
    config = Config.model_validate(
        {
            "run": {"name": "run", "folder": str(folder)},
            "model": {"tiny": {}},
            "data": {"recipe": "digits"},
            "rewards": {"default": [{"name": "choice"}]},
            "algorithm": algorithm,
            "train": {"steps": steps, "schedule": schedule},
        }
    )
    said: list[str] = []
    open_run(config, resume=resume, overwrite=False, tell=said.append)
    return said


@pytest.mark.parametrize(
    ("schedule", "algorithm", "moved"),
    [
        ("linear", "grpo", ("the linear learning rate",)),
        ("constant", "grpo_d", ("ScheduledWeight",)),
        ("cosine", "d3s", ("the cosine learning rate", "MostVaried", "MostInformative")),
        ("constant", "grpo", ()),
    ],
)
def test_what_runs_over_the_whole_training_is_named(
    tmp_path: Path, schedule: str, algorithm: str, moved: tuple[str, ...]
) -> None:
    assert opened(tmp_path, 10, schedule=schedule, algorithm=algorithm, resume=False) == []
    assert opened(tmp_path, 10, schedule=schedule, algorithm=algorithm, resume=True) == []
    said = opened(tmp_path, 20, schedule=schedule, algorithm=algorithm, resume=True)
    assert len(said) == bool(moved)
    assert all(name in said[0] for name in (*moved, "was 10 and is 20")) if moved else True
