"""The whole book as one PDF: one HTML page by Sphinx, printed by Chromium."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from mfrbook.pages.build import BookError, render_pages

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)
"""Flags for a Chromium that needs no display and asks nothing of the network."""
_PRINTING = (
    "--headless",
    "--no-pdf-header-footer",
    "--virtual-time-budget=60000",  # formulas are typeset before the page is printed
)
REFERENCE = "Reference"
"""The part of the table of contents that is not printed."""
LEFT_OUT = (
    "features",
    "end-to-end-features",
    "paper-figures",
    "executed/synthetic-similarity",
    "executed/synthetic-readings",
    "scaling",
    "changelog",
    "environment",
    "status",
)
"""Pages that are not printed either: those to unfold, those whose figures or numbers others have, those of the project, and of clusters."""
_ON_ONE_PAGE = """
@page { size: A4; margin: 12mm }
body { font-size: 9pt }
.bd-main { zoom: 0.94 !important }
.mfr-scroll { background: none !important }
.bd-header, .bd-header-article, .bd-sidebar-primary, .bd-sidebar-secondary, .prev-next-footer, footer, details, a.headerlink, a.mfr-data,
article > section > section:not(#does-it-work):not(#if-you-train-saes) { display: none !important }
.bd-main .bd-content .bd-article h1 { font-size: 18pt; margin: 0 0 2mm }
.bd-article h2 { margin: 3mm 0 1mm; font-size: 12pt }
.bd-article p, .bd-article li { margin-bottom: 1mm; line-height: 1.35 }
.bd-article .mfr-figure, .bd-article .mfr-figure figcaption { margin: 1mm 0; font-size: 8.5pt; line-height: 1.3 }
.bd-article .mfr-figure img { max-height: 72mm; width: auto }
"""


def write_pdf(project: Path) -> Path:
    """Print the book as it was last gathered by `mfrbook.pages.build.gather`, without the API; return the file, `_build/book.pdf`.

    Raises
    ------
    BookError
        If there is no Chromium, no built book, or nothing came out.
    """
    browser, _ = _needs(project)
    toc = project / "_build" / "toc-of-pdf.yml"
    toc.write_text(contents_of_pdf((project / "book" / "_toc.yml").read_text(encoding="utf-8")), encoding="utf-8")
    site = project / "_build" / "singlehtml"
    shutil.rmtree(site, ignore_errors=True)
    # Not strict: links to the API, which was rendered strictly before, are words here.
    render_pages(project, project / "book", project, "singlehtml", project / "_config.yml", toc, strict=False)
    return _print(browser, site / "index.html", project / "_build" / "book.pdf")


def write_summary(project: Path) -> Path:
    """Print the answer of the home page as last built, with its figure and advice, on one page; return `_build/summary.pdf`.

    Raises
    ------
    BookError
        If there is no Chromium, no built book, or nothing came out.
    """
    browser, home = _needs(project)
    html = home.read_text(encoding="utf-8")
    page = home.with_name("summary.html")
    page.write_text(html.replace("</head>", f"<style>{_ON_ONE_PAGE}</style></head>"), encoding="utf-8")
    try:
        return _print(browser, page, project / "_build" / "summary.pdf")
    finally:
        page.unlink()


def contents_of_pdf(toc: str) -> str:
    """Return a table of contents (`_toc.yml`) without the reference, and without the pages left out."""
    import yaml

    contents = yaml.safe_load(toc)
    contents["parts"] = [one for one in contents["parts"] if one["caption"] != REFERENCE]
    chapters = (one for part in contents["parts"] for one in part["chapters"] if "sections" in one)
    for level, name in (*((part, "chapters") for part in contents["parts"]), *((one, "sections") for one in chapters)):
        level[name] = [one for one in level[name] if one["file"] not in LEFT_OUT]
        if not level[name]:
            del level[name]
    return yaml.safe_dump(contents, sort_keys=False)


def _needs(project: Path) -> tuple[str, Path]:
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser is None:
        raise BookError(f"a PDF is printed by Chromium, and none of {', '.join(CHROMIUM)} is installed")
    home = project / "_build" / "html" / "index.html"
    if not home.is_file():
        raise BookError("there is no built book to print: run make book first")
    return browser, home


def _print(browser: str, page: Path, target: Path) -> Path:
    target.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        own = [f"--user-data-dir={profile}", f"--print-to-pdf={target}", page.resolve().as_uri()]
        line = [browser, *QUIET, *_PRINTING, *own]
        done = subprocess.run(line, capture_output=True, encoding="utf-8", errors="replace", timeout=600)
    if not target.is_file():
        raise BookError(f"Chromium printed nothing: {done.stderr.strip()[-1000:]}")
    return target
