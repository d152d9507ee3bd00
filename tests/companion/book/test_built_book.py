"""The built book as a reader meets it: every page checked as a file, then opened in headless Chromium.

What `make book` has built is taken where nothing that it is made from has changed since; else the book is built once.
"""

import functools
import http.server
import io
import json
import re
import shutil
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest

from mfrbook.book.edition import Edition
from mfrbook.book.notebooks import NAMES
from mfrbook.pages import pdf
from mfrbook.store.provenance import PROJECT
from tests.companion.book.made import mixed_columns
from tests.companion.book.test_snakefile import jobs

PHONE = 420
GENERATED = {"genindex.html", "py-modindex.html", "search.html"}  # Sphinx's own: no headings of ours

TYPESET = "async () => { await window.MathJax?.startup?.promise }"
# What reaches beyond the screen and has no box around it that scrolls.
CUT_OFF = """() => {
    const scrolls = box => box && (["auto", "scroll"].includes(getComputedStyle(box).overflowX)
        || scrolls(box.parentElement));
    return [...document.querySelectorAll(".bd-article :is(table, pre, img, mjx-container)")]
        .filter(one => one.getBoundingClientRect().right > innerWidth && !scrolls(one))
        .map(one => one.outerHTML.slice(0, 80));
}"""
# Of each picture that is shown its figure, its own width and that on the screen: labels have 9 points, 12 pixels, at full width.
PICTURES = """() => [...document.querySelectorAll("figure.mfr-figure[id] img")].filter(one => one.offsetWidth)
    .filter(one => !one.closest(".mfr-parts")).map(one => [one.closest("figure").id, one.naturalWidth, one.offsetWidth])"""
# Tables that are wider than their box, which a phone may scroll and a screen need not.
SCROLLING = """() => [...document.querySelectorAll(".mfr-scroll, .pst-scrollable-table-container")]
    .filter(box => box.querySelector("table") && box.scrollWidth > box.clientWidth + 1).map(box => box.innerText.slice(0, 60))"""


class Page(HTMLParser):
    """What a page refers to, names, loads and shows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()
        self.headings: list[int] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.names |= {attributes[key] or "" for key in ("id", "name") if key in attributes}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"] or "")
        if attributes.get("src"):
            self.loaded.append(attributes["src"] or "")
        if tag == "link" and attributes.get("rel") in ("stylesheet", "preload", "icon", "shortcut icon"):
            self.loaded.append(attributes.get("href") or "")
        if tag == "img":
            self.images.append(attributes)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


def read_site(site: Path) -> dict[Path, Page]:
    """Parse every page of a built book; the theme's own files are left out."""
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def faults(site: Path) -> list[str]:
    """Return everything wrong with the pages of a built book that shows without a browser."""
    pages, found = read_site(site), []
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded:
                    found.append(f"{name}: loads {link[:80]}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{name}: {link} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
                found.append(f"{name}: {link} names no place on its page")
        for image in page.images:
            alt = image.get("alt")
            decorative = "mfr-dark" in (image.get("class") or "").split()
            if alt is None or (len(alt) < 20 and not decorative):
                found.append(f"{name}: image {image.get('src')} has alt text {alt!r}")
        if name not in GENERATED:
            steps = [later - earlier for earlier, later in zip(page.headings, page.headings[1:], strict=False)]
            if page.headings.count(1) != 1 or page.headings[0] != 1 or max(steps, default=0) > 1:
                found.append(f"{name}: headings go {page.headings}")
        if path.stat().st_size >= 300_000:
            found.append(f"{name}: {path.stat().st_size} bytes")
    for style in site.rglob("*.css"):
        for url in re.findall(r"(?:url\(|@import\s)[\"']?(https?:[^\"')\s]+)", style.read_text("utf-8")):
            found.append(f"{style.relative_to(site)}: loads {url}")
    return found


@pytest.fixture
def tiny_site(tmp_path):
    (tmp_path / "a.svg").write_text("<svg/>")
    (tmp_path / "b.html").write_text('<h1 id="top">B</h1><h2>C</h2>')
    page = '<h1>A</h1><a href="b.html#top">b</a><img src="a.svg" alt="A line that rises to the right">'
    (tmp_path / "index.html").write_text(page)
    return tmp_path


def test_a_sound_site_has_no_faults(tiny_site):
    assert faults(tiny_site) == []


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        ('<a href="c.html">', "leads nowhere"),
        ('<a href="b.html#bottom">', "names no place"),
        ('<img src="a.svg" alt="a.svg">', "has alt text 'a.svg'"),
        ('<img src="a.svg">', "has alt text None"),
        ('<script src="https://example.org/x.js"></script>', "loads https://example.org"),
        ('<link rel="stylesheet" href="https://example.org/x.css">', "loads https://example.org"),
        ("<h1>Again</h1>", "headings go"),
        ("<h3>Deep</h3>", "headings go"),
        ("x" * 300_000, "bytes"),
    ],
)
def test_a_planted_fault_is_found(tiny_site, planted, fault):
    page = tiny_site / "index.html"
    page.write_text(page.read_text() + planted)
    (found,) = faults(tiny_site)
    assert fault in found


