"""Sphinx extension of the book: light pages, and nothing fetched from outside.

After the build, images and tables carried inside the pages as ``data:`` URIs become files, and views of an image (``src="#dark"``)
get its address. MathJax is reduced to what a page loads. Scripts that would fetch from outside are dropped, and so is the
space that templates leave between tags.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DATA_TAG = re.compile(r'<(?:img|a)\b[^>]*?\b(?:src="#|src="data:|href="data:)[^>]*>')
DATA_URI = re.compile(r'\b(src|href)="data:([\w.+-]+/[\w.+-]+)[^",]*;base64,([A-Za-z0-9+/=\s]+)"')
VIEW = re.compile(r'\bsrc="(#[\w-]+)"')  # of the image before it
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

KEPT_SPACE = re.compile(r"(<(?:pre|script|textarea)\b.*?</(?:pre|script|textarea)>)", re.DOTALL)
IDLE_SPACE = re.compile(r"\s*\n\s*")


def without_idle_space(html: str) -> str:
    """Return a page without the indentation and empty lines that its templates leave, wherever space is not text."""
    parts = KEPT_SPACE.split(html)
    return "".join(part if place % 2 else IDLE_SPACE.sub("\n", part) for place, part in enumerate(parts))


def extract_data(html: str, page: Path, site: Path, *, single: bool = False) -> str:
    """Write every ``data:`` URI of a page to a file of the site and return the page that links to it."""
    downloads = site / "_downloads" / page.relative_to(site).with_suffix("")
    written: dict[Path, bytes] = {}
    image = ""

    def to_file(tag: re.Match[str]) -> str:
        nonlocal image
        uri = DATA_URI.search(tag[0])
        if uri is None:
            return VIEW.sub(rf'src="{image}\1"', tag[0]) if image else tag[0]
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
        image = link if mime in SUFFIXES and attribute == "src" else image
        return tag[0].replace(uri[0], f'{attribute}="{link}"')

    return DATA_TAG.sub(to_file, html)


def lighten_pages(site: Path, *, single: bool = False) -> None:
    """Move embedded data out of all pages and drop the scripts that would fetch from outside."""
    for page in site.rglob("*.html"):
        if "_static" in page.relative_to(site).parts:
            continue
        html = page.read_text(encoding="utf-8")
        own = without_idle_space(PRINT_BLOCK.sub("", THEBE.sub("", html)))
        lighter = extract_data(own, page, site, single=single)
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


class SharedNavigation:
    """The navigation of listings of modules, made once for each depth of folder: it marks none of them as the current page.

    Made anew for every listing, it takes a third of the time of rendering.
    """

    def __init__(self) -> None:
        self.made: dict[tuple[Any, ...], str] = {}

    def __call__(self, app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: object) -> None:
        if not pagename.startswith("_modules/"):
            return
        make, depth = context["toctree"], pagename.count("/")

        def shared(**options: Any) -> str:
            key = depth, *sorted(options.items())
            if key not in self.made:
                self.made[key] = make(**options)
            return self.made[key]

        context["toctree"] = shared


def finish(app: Sphinx, error: Exception | None) -> None:
    """Make the built site light and self-contained."""
    if error is None and app.builder.format == "html":
        site = Path(app.outdir)
        lighten_pages(site, single=app.builder.name == "singlehtml")
        strip_sources(site / "_sources")
        prune_static(site / "_static", app.config.mathjax_path)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the work on pages, and that after the build."""
    # Early: the theme renders its templates at the default priority, 500.
    app.connect("html-page-context", SharedNavigation(), priority=400)
    # Late: sphinx-mathjax-offline copies its files at the default priority, 500.
    app.connect("build-finished", finish, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
