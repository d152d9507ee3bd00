"""What helps readers to find things: both spellings in the search, the API last, links to the sources."""

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


@pytest.mark.slow
def test_a_built_site_finds_both_spellings_and_ranks_the_api_last(tmp_path):
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
