"""The page of a notebook that someone executed: rendered as the book is, with the published figure beside each of its own."""

import json
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from mfrbook.book import notebooks
from mfrbook.book.edition import PUBLISHED, Edition, without_links
from mfrbook.pages.build import figures_of, render_pages
from mfrlib.config import ConfigError

_IMAGE = re.compile(r"<img\b")


def write(notebook: Path, name: str, folder: Path, project: Path) -> Path:
    """Render an executed notebook and return the page.

    Parameters
    ----------
    notebook
        The executed notebook.
    name
        Its name in `notebooks/`. Where the book has that notebook, each figure stands beside the book's.
    folder
        Where the page goes; what is there gives way.
    project
        The folder with `_config.yml`, `book/` and `notebooks/`.

    Raises
    ------
    BookError
        If Sphinx cannot render it.
    """
    executed = json.loads(notebook.read_text(encoding="utf-8"))
    archived = published(name, project)
    with TemporaryDirectory() as made:
        source = Path(made)
        shutil.copy(project / "book" / "references.bib", source)
        shutil.copytree(project / "book" / "_static", source / "_static")
        (source / "index.ipynb").write_text(json.dumps(beside(executed, archived)), encoding="utf-8")
        (source / "_toc.yml").write_text("format: jb-book\nroot: index\n", encoding="utf-8")
        settings = Edition(project, PUBLISHED).settings("Run with parameters of your own: not the published book.")
        settings["title"] = name
        sphinx = settings["sphinx"]["config"]
        sphinx["html_sidebars"] = {"**": []}  # room for two figures
        sphinx["html_theme_options"]["secondary_sidebar_items"] = []
        (source / "_config.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        render_pages(project, source, source, "html", source / "_config.yml", strict=False)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source / "_build" / "html", folder)
    return folder / "index.html"


def published(name: str, project: Path) -> dict[str, str]:
    """Return the figures of the published notebook of this name; it is executed on the archived runs where it is out of date."""
    output = Edition(project, PUBLISHED).executed / f"{name}.ipynb"
    if name not in notebooks.NAMES:
        return {}
    try:
        notebooks.execute(name, {}, PUBLISHED, output, only_if_stale=True)
    except (notebooks.NotebookError, ConfigError, OSError) as error:
        print(f"the page shows no published figures: {error}", file=sys.stderr)
        return {}
    return figures_of(json.loads(output.read_text(encoding="utf-8")))


def beside(notebook: dict[str, Any], archived: dict[str, str]) -> dict[str, Any]:
    """Return a notebook whose figures stand beside those of the published book, and whose links to the book are words."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = without_links("".join(cell["source"]), set())
        for output in cell.get("outputs", []):
            drawn = "".join(output.get("data", {}).get("text/html", ""))
            for figure in figures_of({"cells": [{"outputs": [output]}]}):
                if figure in archived and _IMAGE.search(drawn):
                    output["data"]["text/html"] = _pair(figure, drawn, archived[figure])
    return notebook


def _pair(name: str, drawn: str, archived: str) -> str:
    """Return two figures side by side, the second with a name and a download of its own."""
    other = archived.replace(f'id="{name}"', f'id="{name}-published"').replace(
        f'download="{name}.csv"', f'download="{name}-published.csv"'
    )
    return (
        f'<div class="mfr-beside"><section><p class="mfr-whose">This run</p>{drawn}</section>'
        f'<section><p class="mfr-whose">Published book</p>{other}</section></div>'
    )
