"""The whole book as one PDF: one HTML page by Sphinx, printed by Chromium."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from mfrbook.pages.build import BookError, render

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


def write_pdf(project: Path) -> Path:
    """Print the book as it was last gathered by `mfrbook.pages.build.build`; return the file, `_build/book.pdf`.

    Raises
    ------
    BookError
        If there is no Chromium, no built book, or nothing came out.
    """
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser is None:
        raise BookError(f"a PDF is printed by Chromium, and none of {', '.join(CHROMIUM)} is installed")
    if not (project / "_build" / "html" / "index.html").is_file():
        raise BookError("there is no built book to print: run make book first")
    page, target = render(project, "singlehtml"), project / "_build" / "book.pdf"
    target.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        line = [
            browser,
            *QUIET,
            *_PRINTING,
            f"--user-data-dir={profile}",
            f"--print-to-pdf={target}",
            page.resolve().as_uri(),
        ]
        done = subprocess.run(line, capture_output=True, encoding="utf-8", errors="replace", timeout=600)
    if not target.is_file():
        raise BookError(f"Chromium printed nothing: {done.stderr.strip()[-1000:]}")
    return target