@pytest.fixture(scope="module")
def site(built):
    return built.site


def open_page(browser, *, width: int = 1280, scheme: str = "light"):
    """Return a fresh tab, and the list of what goes wrong in it."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    # What was still on its way when the next page was opened did not fail.
    page.on(
        "requestfailed",
        lambda one: None if one.failure == "net::ERR_ABORTED" else wrong.append(f"failed: {one.url} {one.failure}"),
    )
    local = ("file:", "data:", "blob:", "http://127.0.0.1:")
    page.on("request", lambda one: None if one.url.startswith(local) else wrong.append(f"outside: {one.url}"))
    return page, wrong


@pytest.mark.slow
def test_the_published_book_is_whole(built):
    executed = Edition(built.folder, "published").executed
    for name in NAMES:
        page = (built.site / "executed" / f"{name}.html").read_text()
        assert "mfr-provenance" in page
        assert "mfr-data" in page
    values = json.loads((executed / "values.json").read_text())
    assert set(values) - {"performance", "durations"} == set(NAMES)
    assert all(values.values())
    assert (executed / "status.md").read_text().count("| ok |") == len(NAMES)
    assert json.loads((executed / "claims.json").read_text())


@pytest.mark.slow
def test_what_make_book_built_is_done_and_a_changed_page_is_rendered(built):
    pytest.importorskip("snakemake", reason="needs Snakemake: pip install ./book")
    line = ["snakemake", "--snakefile", "book/Snakefile", "--cores", "2", "--config", "profile=published"]
    assert jobs(built.call(*line, **built.places)) == {}
    page = built.folder / "book" / "rerun.md"
    whole = page.read_text()
    page.write_text(whole + "\nOne sentence more.\n")
    assert jobs(built.call(*line, "--dry-run", **built.places)) == {"pages": 1, "book": 1}
    page.write_text(whole)


@pytest.mark.slow
def test_pages_are_sound(site):
    assert faults(site) == []


@pytest.mark.slow
def test_every_download_is_data(site):
    files = sorted((site / "_downloads").rglob("*.csv"))
    assert len(files) > 40
    wrong = {file.name: mixed_columns(pd.read_csv(file)) for file in files}
    assert {name: columns for name, columns in wrong.items() if columns} == {}


@pytest.mark.slow
def test_the_site_is_light(site):
    files = [path for path in site.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 34_000_000
    assert [path for path in (site / "_images").iterdir() if path.stat().st_size >= 300_000] == []


@pytest.mark.slow
def test_every_page_opens_without_errors_and_fits_a_phone_and_a_desk(site, browser):
    """Of the listings of our modules, which are all alike, the largest. Labels of figures can be read on a phone."""
    written, listings = [], []
    for path in read_site(site):
        (listings if "_modules" in path.parts else written).append(path)
    assert len(written) > 40
    largest = sorted(listings, key=lambda one: one.stat().st_size)[-3:]
    page, wrong = open_page(browser, width=PHONE)
    for path in [*written, *largest]:
        page.set_viewport_size({"width": PHONE, "height": 900})
        page.goto(path.as_uri())
        page.evaluate(TYPESET)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            for figure, natural, width in page.evaluate(PICTURES):
                if not natural or width < 0.7 * natural:
                    wrong.append(f"#{figure} in {scheme} is {width} px wide instead of {natural}")
        for width in (PHONE, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            reach = page.evaluate("document.scrollingElement.scrollWidth")
            if reach > width:
                wrong.append(f"reaches {reach} px")
            wrong += [f"cut off: {element}" for element in page.evaluate(CUT_OFF)]
        if width > PHONE:
            wrong += [f"scrolls: {table}" for table in page.evaluate(SCROLLING)]
            assert not wrong, f"{path.relative_to(site)} at {width} px: {wrong}"
    page.close()


@pytest.mark.slow
def test_the_whole_book_is_printed(built):
    if not any(map(shutil.which, pdf.CHROMIUM)):
        pytest.skip("needs Chromium on the path")
    printed = pdf.write_pdf(built.folder).read_bytes()
    assert printed.startswith(b"%PDF")
    assert 50 < printed.count(b"/Type /Page\n") <= 150  # a page each, besides the tree of pages
    assert len(printed) < 25_000_000


@pytest.mark.slow
def test_the_summary_is_one_page(built):
    if not any(map(shutil.which, pdf.CHROMIUM)):
        pytest.skip("needs Chromium on the path")
    printed = pdf.write_summary(built.folder).read_bytes()
    assert printed.count(b"/Type /Page\n") == 1
    assert not (built.site / "summary.html").exists()


@pytest.mark.slow
def test_maths_is_typeset(site, browser):
    page, wrong = open_page(browser)
    page.goto((site / "method.html").as_uri())
    page.wait_for_selector("mjx-container[display=true] mjx-math")
    assert page.locator("mjx-container").count() > 20
    assert page.locator("mjx-merror").count() == 0
    assert not wrong
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["method", "executed/synthetic-similarity"])
def test_figures_follow_the_colour_scheme(site, browser, name):
    from PIL import Image, ImageStat

    brightness = {}
    for scheme, shown in (("light", "mfr-light"), ("dark", "mfr-dark")):
        page, _ = open_page(browser, scheme=scheme)
        page.goto((site / f"{name}.html").as_uri())
        figure = page.locator("figure.mfr-figure").first
        (visible,) = [one for one in figure.locator("img").all() if one.is_visible()]  # no part of it on a desk
        assert shown in visible.get_attribute("class").split()
        picture = Image.open(io.BytesIO(visible.screenshot())).convert("L")
        brightness[scheme] = ImageStat.Stat(picture).median[0]
        page.close()
    assert brightness["light"] > 200
    assert brightness["dark"] < 60


@pytest.mark.slow
def test_the_reader_can_switch_the_scheme(site, browser):
    page, _ = open_page(browser)
    page.goto((site / "method.html").as_uri())
    for _ in range(3):
        page.locator("button.theme-switch-button").first.click()
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    assert page.locator("figure.mfr-figure img.mfr-dark").first.is_visible()
    page.close()


def shipped(site: Path, page, figure: str) -> pd.DataFrame:
    """Return the last CSV that a figure of the open page offers: of one that responds, all that it can show."""
    link = page.locator(f"figure#{figure} a.mfr-data").last.get_attribute("href")
    return pd.read_csv((Path(urlsplit(page.url).path).parent / unquote(link)).resolve())


def percent(share: float) -> str:
    """Round as a browser does."""
    return f"{int(100 * share + 0.5)} %"


@pytest.fixture(scope="module")
def tab(browser):
    """One page for all figures that respond."""
    page, wrong = open_page(browser)
    yield page
    assert not wrong
    page.close()


@pytest.mark.slow
class TestFiguresThatRespond:
    """Moved by keys alone, each says what the CSV has that it ships; without a script there is the still picture."""

    def opened(self, tab, site, name: str, figure: str):
        """Open a page, unfold what responds in a figure by keys, and return it."""
        tab.goto((site / f"{name}.html").as_uri())
        live = tab.locator(f"figure#{figure} .mfr-live")
        live.locator("summary").press("Enter")
        assert live.get_attribute("open") is not None
        return live

    def test_every_choice_of_the_home_figure(self, site, tab):
        live = self.opened(tab, site, "index", "answer")
        table = shipped(site, tab, "answer")
        # Of a combination that was run at several sizes the largest is shown; without a penalty its loss does not matter.
        choices = ["data", "matching", "loss", "centred", "reinit"]
        table = table.sort_values("samples").drop_duplicates(choices, keep="last")
        assert len(table) > 5
        for row in table.itertuples():
            for name in choices:
                live.locator(f"select[name={name}]").select_option(getattr(row, name))
            said = live.locator("p").inner_text()
            assert f"by one SAE: {percent(row.each)}; " in said
            assert f"by the two together: {percent(row.any)}" in said
            assert f"({row.seeds} seeds, {row.samples:,} samples, " in said
        live.locator("select[name=reinit]").select_option("yes")
        live.locator("select[name=centred]").select_option("yes")
        assert live.locator("p").inner_text() == "This combination was not run."

    @pytest.mark.parametrize(
        ("page", "figure"), [("eeg", "eeg-over-training"), ("language-models", "gpt2-over-training")]
    )
    def test_change_by_k_stops_where_the_slider_is(self, site, tab, page, figure):
        live = self.opened(tab, site, page, figure)
        table = shipped(site, tab, figure)
        stops = list(dict.fromkeys(table["samples"]))
        slider = live.locator("input[name=stop]")
        for key, stop in (("End", -1), ("ArrowLeft", -2), ("Home", 0), ("ArrowRight", 1)):
            slider.press(key)
            said, now = live.locator("p").inner_text(), table[table["samples"] == stops[stop]]
            assert f"After {stops[stop]:,} samples" in said
            for row in now.itertuples():
                shown = float(re.search(rf"{row.line}: ([+−]\d+\.\d)", said)[1].replace("−", "-"))
                assert abs(shown - table.loc[row.Index, "change in %"]) <= 0.05 + 1e-9

    def test_the_thresholds_of_figure_2_move(self, site, tab):
        live = self.opened(tab, site, "synthetic", "released-figure-2")
        table = shipped(site, tab, "released-figure-2")
        assert live.locator("svg circle").count() == len(table)
        at = {"alike": 0.7, "unlike": 0.4, "found": 0.9}
        for name, key, step in (("alike", "ArrowLeft", -0.01), ("unlike", "ArrowRight", 0.01), ("found", "End", 0.1)):
            live.locator(f"input[name={name}]").press(key)
            at[name] = round(at[name] + step, 2)
            said = live.locator("p").inner_text()
            inside = (table["across_max"] >= at["alike"]) & (table["input_max"] < at["unlike"])
            assert f": {inside.sum()} of {len(table)} features." in said
            assert live.locator("svg circle.marked").count() == inside.sum()
            shared, true = table["across_max"] >= at["found"], table["input_max"] >= at["found"]
            share = percent((shared & true).sum() / shared.sum()) if shared.any() else "none"
            assert f"{percent(true.mean())} of all features are true, and {share} of the {shared.sum()} that" in said

    def test_without_a_script_the_still_picture_is_there(self, site, browser):
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        for name, figure in (("index", "answer"), ("eeg", "eeg-over-training"), ("synthetic", "released-figure-2")):
            page.goto((site / f"{name}.html").as_uri())
            assert page.locator(f"figure#{figure} img.mfr-light").first.is_visible()
            assert page.locator(f"figure#{figure} .mfr-live").count() == 0
        context.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.slow
def test_search_finds_pages_and_shows_where(site, browser):
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            page, wrong = open_page(browser)
            page.goto(f"http://127.0.0.1:{server.server_port}/search.html?q=mutual")
            page.wait_for_selector("ul.search li p.context")
            found = page.locator("ul.search li")
            assert found.count() >= 3
            assert "mutual" in found.filter(has=page.locator("p.context")).first.inner_text().lower()
            assert not wrong
            page.close()
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_an_edition_draws_every_number_from_its_own_runs(built):
    """The ledger, the values and the home page of a small edition differ from the published ones, page by page."""
    built.call("mfrbook", "book", "--profile", "smoke")
    small = Edition(built.folder, "smoke")
    assert (small.site / "index.html").is_file()
    published = json.loads((PROJECT / "book" / "results" / "claims.json").read_text())
    said = {f"{row['ours']:.6g}" for row in published if row["ours"] is not None and len(f"{row['ours']:.6g}") > 5}
    rows = json.loads((small.executed / "claims.json").read_text())
    rows = [row for row in rows if row["id"] != "Q2"]  # chance levels are of random dictionaries, at any size
    assert not said & {f"{row['ours']:.6g}" for row in rows if row["ours"] is not None}
    home = (small.site / "index.html").read_text()
    published_home = (built.site / "index.html").read_text()
    assert "Computed on this machine" in home
    assert "Computed on this machine at profile" not in published_home
    mine, theirs = (
        _numbers(one / "values.json") for one in (small.executed, Edition(built.folder, "published").executed)
    )
    assert len(mine) > 20
    assert not mine & theirs


def _numbers(file: Path) -> set[float]:
    """Return the values of full precision that notebooks displayed; those of the benchmarks are of no profile."""
    found = json.loads(file.read_text())
    constant = ("paper", "uniform", "chance")  # the papers' numbers, and what chance gives at any size
    shown = [
        one
        for name, values in found.items()
        if name not in ("performance", "durations")
        for key, one in values.items()
        if not any(word in key for word in constant)
    ]
    return {one for one in shown if isinstance(one, float) and len(repr(one)) > 10}
