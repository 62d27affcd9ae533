"""Work for `test_workers.py`; its processes import it by name."""

import os
import time

from mmrl.errors import DataError


def double(item: int) -> int:
    return 2 * item


def hang_on_three(item: int) -> int:
    if item == 3:
        time.sleep(600)
    return item


def die_on_three(item: int) -> int:
    if item == 3:
        os._exit(7)
    return item


def fail_on_three(item: int) -> int:
    if item == 3:
        raise DataError("three is no number for us")
    return item
