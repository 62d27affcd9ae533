"""What the tests of recipes leave behind: nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.data_recipes import built


@pytest.fixture(scope="session", autouse=True)
def builds_are_removed() -> Iterator[None]:
    """The builds that all tests share, once the last one is done."""
    yield
    if built.home.cache_info().currsize:
        built.home().cleanup()
