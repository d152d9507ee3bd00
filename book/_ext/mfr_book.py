"""Sphinx extension of the book: numbers that come from runs, light pages, nothing fetched from outside.

- ``{val}`notebook.key:.3f``` prints a number that an executed notebook left behind; an unknown key is a
  warning, and so fails a strict build.
- ``{paper}`0.625``` marks a number as the paper's own.
- ``{ours}`S8```, ``{effect}`S8``` and ``{verdict}`S8``` print a row of the published ledger: effect with interval, its size in a
  sentence that says its direction, and verdict.
- A line ``{modules} mfrlib.models`` in the API reference stands for the modules of that package, each documented.
- After the build, images and tables carried inside the pages as ``data:`` URIs become files, MathJax is
  reduced to what a page loads, and scripts that would fetch from outside are dropped.
"""

from __future__ import annotations

import base64
import dataclasses
import difflib
import hashlib
import importlib.util
import json
import os
import pkgutil
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docstrings import prepare_docstring
from sphinx.util.docutils import SphinxRole

from mfrbook.drawing.statistics import as_text

if TYPE_CHECKING:
    from sphinx.application import Sphinx

logger = logging.getLogger(__name__)

OURS = {"application/vnd.mfr.values+json", "application/vnd.mfr.page+json"}  # for other parts of the book, not shown
MODULES = re.compile(r"^\{modules\} ([\w.]+)(?: but ([\w ]+))?$", re.MULTILINE)
DATA_TAG = re.compile(r'<(?:img|a)\b[^>]*?\b(?:src|href)="data:[^>]*>')
DATA_URI = re.compile(r'\b(src|href)="data:([\w.+-]+/[\w.+-]+)[^",]*;base64,([A-Za-z0-9+/=\s]+)"')
DOWNLOAD = re.compile(r'\bdownload="([^"]+)"')
SUFFIXES = {"image/svg+xml": ".svg", "image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif"}
# sphinx-thebe, which Jupyter Book always loads, carries the address of a script on a foreign server.
THEBE = re.compile(
    r"<script[^>]*>const THEBE_JS_URL.*?</script>|<script[^>]*sphinx-thebe\.js[^>]*></script>"
    r'|<script type="text/x-thebe-config">.*?</script>|<script>kernelName = .*?</script>'
    r"|<link[^>]*sphinx-thebe\.css[^>]*/?>",
    re.DOTALL,
)

# The theme repeats title and contents for print: a second h1 on every page.
PRINT_BLOCK = re.compile(r'<div id="jb-print-docs-body".*?(?=<div id="searchbox">)', re.DOTALL)


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
    return shown if isinstance(value, str) else shown.replace("-", "−")


class ValueRole(SphinxRole):
    """``{val}`notebook.key:format```: a number of ours, read from the executed notebooks."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path = Path(self.env.srcdir, self.config.mfr_values)
        self.env.note_dependency(str(path))
        try:
            values = json.loads(path.read_text()) if path.exists() else {}
            shown = format_value(values, self.text)
        except (KeyError, ValueError) as error:
            logger.warning("%s", error.args[0], location=self.get_location(), type="mfr", subtype="value")
            shown = f"?{self.text}?"
        attributes = {"explanation": f"from the run: {self.text.partition(':')[0]}", "classes": ["mfr-val"]}
        return [nodes.abbreviation(shown, shown, **attributes)], []


class PaperRole(SphinxRole):
    """``{paper}`0.625```: a number that the paper reports."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        attributes = {"explanation": "reported in the paper", "classes": ["mfr-paper"]}
        return [nodes.abbreviation(self.text, self.text, **attributes)], []


class LedgerRole(SphinxRole):
    """Print a row of the published ledger; what hovers over it is the claim, the effect with its interval, and the verdict.

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
        return row["verdict"], row["reason"]
    found = as_text(row["ours"], *row["ci"])
    ends = [row["ours"], *row["ci"]] if not text.startswith("-") else [-row["ours"], -row["ci"][1], -row["ci"][0]]
    ends = [100 * one for one in ends] if unit else ends
    if part == "effect" and ends[1] <= 0:
        raise ValueError(f"claim {name!r}: {{effect}}`{text}` says that it is above zero, the ledger has {found}")
    shown = {
        "verdict": row["verdict"],
        "effect": f"{float(f'{ends[0]:.2g}'):,.15g}" + {None: "", "%": "\u00a0%", "pp": " percentage points"}[unit],
        "ours": as_text(*ends, unit="\u00a0%" if unit == "%" else ""),
    }[part]
    scale = f", {100 * row['scale']:.3g} % of the paper's samples" if row["scale"] else ""
    about = f"{row['id']}: {row['claim']} {found}, {row['n_seeds']} {row['over']}{scale}: {row['verdict']}"
    return shown, about


def list_modules(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put in place of a line ``{modules} PACKAGE [but NAME …]`` the reference of the modules that lie in that package's folder."""
    source[0] = MODULES.sub(lambda line: reference(line[1], (line[2] or "").split()), source[0])


