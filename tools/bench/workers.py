"""The parent's end: two processes, one per tool, that step in turn; while one works the other waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tools.bench.cell import Cell

ROOT = Path(__file__).parents[2]
TOOLS = {"mmrl": "tools.bench.mmrl_worker", "trl": "tools.bench.trl_worker"}


class Worker:
    """One tool's process; several may load their models side by side."""

    def __init__(self, tool: str, cell: Cell) -> None:
        self.tool = tool
        folder = Path(cell.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / f"{tool}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", TOOLS[tool], cell.dump()],
                cwd=ROOT,
                env=environment(cell.threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ready(self) -> dict[str, Any]:
        """Wait until the model is loaded; returns what the worker says of it. To be called once, before any order."""
        return self._answer()

    def order(self, what: str) -> dict[str, Any]:
        """ "step", "count" (a step with counters), "baseline" or "evaluate"; returns the worker's answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `_answer` says why
        return self._answer()

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            tail = "\n".join(self._log.read_text().splitlines()[-25:])
            raise SystemExit(f"{self.tool}'s process ended with code {code}. Its last lines:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def environment(threads: int) -> dict[str, str]:
    """For both tools alike. Threads that wait spin briefly, then sleep, as in every run of mmrl."""
    return os.environ | {
        "GOMP_SPINCOUNT": "10000",
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "TQDM_DISABLE": "1",
        "HF_HUB_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
    }
