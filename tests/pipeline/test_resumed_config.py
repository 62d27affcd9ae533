"""What a run that goes on may change of its config, and what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmrl.config.schema import Config
from mmrl.errors import RunError
from mmrl.pipeline.run_folder import open_run


def opened(folder: Path, *, resume: bool, **sections: dict[str, Any]) -> Path:
    config = {
        "run": {"name": "run", "folder": str(folder)},
        "model": {"tiny": {}},
        "data": {"recipe": "digits"},
        "rewards": {"default": [{"name": "choice"}]},
        **sections,
    }
    return open_run(Config.model_validate(config), resume=resume, overwrite=False)


@pytest.mark.parametrize("section", [{"watch": {"stop_on": [], "entropy_share": 0.01}}, {"train": {"steps": 300}}])
def test_what_decides_no_update_may_change(tmp_path: Path, section: dict[str, Any]) -> None:
    opened(tmp_path, resume=False, watch={"stop_on": ["entropy_collapse"]})
    sections = {"watch": {"stop_on": ["entropy_collapse"]}, **section}
    assert opened(tmp_path, resume=True, **sections) == tmp_path / "run"


def test_what_decides_updates_may_not(tmp_path: Path) -> None:
    opened(tmp_path, resume=False)
    with pytest.raises(RunError, match=r"another config: train\.learning_rate differ"):
        opened(tmp_path, resume=True, train={"learning_rate": 1e-3})
