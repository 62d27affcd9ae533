"""What MODEL on a command line means: a model folder, a run (its newest checkpoint) or a hub name."""

from __future__ import annotations

from pathlib import Path

from mmrl.errors import ModelError

MODEL_HELP = "A model folder, a run folder (its newest checkpoint), or a hub name."


def model_path(given: str) -> str:
    """The folder or hub name to load. ModelError where it can be neither; whether it loads shows later."""
    folder = Path(given).expanduser()
    if not folder.exists():
        if given.count("/") == 1 and not given.startswith((".", "/", "~")):
            return given  # owner/name
        raise ModelError(
            f"there is no model folder {given}. Give one in Hugging Face layout, a run folder or a hub name."
        )
    if not folder.is_dir():
        raise ModelError(f"{given} is a file. A model is a folder in Hugging Face layout, a run folder or a hub name.")
    if (folder / "config.json").is_file():
        return str(folder)
    if (folder / "config.yaml").is_file():
        return str(_newest_checkpoint(folder))
    raise ModelError(f"{given} holds no model (there is no config.json in it) and is no run folder.")


def _newest_checkpoint(run: Path) -> Path:
    from mmrl.training.checkpoint import checkpoints

    found = checkpoints(run)
    if not found:
        raise ModelError(f"the run {run} has no checkpoint yet. Go on with it (mmrl run {run}/config.yaml --resume).")
    return found[-1].folder
