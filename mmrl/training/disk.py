"""Room on the disk: asked before a checkpoint is written, and what a full disk means to a run."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmrl.errors import RunError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, no quota, a limit on the size of a file
SPARE_BYTES = 16 * 2**20  # left free beside a checkpoint: traces and metrics go on being written
_WORDS = ("No space left", "os error 28", "Disk quota", "os error 122", "File too large", "os error 27")


class NoRoom(RunError):
    """The disk is full: the run has ended at its last good checkpoint."""


@contextmanager
def full_disk_ends_the_run(run_dir: Path, last_good: Callable[[], str]) -> Iterator[None]:
    """Turns a write for which there was no room into an error that says where the run can go on from."""
    try:
        yield
    except NoRoom:
        raise
    except Exception as error:
        if not means_full(error, run_dir):
            raise
        what = f"a file could not be written ({error})"
        raise NoRoom(full_disk(run_dir, what=what, last_good=last_good())) from error


def means_full(error: BaseException, folder: Path) -> bool:
    """Whether a failed write failed for want of room. Libraries hide the number of the error in their own kinds."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    if any(word in str(error) for word in _WORDS):
        return True
    return isinstance(error, RuntimeError) and "write" in str(error) and free_bytes(folder) < 2**20


def full_disk(run_dir: Path, *, what: str, last_good: str) -> str:
    return (
        f"the disk that holds {run_dir} is full ({free_bytes(run_dir) / 2**20:,.0f} MiB free): {what}. The run ended; "
        f"{last_good}. Free space or move the run folder, and go on with --resume. See docs/failures/disk-full.md."
    )


def free_bytes(folder: Path) -> int:
    """What this user may still write to the file system of `folder`, or of the nearest folder above that exists."""
    while not folder.exists():
        folder = folder.absolute().parent
    return shutil.disk_usage(folder).free
