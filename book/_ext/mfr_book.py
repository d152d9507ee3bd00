"""Sphinx extension of the book: numbers that come from runs, and executed notebooks as readers want them.

- ``{val}`notebook.key:.3f``` prints a number that an executed notebook left behind; an unknown key is a
  warning, and so fails a strict build.
- ``{paper}`0.625``` marks a number as the paper's own.
- ``{ours}`S8```, ``{effect}`S8``` and ``{verdict}`S8``` print a row of the published ledger: effect with interval, its size in a
  sentence that says its direction, and verdict.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from mfrbook.drawing.report import PAGE_MIME, VALUES_MIME
from mfrbook.drawing.statistics import as_text
from mfrbook.drawing.style import typeset
from mfrbook.ledger.wording import sentence

if TYPE_CHECKING:
    from sphinx.application import Sphinx

logger = logging.getLogger(__name__)

OURS = {VALUES_MIME, PAGE_MIME}  # for other parts of the book, not shown


def format_value(values: dict[str, dict[str, Any]], text: str) -> str:
    """Look up ``notebook.key`` and format it by the specification after the colon; null is a number that is not known.

    Raises
    ------
    KeyError
        The notebook or the key is unknown; the message names the nearest one.
    ValueError
        The specification does not fit the value.
    """
    name, _, spec = text.partition(":")
    notebook, _, key = name.partition(".")
    for known, wanted, kind in ((values, notebook, "notebook"), (values.get(notebook, {}), key, "key")):
        if wanted not in known:
            nearest = difflib.get_close_matches(wanted, known, n=1)
            hint = f", did you mean {nearest[0]!r}?" if nearest else ""
            raise KeyError(f"unknown {kind} {wanted!r} in {{val}}`{text}`{hint}")
    value = values[notebook][key]
    if value is None:
        return "not known"
    shown = format(value, spec)
    return shown if isinstance(value, str) else typeset(shown)


class ValueRole(SphinxRole):
    """``{val}`notebook.key:format```: a number of ours, read from the executed notebooks and linked to its notebook."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path = Path(self.env.srcdir, self.config.mfr_values)
        self.env.note_dependency(str(path))
        try:
            values = json.loads(path.read_text()) if path.exists() else {}
            shown = format_value(values, self.text)
        except (KeyError, ValueError) as error:
            logger.warning("%s", error.args[0], location=self.get_location(), type="mfr", subtype="value")
            shown = f"?{self.text}?"
        notebook, _, key = self.text.partition(":")[0].partition(".")
        about = f"Computed from runs in the notebook {notebook}, which calls it {key}."
        attributes = {"explanation": about, "classes": ["mfr-val"]}
        said = nodes.abbreviation(shown, shown, **attributes)
        page = f"executed/{self.text.partition('.')[0]}"
        if page not in self.env.found_docs:
            return [said], []
        address = self.env.app.builder.get_relative_uri(self.env.docname, page)
        return [nodes.reference("", "", said, refuri=address, internal=True, classes=["mfr-row-link"])], []


class PaperRole(SphinxRole):
    """``{paper}`0.625```: a number that the paper reports."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        attributes = {"explanation": "reported in the paper", "classes": ["mfr-paper"]}
        return [nodes.abbreviation(self.text, self.text, **attributes)], []


class LedgerRole(SphinxRole):
    """Print a row of the published ledger; what hovers over it is a sentence with the same number, the claim and the verdict.

    - ``{ours}`S8``` is the effect with its interval, ``{verdict}`S8``` the verdict.
    - ``{effect}`S8``` is the size of an effect, to two digits, in a sentence that says its direction. That direction is checked:
      the build fails where the interval reaches zero, or where the effect has the other sign.
    - A minus before the name turns the sign, where a sentence speaks of a rise and the claim of a fall. After the name, ``%`` shows
      a share in percent, and ``pp`` a difference of shares in percentage points.
    """

    def __init__(self, part: str) -> None:
        self.part = part

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path = Path(self.env.srcdir, self.config.mfr_ledger)
        self.env.note_dependency(str(path))
        ledger = json.loads(path.read_text())
        try:
            shown, about = quote(self.part, self.text, ledger)
        except ValueError as error:
            return self.refuse(str(error))
        said = nodes.abbreviation(shown, shown, explanation=about, classes=["mfr-val"])
        row = next(one for one in ledger if one["id"] == re.sub("^-|(%|pp)$", "", self.text))
        page = "questions" if row["section"] == "questions" else "claims"
        address = f"{self.env.app.builder.get_relative_uri(self.env.docname, page)}#{row['id']}"
        return [nodes.reference("", "", said, refuri=address, internal=True, classes=["mfr-row-link"])], []

    def refuse(self, why: str) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Warn, which fails a strict build."""
        logger.warning("%s", why, location=self.get_location(), type="mfr", subtype="value")
        return [nodes.Text(f"?{self.text}?")], []


def quote(part: str, text: str, ledger: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """Return what a role of `LedgerRole` shows, and what hovers over it.

    Raises
    ------
    ValueError
        There is no such row, or its effect has not the direction that the sentence says.
    """
    rows = {row["id"]: row for row in ledger}
    name, unit = re.fullmatch(r"-?(.*?)(%|pp)?", text).groups()  # type: ignore[union-attr]
    if name not in rows:
        nearest = difflib.get_close_matches(name, rows, n=1)
        raise ValueError(f"unknown claim {name!r}" + (f", did you mean {nearest[0]!r}?" if nearest else ""))
    row = rows[name]
    if row["ours"] is None:
        if part == "effect":
            raise ValueError(
                f"claim {name!r}: {{effect}}`{text}` says that there is one, the ledger has none: {row['verdict']}"
            )
        return row["verdict"], sentence(name, ledger)
    turned = text.startswith("-")
    ends = [row["ours"], *row["ci"]] if not turned else [-row["ours"], -row["ci"][1], -row["ci"][0]]
    ends = [100 * one for one in ends] if unit else ends
    if part == "effect" and ends[1] <= 0:
        raise ValueError(
            f"claim {name!r}: {{effect}}`{text}` says that it is above zero, the ledger has {as_text(row['ours'], *row['ci'])}"
        )
    shown = {
        "verdict": row["verdict"],
        "effect": f"{float(f'{ends[0]:.2g}'):,.15g}" + {None: "", "%": "\u00a0%", "pp": " percentage points"}[unit],
        "ours": as_text(*ends, unit="\u00a0%" if unit == "%" else ""),
    }[part]
    in_units = None if part == "verdict" else {None: "", "%": "%", "pp": "points"}[unit]
    return shown, sentence(name, ledger, in_units, turned=turned)


def prepare_notebook(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fold the code of an executed notebook away, all but its parameters, and leave out values for the prose."""
    if not app.env.doc2path(docname).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [one for one in cell["outputs"] if OURS.isdisjoint(one.get("data", {}))]
            tags = cell["metadata"].setdefault("tags", [])
            if not {"parameters", "injected-parameters"} & set(tags):
                tags.append("hide-input")
    source[0] = json.dumps(notebook)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the roles."""
    app.add_config_value("mfr_values", "executed/values.json", "env", str)
    app.add_config_value("mfr_ledger", "results/claims.json", "env", str)
    app.add_role("val", ValueRole())
    for part in ("ours", "effect", "verdict"):
        app.add_role(part, LedgerRole(part))
    app.add_role("paper", PaperRole())
    app.connect("source-read", prepare_notebook)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
