"""A number stays with its unit: the space between them never ends a line of a page."""

import subprocess
import sys

import pytest

from tests.companion.book.extensions import FOLDER, extension

K = r'<span class="math notranslate nohighlight">\(k\)</span>'


@pytest.fixture(scope="module")
def units():
    return extension("mfr_units")


@pytest.mark.parametrize(
    ("html", "kept"),
    [
        ("<p>bars: 95\n% intervals</p>", "<p>bars: 95~% intervals</p>"),
        ("<p>by <abbr>2.4</abbr> % here</p>", "<p>by <abbr>2.4</abbr>~% here</p>"),
        ("13 percentage points", "13~percentage points"),
        ("<i>k</i> = 18.", "<i>k</i>~=~18."),
        (f"of {K}, and", f'of <span class="mfr-kept">{K},</span> and'),
        (f"with {K} = 18. For", f'with <span class="mfr-kept">{K}~=~18.</span> For'),
        ("Figure 2 and Figures\n4 to 5", "Figure~2 and Figures~4 to 5"),
        ("0.1 nats, 6 dB, 15 s, 2 to 3 minutes", "0.1~nats, 6~dB, 15~s, 2 to 3~minutes"),
    ],
)
def test_a_number_stays_with_its_unit(units, html, kept):
    assert units.without_breaks(html) == kept.replace("~", "\u00a0")


@pytest.mark.parametrize(
    "html",
    [
        "5 seeds, 3 sizes, 4 minor points",
        "<pre>x = 18\ny = 5 % 3</pre>",
        "<code>alpha = 3</code>",
        '<img alt="95 % of 18"><td>5</td> <td>% of all</td>',
        "a = b",
        f"{K} alone and {K}",
    ],
)
def test_other_text_and_code_are_left_alone(units, html):
    assert units.without_breaks(html) == html


@pytest.mark.slow
def test_a_built_page_keeps_them_in_prose_and_in_raw_html(tmp_path):
    source, html = tmp_path / "source", tmp_path / "html"
    source.mkdir()
    settings = f"import sys\nsys.path.insert(0, {str(FOLDER)!r})\nextensions = ['myst_nb', 'mfr_units']\nhtml_theme = 'basic'\n"
    (source / "conf.py").write_text(settings)
    (source / "index.md").write_text("# Home\n\nAbout 12 % more.\n\n```{raw} html\n<p>Bars: 95 % intervals.</p>\n```\n")
    line = [sys.executable, "-m", "sphinx", "-W", "-q", str(source), str(html)]
    subprocess.run(line, check=True, capture_output=True)
    page = (html / "index.html").read_text(encoding="utf-8")
    assert "12\u00a0% more" in page
    assert "95\u00a0% intervals" in page
