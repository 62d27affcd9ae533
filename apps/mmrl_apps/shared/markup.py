"""HTML of which every value is escaped, and stays what it is when a page puts it in place.

Model text, questions, file names and configs are material, never markup: Jinja2 escapes them where they enter. What
Gradio puts into a page goes through templates of its own once more (`${…}`, `{{…}}`, `@children`); `for_page` takes
their meaning away, so that a completion cannot speak to them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_INERT = str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;", "@": "&#64;"})


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("mmrl_apps"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["zip"] = zip
    return made


def render(template: str, **values: Any) -> str:
    """A template of `mmrl_apps/templates/`; every value is escaped. For files that stand alone."""
    return _environment().get_template(template).render(**values)


def for_page(html: str) -> str:
    """HTML for `gr.HTML`: looks the same, means nothing to the page's own templates. Without style and script."""
    return html.translate(_INERT)


def fragment(template: str, **values: Any) -> str:
    """`render` for a part of a page."""
    return for_page(render(template, **values))


def message(text: str, *, kind: str = "empty") -> str:
    """One sentence in place of what cannot be shown. kind: empty, trouble."""
    return fragment("message.html.j2", text=text, kind=kind)
