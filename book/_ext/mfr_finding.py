"""Sphinx extension of the book: what helps to find things. Search has both spellings, chapters first, and excerpts also offline.

The setting ``mfr_repository``, such as ``https://github.com/OWNER/NAME``, switches on a link from each page to its source and
from each notebook to Binder; empty, there are none.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes

from mfrbook.pages.prose import paragraphs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphinx.application import Sphinx
    from sphinx.config import Config

_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")
_PREFIX = re.compile(r"^(re|non|co|pre)-(?=[a-z])")
_RULES = [
    (re.compile(rf"{this}$"), other)
    for this, other in (
        (r"(?<=[a-z]{3})is(ations?|e|ed|es|ers?|ing)", r"iz\1"),
        (r"our(|s|ed|ing|al)", r"or\1"),
        (r"centre(|s)", r"center\1"),
        (r"centred", "centered"),
        (r"artefact(|s)", r"artifact\1"),
        (r"analys(e|ed|es|ing)", r"analyz\1"),
        (r"(mode|labe|cance)ll(ed|ing)", r"\1l\2"),
        (r"licence(|s)", r"license\1"),
        # and back
        (r"(?<=[a-z]{3})iz(ations?|e|ed|es|ers?|ing)", r"is\1"),
        (r"(behavi|col|fav|neighb|hon)or(|s|ed|ing|al)", r"\1our\2"),
        (r"center(|s)", r"centre\1"),
        (r"centered", "centred"),
        (r"artifact(|s)", r"artefact\1"),
    )
]
"""Endings in one spelling, British or American, and the other."""


def spellings(words: Iterable[str]) -> set[str]:
    """Return the other spellings of words: American for British, British for American, and without a prefix's hyphen."""
    return set().union(*map(_others, set(words)))


@cache
def _others(word: str) -> set[str]:
    joined = _PREFIX.sub(r"\1", word)
    found = {joined} - {word}
    for one in {word, joined, *word.split("-")}:
        found |= {pattern.sub(other, one) for pattern, other in _RULES if pattern.search(one)}
    return found


def index_spellings(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Let the search find a page by the other spellings of its words."""
    if other := spellings(_WORD.findall(doctree.astext().lower())):
        doctree.append(nodes.meta("", name="keywords", content=",".join(sorted(other))))


def link_sources(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Add buttons that lead to a page's source, and from a notebook to Binder, where the repository has an address."""
    url = app.config.mfr_repository.rstrip("/")
    if not url or doctree is None:
        return
    notebook = page.removeprefix("executed/") if page.startswith("executed/") else None
    source = f"notebooks/{notebook}.ipynb" if notebook else f"book/{page}.md"
    buttons = [("Source", f"{url}/blob/HEAD/{source}", "fas fa-code", "source-file-button")]
    if notebook and url.startswith("https://github.com/"):
        launch = f"https://mybinder.org/v2/gh/{url.removeprefix('https://github.com/')}/HEAD?labpath={source}"
        buttons.append(("Run on Binder", launch, "fas fa-rocket", "launch-binder-button"))
    context.setdefault("header_buttons", []).extend(
        {"type": "link", "url": where, "tooltip": text, "text": text, "icon": icon, "label": label}
        for text, where, icon, label in buttons
    )


def rank(app: Sphinx, config: Config) -> None:
    """Put chapters first among the results of a search, and the API last."""
    config.html_search_scorer = str(Path(__file__).with_name("scorer.js"))


def write_texts(site: Path) -> None:
    """Write the running text of all pages but the API's into a script, from which a search has excerpts where it may not fetch."""
    pages = [*site.glob("*.html"), *site.glob("executed/*.html")]
    texts = {
        page.relative_to(site).with_suffix("").as_posix(): " ".join(paragraphs(page, code=True))
        for page in sorted(pages)
    }
    kept = json.dumps({name: text for name, text in texts.items() if text}, ensure_ascii=False, indent=0)
    (site / "_static" / "search-texts.js").write_text(f"window.mfrTexts = {kept};\n", encoding="utf-8")


def finish(app: Sphinx, error: Exception | None) -> None:
    """Write the texts of a built site."""
    if error is None and app.builder.name == "html":
        write_texts(Path(app.outdir))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what the module's docstring says."""
    app.add_config_value("mfr_repository", "", "html", str)
    app.connect("config-inited", rank)
    app.connect("doctree-resolved", index_spellings)
    app.connect("html-page-context", link_sources, priority=900)  # after the theme's own buttons
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
