"""What helps readers to find things: both spellings in the search, chapters first, excerpts offline, links to the sources."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.companion.book.extensions import FOLDER, extension


@pytest.fixture(scope="module")
def finding():
    return extension("mfr_finding")


@pytest.mark.parametrize(
    ("word", "others"),
    [
        ("re-initialisation", {"reinitialisation", "reinitialization", "re-initialization", "initialization"}),
        ("regularization", {"regularisation"}),
        ("centred", {"centered"}),
        ("behaviour", {"behavior"}),
        ("artefacts", {"artifacts"}),
        ("center", {"centre"}),
        ("feature", set()),
    ],
)
def test_a_word_is_found_by_its_other_spellings(finding, word, others):
    assert finding.spellings([word]) == others


@pytest.mark.parametrize(
    ("url", "page", "links"),
    [
        ("", "eeg", []),
        ("https://github.com/a/b", "eeg", ["https://github.com/a/b/blob/HEAD/book/eeg.md"]),
        (
            "https://github.com/a/b/",
            "executed/eeg",
            [
                "https://github.com/a/b/blob/HEAD/notebooks/eeg.ipynb",
                "https://mybinder.org/v2/gh/a/b/HEAD?labpath=notebooks/eeg.ipynb",
            ],
        ),
        ("https://example.org/a", "executed/eeg", ["https://example.org/a/blob/HEAD/notebooks/eeg.ipynb"]),
    ],
)
def test_the_repository_s_address_switches_links_on(finding, url, page, links):
    app, context = SimpleNamespace(config=SimpleNamespace(mfr_repository=url)), {"header_buttons": []}
    finding.link_sources(app, page, "page.html", context, object())
    assert [one["url"] for one in context["header_buttons"]] == links


ARTICLE = '<div role="main"><article class="bd-article"><h1>EEG</h1><p>It  uses <code>mfr</code>.</p><table><td>1</td></table></article></div>'


def test_the_search_has_the_running_text_of_pages(finding, tmp_path):
    for name in ("eeg", "executed/eeg", "api/models"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.html").write_text(ARTICLE)
    (tmp_path / "_static").mkdir()
    (tmp_path / "empty.html").write_text("<p>No article.</p>")
    finding.write_texts(tmp_path)
    written = (tmp_path / "_static" / "search-texts.js").read_text()
    texts = json.loads(written.removeprefix("window.mfrTexts = ").rstrip(";\n"))
    assert texts == {"eeg": "EEG It uses mfr.", "executed/eeg": "EEG It uses mfr."}


@pytest.mark.slow
def test_offline_chapters_are_first_and_have_excerpts(finding, browser, tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "eeg.html").write_text(ARTICLE)
    finding.write_texts(tmp_path)
    page = tmp_path / "search.html"
    page.write_text(f"<!DOCTYPE html><head><script>{(FOLDER / 'scorer.js').read_text()}</script></head>")
    tab = browser.new_page()
    tab.goto(page.as_uri())
    names = ["changelog", "api/models", "rerun", "executed/eeg", "eeg", "index"]
    scores = tab.evaluate("(names) => names.map((name) => Scorer.score([name, '', '', null, 5, '']))", names)
    ranked = [name for _, name in sorted(zip(scores, names, strict=True), reverse=True)]
    assert ranked == ["index", "eeg", "executed/eeg", "rerun", "changelog", "api/models"]
    read = "async (url) => await (await fetch(url)).text()"
    assert tab.evaluate(read, "./eeg.html") == '<div role="main">EEG It uses mfr.</div>'
    assert tab.evaluate(read, "./api/models.html") == ""
    tab.close()


@pytest.mark.slow
def test_a_built_site_finds_both_spellings_and_ships_its_scorer(tmp_path):
    source, html = tmp_path / "source", tmp_path / "html"
    source.mkdir()
    settings = f"import sys\nsys.path.insert(0, {str(FOLDER)!r})\nextensions = ['myst_nb', 'mfr_finding']\nhtml_theme = 'basic'\n"
    (source / "conf.py").write_text(settings)
    (source / "index.md").write_text("# Home\n\nConditional re-initialisation.\n")
    line = [sys.executable, "-m", "sphinx", "-W", "-q", str(source), str(html)]
    subprocess.run(line, check=True, capture_output=True)
    index = (html / "searchindex.js").read_text()
    terms = set(json.loads(re.search(r"\{.*\}", index, re.DOTALL)[0])["terms"])
    assert {"initialis", "reiniti"} <= terms or {"initialis", "reinitializ"} <= terms, sorted(terms)
    scripts = "".join(path.read_text() for path in (html / "_static").glob("*.js"))
    assert "api|genindex" in scripts
