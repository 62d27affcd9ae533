"""The errors mmrl raises on purpose.

Every one of them is about something its reader can mend, and its message says four things: *what* is wrong, *where*
(file, line, key, sample id), *why* it matters and *what to do*. The command line prints the message alone and exits
with code 2; a traceback means a defect of mmrl itself.

What a model writes is never an error (it is scored), and broken media are not one either: they are dropped with a
reason and counted (`mmrl.types.Dropped`). To add a kind: derive from `MmrlError` and from the standard exception that a
caller would expect, keep the constructor to one message (errors cross process borders, so they must pickle).
"""

import difflib
from collections.abc import Iterable


class MmrlError(Exception):
    """Base of everything mmrl raises on purpose."""


class ConfigError(MmrlError, ValueError):
    """A config file, an override or a command-line argument is wrong."""


class DataError(MmrlError, ValueError):
    """A data set lacks something it must have: a field, an answer, a file that the manifest names."""


class ModelError(MmrlError, ValueError):
    """A path holds no model, or a model of a family mmrl does not know."""


class RewardError(MmrlError, ValueError):
    """A reward cannot work at all on this data (not: one completion that made it fail)."""


class RunError(MmrlError, RuntimeError):
    """A run folder is in the way, damaged, or does not belong to this config; or the run cannot go on."""


class MediaError(MmrlError, ValueError):
    """One picture or clip cannot be used. Caught where prompts are rendered; its group is dropped with the reason."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None where nothing is close enough to be what was meant."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence for a name that is not in a table: says what is known and guesses what was meant."""
    names = sorted(known)
    guess = nearest(name, names)
    hint = f" Did you mean {guess!r}?" if guess else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}."
