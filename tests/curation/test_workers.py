"""Workers keep the order, and one that hangs or dies costs the item it worked on and no other."""

import time

import pytest

from mmrl.curation.workers import Failed, run_killable, run_ordered
from mmrl.errors import DataError
from tests.curation.workers_that_misbehave import die_on_three, double, fail_on_three, hang_on_three


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers: int):
    assert list(run_ordered(double, range(20), workers=workers)) == [2 * i for i in range(20)]


def test_a_worker_that_hangs_is_killed_and_the_others_go_on():
    began = time.monotonic()
    found = list(run_killable(hang_on_three, range(6), workers=2, seconds=0.5))
    assert [f for f in found if not isinstance(f, Failed)] == [0, 1, 2, 4, 5]
    assert isinstance(found[3], Failed)
    assert found[3].reason == "too slow"
    assert time.monotonic() - began < 60


def test_a_worker_that_dies_is_replaced():
    found = list(run_killable(die_on_three, range(6), workers=1, seconds=None))
    assert [f for f in found if not isinstance(f, Failed)] == [0, 1, 2, 4, 5]
    assert isinstance(found[3], Failed)
    assert found[3].reason == "crash"
    assert "exit code 7" in found[3].detail


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_ours_is_raised_as_it_is(workers: int):
    with pytest.raises(DataError, match="three is no number"):
        list(run_ordered(fail_on_three, range(6), workers=workers))
