"""Sphinx extension of the book: no line ends between a number and its unit, around the sign of "k = 18", or within "Figure 2".

The spaces there become non-breaking once a page is made, wherever they come from: prose, captions, tables, notebooks. A formula
stays with the comma after it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

UNITS = "%|nats?|dB|ms|s|min|seconds?|minutes?|hours?|[µm]?V|k?Hz|[KMG]i?B|percentage|points|million"
_SPACE = re.compile(
    rf"(?<=\d)\s(?=(?:{UNITS})(?!\w))"  # 95 %
    r"|(?<=\S)\s(?=[=≈≤≥]\s[−\d])|(?<=[=≈≤≥])\s(?=[−\d])"  # k = 18
    r"|(?:(?<=\bFigure)|(?<=\bFigures)|(?<=\bTable)|(?<=\bSection))\s(?=\d)"
)
_KEPT = '<span class="mfr-kept">'  # a formula is a box, beside which a line may end whatever character follows
_PARTS = re.compile(r"(<(pre|code|script|style|svg|textarea)\b.*?</\2>|<[^>]*>)", re.DOTALL)


def without_breaks(html: str) -> str:
    """Return HTML whose numbers stay with their units, also across tags; code and drawings are left as they are."""
    shown, before, formula = [], "", 0
    for place, part in enumerate(_PARTS.split(html)):
        if place % 3 == 0 and part:  # text; then a tag, and the name of what is left alone
            text = _SPACE.sub("\u00a0", before + part)[len(before) :]
            if before.endswith(r"\)") and (word := re.match(r"[^ \n]+", text)):  # right behind a formula
                shown[formula] = _KEPT + shown[formula]
                text = f"{word[0]}</span>{text[word.end() :]}"
            shown.append(text)
            before = part[-2:]
        elif place % 3 == 1:
            formula = len(shown) if part.startswith('<span class="math') else formula
            shown.append(part)
    return "".join(shown)


def keep_units(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Keep the numbers of a page's text with their units."""
    if "body" in context:
        context["body"] = without_breaks(context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the work on pages."""
    app.connect("html-page-context", keep_units)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