def reference(package: str, left_out: Sequence[str] = ()) -> str:
    """Return the reference of a package's own modules, in Markdown, those of its subpackages left out.

    Raises
    ------
    ExtensionError
        If there is no such package, or a module to leave out is not there.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ExtensionError(f"{{modules}} {package}: there is no such package")
    folders = [str(folder) for folder in found.submodule_search_locations]
    names = [one.name for one in pkgutil.iter_modules(folders) if not one.ispkg and one.name != "__main__"]
    if unknown := set(left_out) - set(names):
        raise ExtensionError(f"{{modules}} {package}: has no module {', '.join(sorted(unknown))} to leave out")
    listed = [f"{package}.{name}" for name in names if name not in left_out]
    directive = "```{{eval-rst}}\n.. automodule:: {0}\n   :members:\n```\n"
    return "\n".join(f"## `{name}`\n\n{directive.format(name)}" for name in listed)


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


def extract_data(html: str, page: Path, site: Path, *, single: bool = False) -> str:
    """Write every ``data:`` URI of a page to a file of the site and return the page that links to it."""
    downloads = site / "_downloads" / page.relative_to(site).with_suffix("")
    written: dict[Path, bytes] = {}

    def to_file(tag: re.Match[str]) -> str:
        uri = DATA_URI.search(tag[0])
        if uri is None:
            return tag[0]
        attribute, mime, encoded = uri.groups()
        content = base64.b64decode(encoded)
        name = DOWNLOAD.search(tag[0])
        if attribute == "href" and name:
            apart = hashlib.sha256(content).hexdigest()[:8] if single else ""  # one page of many has names of many
            target = downloads / apart / Path(name[1]).name
        elif mime in SUFFIXES:
            target = site / "_images" / (hashlib.sha256(content).hexdigest()[:16] + SUFFIXES[mime])
        else:
            return tag[0]
        if written.setdefault(target, content) != content:
            raise ExtensionError(f"{page.name}: two different downloads are both named {target.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        link = Path(os.path.relpath(target, page.parent)).as_posix()
        return tag[0].replace(uri[0], f'{attribute}="{link}"')

    return DATA_TAG.sub(to_file, html)


def lighten_pages(site: Path, *, single: bool = False) -> None:
    """Move embedded data out of all pages and drop the scripts that would fetch from outside."""
    for page in site.rglob("*.html"):
        if "_static" in page.relative_to(site).parts:
            continue
        html = page.read_text(encoding="utf-8")
        lighter = extract_data(PRINT_BLOCK.sub("", THEBE.sub("", html)), page, site, single=single)
        if lighter != html:
            page.write_text(lighter, encoding="utf-8")


def strip_sources(sources: Path) -> None:
    """Leave the outputs out of the notebooks that pages offer for download: they are on the page."""
    for path in sources.rglob("*.ipynb*"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = []
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")


def prune_static(static: Path, mathjax_path: str) -> None:
    """Keep of MathJax the script the pages load and its fonts; drop source maps, and fonts that are there as WOFF2 too."""
    script = static / mathjax_path
    mathjax = script.parent
    kept = {script, *mathjax.glob("output/chtml/fonts/woff-v2/*")}
    if script.is_file():
        for path in [path for path in mathjax.rglob("*") if path.is_file() and path not in kept]:
            path.unlink()
        for folder in sorted((path for path in mathjax.rglob("*") if path.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
    for path in static.rglob("*.map"):
        path.unlink()
    for path in static.rglob("*.ttf"):
        if path.with_suffix(".woff2").is_file():
            path.unlink()
    for path in static.glob("sphinx-thebe*"):
        path.unlink()
    shutil.rmtree(static / "locales", ignore_errors=True)


def finish(app: Sphinx, error: Exception | None) -> None:
    """Make the built site light and self-contained."""
    if error is None and app.builder.format == "html":
        site = Path(app.outdir)
        lighten_pages(site, single=app.builder.name == "singlehtml")
        strip_sources(site / "_sources")
        prune_static(site / "_static", app.config.mathjax_path)


def describe_fields(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Append to the docstring of a config class what its fields say about themselves."""
    if what != "class" or not dataclasses.is_dataclass(obj):
        return
    helped = [(one.name, one.default, one.metadata["help"]) for one in dataclasses.fields(obj) if one.metadata]
    if helped:
        lines += [
            "",
            ":Fields:",
            *(f"    * **{name}** (``{default!r}``) -- {text}" for name, default, text in helped),
        ]


def skip_tuple_fields(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the members of a named tuple: its docstring has them, autodoc adds nothing."""
    return True if type(obj).__name__ == "_tuplegetter" else None


_constants: dict[str, list[str]] = {}  # what napoleon was given to read


def remember_constant(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep the docstring of a constant or field as it is, until napoleon has read it."""
    if what in ("data", "attribute"):
        _constants[name] = list(lines)


def keep_constant_text(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Give a constant or field its docstring back, for the same reason as a property."""
    if what in ("data", "attribute"):
        lines[:] = _constants.pop(name)


def keep_property_text(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Give a property its docstring back: napoleon takes what stands before a colon for its type."""
    if what == "property":
        lines[:] = prepare_docstring(obj.__doc__ or "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the roles and the work after the build."""
    app.add_config_value("mfr_values", "executed/values.json", "env", str)
    app.add_config_value("mfr_ledger", "results/claims.json", "env", str)
    app.add_role("val", ValueRole())
    for part in ("ours", "effect", "verdict"):
        app.add_role(part, LedgerRole(part))
    app.add_role("paper", PaperRole())
    app.connect("source-read", prepare_notebook)
    app.connect("source-read", list_modules)
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", describe_fields)
    app.connect("autodoc-process-docstring", keep_property_text, priority=900)
    app.connect("autodoc-process-docstring", remember_constant, priority=100)
    app.connect("autodoc-process-docstring", keep_constant_text, priority=900)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    # Late: sphinx-mathjax-offline copies its files at the default priority, 500.
    app.connect("build-finished", finish, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
