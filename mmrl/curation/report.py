"""What a verb did: rows in, rows out, and how many were left out for which reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmrl.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of one verb on one manifest (or several)."""

    verb: str
    rows: int  # that are not blank, of the input
    written: Mapping[Path, int]  # manifest → rows; with dry_run, what would have been written
    dropped: Mapping[str, int]  # reason → rows, most frequent first
    listed: Path | None  # where the rows left out are listed; None: none was
    dry_run: bool
    notes: tuple[str, ...] = ()  # sentences about what was found
    figures: Mapping[str, Any] = field(default_factory=dict)  # of the verb; JSON values

    @property
    def kept(self) -> int:
        return sum(self.written.values())

    def raise_if_nothing_is_left(self) -> None:
        """A DataError where no row is left."""
        if self.kept == 0:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in self.dropped.items())
            where = f" {self.listed} lists them." if self.listed is not None and not self.dry_run else ""
            raise DataError(
                f"{self.verb}: no row is left of {self.rows}: {reasons or 'the input holds none'}.{where} "
                f"No manifest was written."
            )
