"""Keys of metadata by whose values figures are told apart: those that were asked for must be there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmrl.errors import DataError, unknown_name


def check_slices(asked: Iterable[str], told: Iterable[Mapping[str, Any]], *, where: str) -> None:
    """DataError for a key of `asked` that is a text or a number in none of the samples (their metadata: `told`).

    It comes before anything is generated: a misspelt key would otherwise be a table that is missing at the end.
    """
    known = {key for metadata in told for key, value in metadata.items() if isinstance(value, str | int | float)}
    for key in asked:
        if key not in known:
            nothing = f"no sample has metadata to look for {key!r} in."
            problem = unknown_name("key of metadata", key, known) if known else nothing
            raise DataError(f"{where}: {problem} Figures cannot be told apart by it (--by, evaluation.slice_by).")
