"""One look for all pages: colours for light and dark, and nothing that is fetched from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradio.themes import Base

# name → light, dark. Text on every ground has a contrast of at least 4.5 : 1.
COLOURS = {
    "page": ("#f7f7f5", "#16171a"),
    "card": ("#ffffff", "#1f2125"),
    "ink": ("#1d1d1f", "#ececee"),
    "muted": ("#5d5d65", "#a9abb3"),
    "line": ("#dededa", "#383b41"),
    "rail": ("#ececea", "#2c2e33"),
    "s1": ("#1a66a8", "#62b0f0"),
    "s2": ("#b04e08", "#f09a4e"),
    "good": ("#1a6f38", "#6fcf8e"),
    "bad": ("#b3341f", "#f28b74"),
    "think": ("#f0f1f6", "#282b33"),
    "answer": ("#e5f0fa", "#1d3347"),
    "warn": ("#fdf3dc", "#3a311b"),
}
_MARKED = 16  # completions whose marks are brought out when their card is looked at


def page_css() -> str:
    """The style of a Gradio page, which says by the class `dark` that it is dark."""
    return f":root {{ {_colours(0)} }}\n.dark {{ {_colours(1)} }}\n{_sheet()}{_brought_out()}"


def standalone_css() -> str:
    """The style of a file that is opened by itself: as dark as its reader's system is."""
    return (
        f":root {{ color-scheme: light dark; {_colours(0)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_colours(1)} }} }}\n"
        "body { margin: 0 auto; padding: 20px; max-width: 1180px; background: var(--mm-page); }\n"
        f"{_sheet()}{_brought_out()}"
    )


def theme() -> Base:
    """Gradio's plain theme with fonts that every system has: the page loads nothing from other hosts."""
    import gradio as gr

    plain = gr.themes.Default(
        primary_hue="blue",
        neutral_hue="zinc",
        font=[gr.themes.Font(name) for name in ("system-ui", "-apple-system", "Segoe UI", "sans-serif")],
        font_mono=[gr.themes.Font(name) for name in ("ui-monospace", "SFMono-Regular", "Menlo", "monospace")],
    )
    return plain.set(button_primary_background_fill="#1a66a8", button_primary_background_fill_dark="#1a66a8")


def _colours(which: int) -> str:
    return " ".join(f"--mm-{name}: {pair[which]};" for name, pair in COLOURS.items())


def _sheet() -> str:
    return files("mmrl_apps").joinpath("shared/style.css").read_text(encoding="utf-8")


def _brought_out() -> str:
    """Pointing at a completion's card (or reaching it by keyboard) dims the marks of all others."""
    rules = []
    for who in range(_MARKED):
        looked_at = f".mm:has([data-card='{who}']:is(:hover, :focus-within))"
        rules.append(f"{looked_at} .mm-mark:not([data-who='{who}']):not(.gold) {{ opacity: .12; }}")
    return "\n".join(rules) + "\n"
