"""Files that others made cannot run code here, and addresses in them are not followed."""

from __future__ import annotations

import ast
import http.server
import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl.algorithms.memory import Memory
from mmrl.config.load import load_config
from mmrl.data.manifest import read_manifest
from mmrl.data.recipe_file import load_recipe
from mmrl.errors import ConfigError, DataError, ModelError, RunError
from mmrl.policy.load import load_model
from mmrl.training.checkpoint import Checkpoint, load_trainer_state

PACKAGE = Path(__file__).parents[1] / "mmrl"


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._path),)


def test_weights_are_read_from_safetensors_only(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "went_off")))
    with pytest.raises(ModelError, match="could not be loaded"):
        load_model(str(folder))
    assert not (tmp_path / "went_off").exists()


def test_code_beside_a_model_runs_only_when_asked_for(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "their_own", "auto_map": {"AutoConfig": "their_code.TheirConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "their_code.py").write_text(
        f"import os\nos.mkdir({str(tmp_path / 'went_off')!r})\nraise OSError('ran')\n"
    )
    with pytest.raises(ModelError):
        load_model(str(folder))
    assert not (tmp_path / "went_off").exists()
    with pytest.raises(ModelError, match="ran"):
        load_model(str(folder), trust_remote_code=True)
    assert (tmp_path / "went_off").exists()


def test_remote_code_is_off_in_every_config(tmp_path: Path) -> None:
    assert not load_config(PACKAGE.parent / "configs" / "quickstart" / "digits.yaml").model.trust_remote_code


@pytest.mark.parametrize("load", [load_config, load_recipe])
def test_yaml_cannot_make_python_objects(load: Callable[[str], Any], tmp_path: Path) -> None:
    gone_off = tmp_path / "went_off"
    file = tmp_path / "file.yaml"
    file.write_text(f"name: !!python/object/apply:os.mkdir ['{gone_off}']\nrun: {{name: x}}\n")
    with pytest.raises(ConfigError):
        load(str(file))
    assert not gone_off.exists()


def test_trainer_state_that_was_tampered_with_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "trainer").mkdir()
    torch.save({"step": Bomb(tmp_path / "went_off")}, tmp_path / "trainer" / "state.pt")
    nothing: Any = None
    with pytest.raises(RunError, match=r"state.pt: cannot be read"):
        load_trainer_state(Checkpoint(step=1, folder=tmp_path), backend=nothing, sampler=nothing, memory=Memory())
    assert not (tmp_path / "went_off").exists()


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "169.254.169.254", "example.org"])
def test_addresses_in_manifests_are_refused_and_never_asked(host: str, tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://{host.format(port=server.server_address[1])}/picture.png"
        row = {
            "id": "a",
            "task": "text",
            "question": "What?",
            "media": [{"type": "image", "path": address}],
            "answer": {"type": "text", "value": "x"},
        }
        manifest = tmp_path / "m.jsonl"
        manifest.write_text(json.dumps(row) + "\n")
        with pytest.raises(DataError, match="is an address; mmrl reads files"):
            read_manifest(manifest)
        server.shutdown()
    assert asked == []


def test_no_module_uses_a_loader_that_can_run_code() -> None:
    """yaml.load, torch.load without weights_only, extractall, eval and exec: none of them in the package."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            where = f"{path.relative_to(PACKAGE)}:{node.lineno}"
            assert called not in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec", "os.system"), where
            assert not called.endswith(".extractall"), where
            if called == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), where
