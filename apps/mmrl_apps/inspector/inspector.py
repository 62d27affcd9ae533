"""The runs that are open: their index, config and manifests. Handlers get everything from here, by the run's name."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmrl.errors import ConfigError, RunError, unknown_name
from mmrl.traces.index import TraceIndex
from mmrl_apps.inspector.tokens import Tokens
from mmrl_apps.shared.guard import MediaGuard

MANY_STEPS = 40  # that are not indexed yet: another process does it
REFRESH_SECONDS = 2.0  # how often the traces of open runs are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """One run folder."""

    name: str  # unique among the open runs
    folder: Path
    index: TraceIndex
    guard: MediaGuard
    manifests: tuple[Path, ...]
    tokens: Tokens

    def config(self) -> dict[str, Any]:
        """config.yaml as plain values; empty where it is missing or no mapping."""
        try:
            found = yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return {}
        return found if isinstance(found, dict) else {}

    def rewards(self) -> dict[str, Any]:
        """The config's rewards, task → its entries; empty where there are none."""
        found = self.config().get("rewards")
        return found if isinstance(found, dict) else {}


class Inspector:
    """Opens run folders and keeps their indexes up to the traces.

    `folders` may also be folders of runs, and manifests (`*.jsonl`), which the page can browse beside those that the
    runs name.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        manifests = tuple(path.resolve() for path in paths if path.is_file())
        folders = list(_run_folders(path for path in paths if not path.is_file()))
        if not folders and not manifests:
            raise RunError(
                f"{', '.join(map(str, paths)) or 'runs'}: no run is there yet (a run folder holds config.yaml, "
                "metrics.jsonl or traces/). Start one with `mmrl run CONFIG`, or name a run folder."
            )
        names = _unique_names(folders)
        self._runs = {name: _open(name, folder, manifests) for name, folder in zip(names, folders, strict=True)}
        self.loose_manifests = manifests
        self.loose_guard = MediaGuard(manifests)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.trouble: dict[str, str] = {}  # run → why its index cannot be brought up to date

    @property
    def names(self) -> list[str]:
        return list(self._runs)

    def run(self, name: str | None) -> OpenRun:
        """ConfigError, in words a page can show, where no such run is open."""
        if name not in self._runs:
            raise ConfigError(unknown_name("run", str(name), self._runs) if self._runs else "no run is open")
        return self._runs[name]

    def runs(self, names: Iterable[str] | None) -> list[OpenRun]:
        """Those of the names that are open."""
        return [self._runs[name] for name in names or () if name in self._runs]

    def refresh(self, *, apart: bool = False) -> None:
        """Bring every index up to its traces. A run that cannot be read does not keep the others from it.

        apart: many steps at once are read by another process, so that the page stays quick meanwhile.
        """
        for name, run in self._runs.items():
            if self._stop.is_set():
                return
            try:
                if apart and run.index.pending() > MANY_STEPS:
                    run.index.refresh_apart(stop=self._stop)
                else:
                    run.index.refresh()
                self.trouble.pop(name, None)
            except Exception as error:  # a full disk, a folder that went away: said on the page, tried again
                if name not in self.trouble:
                    traceback.print_exc()
                self.trouble[name] = f"{type(error).__name__}: {error}"

    def follow(self) -> None:
        """Go on refreshing in a thread of its own until `close`."""

        def work() -> None:
            while not self._stop.is_set():
                self.refresh(apart=True)
                self._stop.wait(REFRESH_SECONDS)

        self._thread = threading.Thread(target=work, daemon=True, name="trace index")
        self._thread.start()

    def close(self) -> None:
        """End the thread and the indexes. A step that is being indexed is finished first."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        for run in self._runs.values():
            run.index.close()

    def group_page(self, name: str, step: int, place: int, *, colour: str = "") -> str:
        """HTML of one group (`group_page.py`)."""
        from mmrl_apps.inspector.group_page import group_html

        return group_html(self.run(name), step, place, colour=colour)


def _open(name: str, folder: Path, more: tuple[Path, ...]) -> OpenRun:
    manifests = tuple(dict.fromkeys((*_manifests(folder), *more)))
    return OpenRun(
        name=name,
        folder=folder,
        index=TraceIndex(folder),
        guard=MediaGuard(manifests),
        manifests=manifests,
        tokens=Tokens(folder),
    )


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and any((folder / part).exists() for part in ("config.yaml", "metrics.jsonl", "traces"))


def _run_folders(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if _is_run(path):
            yield path.resolve()
        elif path.is_dir():
            yield from sorted(child.resolve() for child in path.iterdir() if _is_run(child))
        else:
            raise RunError(f"{path}: there is no such run folder or manifest.")


def _unique_names(folders: Sequence[Path]) -> list[str]:
    names: list[str] = []
    for folder in folders:
        name, parent = folder.name, folder.parent
        while name in names and parent.name:
            name, parent = f"{parent.name}/{name}", parent.parent
        names.append(name if name not in names else f"{name} ({len(names)})")
    return names


def _manifests(folder: Path) -> list[Path]:
    """The manifests that a run was made from: those of its config, and what its recipe built."""
    found = sorted((folder / "data").glob("*.jsonl")) if (folder / "data").is_dir() else []
    found = [path for path in found if path.name != "dropped.jsonl"]
    try:
        data = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["data"]
        named = [data.get(split) for split in ("train", "validation", "test")]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        named = []
    for name in named:
        if isinstance(name, str):
            bases = (Path.cwd(), folder, folder.parent, folder.parent.parent)
            found += [path for base in bases if (path := base / name).is_file()][:1]
    return list(dict.fromkeys(path.resolve() for path in found))
