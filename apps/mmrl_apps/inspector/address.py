"""Views as addresses: the part after the question mark says which tab, run, search and group are shown."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

TABS = ("runs", "groups", "group", "data", "compare")
_LONGEST = 2000  # characters of one value; longer ones are no view of ours


def address(tab: str, values: Mapping[str, object]) -> str:
    """ "?tab=…&…": values that are empty are left out; lists are joined by commas."""
    said: dict[str, str] = {"tab": tab}
    for name, value in values.items():
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        if value is None or value == "" or value is False:
            continue
        said[name] = f"{value:g}" if isinstance(value, float) else str(value)
    return "?" + urlencode(said)


def group_address(run: str, step: int, place: int) -> str:
    """Of one group."""
    return address("group", {"run": run, "step": step, "place": place})


def parse(query: Mapping[str, str]) -> dict[str, str]:
    """What an address asks for: text values, `tab` one of TABS. What makes no sense is left out."""
    found = {str(name): str(value) for name, value in query.items() if len(str(value)) <= _LONGEST}
    if found.get("tab") not in TABS:
        found.pop("tab", None)
    return found


def number(value: object) -> float | None:
    """A bound as a control or an address gives it; None where it is none."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    try:
        found = float(str(value))
    except ValueError:
        return None
    return found if found == found and abs(found) != float("inf") else None


def whole(value: object) -> int | None:
    """The same for a whole number."""
    found = number(value)
    return None if found is None else int(found)
