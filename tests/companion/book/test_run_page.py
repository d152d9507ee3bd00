"""The page of a notebook that someone executed with parameters of their own."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from mfrbook.pages import run_page
from mfrbook.pages.build import figures_of
from tests.companion.book.test_built_book import open_page, read_site
from tests.companion.book.test_readme import COMMANDS

FIGURE = '<figure class="mfr-figure" id="{0}"><img src="{1}"><a download="{0}.csv">Data</a></figure>'
TABLE = '<figure class="mfr-figure" id="{0}"><table><tr><td>{1}</td></tr></table></figure>'


def notebook(*shown: str, text: str = "# A run") -> dict:
    cells = [{"cell_type": "code", "source": "", "outputs": [{"data": {"text/html": one}}]} for one in shown]
    return {"cells": [{"cell_type": "markdown", "source": [text]}, *cells]}


def test_the_published_figure_stands_beside_the_new_one():
    archived = figures_of(notebook(FIGURE.format("figure-2", "old.svg"), TABLE.format("final", "old")))
    assert set(archived) == {"figure-2", "final"}
    new = notebook(
        FIGURE.format("figure-2", "new.svg"), FIGURE.format("figure-9", "own.svg"), TABLE.format("final", "new")
    )
    shown = [
        cell["outputs"][0]["data"]["text/html"]
        for cell in run_page.beside(new, archived)["cells"]
        if cell["cell_type"] == "code"
    ]
    assert shown[0].index("new.svg") < shown[0].index("old.svg")
    assert 'id="figure-2-published"' in shown[0]
    assert 'download="figure-2-published.csv"' in shown[0]
    assert "own.svg" in shown[1]
    assert "mfr-beside" not in shown[1]
    assert "old" not in shown[2], "tables stand alone"


def test_links_to_the_book_are_words_on_a_page_of_its_own():
    text = "See [readings](../readings.md), [one to one](#r9), {doc}`the other <synthetic-training>`, [a site](https://example.org)."
    (cell,) = run_page.beside(notebook(text=text), {})["cells"]
    assert cell["source"] == "See readings, one to one, the other, [a site](https://example.org)."


@pytest.mark.slow
def test_a_run_with_parameters_of_one_s_own_gives_a_page(built, tmp_path, browser):
    (line,) = [one for one in COMMANDS if "/mfr run " in one]
    said = built.call("mfrbook", *shlex.split(line)[1:]).stdout.splitlines()[-3:]
    executed, page = Path(said[0]), Path(said[1])
    assert said[2] == page.as_uri()
    assert executed.is_relative_to(built.folder / "runs")
    assert json.loads(executed.read_text())["metadata"]["papermill"]["parameters"]["alpha"] == 1
    moved = tmp_path / "elsewhere"
    shutil.copytree(page.parent, moved)  # the folder is all that the page needs
    assert not any("http" in link for one in read_site(moved).values() for link in one.loaded)
    tab, wrong = open_page(browser)
    tab.goto((moved / "index.html").as_uri())
    pair = tab.locator(".mfr-beside").first
    ours, theirs = pair.locator("section").all()
    assert "This run" in ours.inner_text()
    assert "Published book" in theirs.inner_text()
    pictures = [one.locator("img.mfr-light").first for one in (ours, theirs)]
    assert all(one.is_visible() and one.evaluate("image => image.naturalWidth") > 0 for one in pictures)
    assert pictures[0].get_attribute("src") != pictures[1].get_attribute("src")
    assert tab.evaluate("document.scrollingElement.scrollWidth") <= 1280
    assert not wrong
    tab.close()
