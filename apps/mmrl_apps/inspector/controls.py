"""What several tabs' controls share."""

from __future__ import annotations

from collections.abc import Sequence

from mmrl_apps.inspector.handlers import Listed

# A click (or Enter) on a link that names what it opens is told to the handler; with Ctrl it stays a link.
OPENING = """
element.addEventListener('click', (event) => {
  const link = event.target.closest('[data-open]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  trigger('submit', {open: link.dataset.open});
});
"""


def listed(found: Listed) -> tuple[str, str, int, str]:
    """Rows, "n found", page, address: what a list shows."""
    return found.html, found.where, found.page, found.address


def choices_or_any(names: Sequence[str], word: str = "any") -> list[tuple[str, str]]:
    """Choices of a control that may also be left open."""
    return [(word, ""), *((name, name) for name in names)]
