"""A folder for what a benchmark makes on its way. It is gone when that ends, also by an error, Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


@contextmanager
def scratch_folder(inside: Path | None = None) -> Iterator[Path]:
    """`inside`: where it is made; None: the system's folder for such."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)  # the default action would end the process where it stands

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, end) if main else None
    try:
        with tempfile.TemporaryDirectory(prefix="mmrl-bench-", dir=inside) as folder:
            yield Path(folder)
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
