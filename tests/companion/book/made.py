"""What `make book` has made of this checkout, for tests that need no more than that."""

import os
from pathlib import Path

from mfrbook.book.edition import Edition
from mfrbook.store.provenance import PROJECT

BUILT_WITH = {name: os.environ.get(name) for name in ("MFR_CACHE", "MFR_DATA")}
"""Read when tests are collected: each has a store of its own later."""
SOURCES = ("_config.yml", "book", "notebooks", "mfrlib")
NOT_SOURCES = {"executed", "__pycache__", "profiles", "mfrlib.egg-info", "mfrbook.egg-info"}


def places() -> dict[str, str]:
    """Return where `make book` has its runs and its data, if it has any: MFR_CACHE and MFR_DATA."""
    return {"MFR_CACHE": BUILT_WITH["MFR_CACHE"] or str(PROJECT / ".runs"), "MFR_DATA": BUILT_WITH["MFR_DATA"] or ""}


def up_to_date(project: Path) -> bool:
    """Tell whether the published book of a checkout was rendered after everything that it is made from had been written."""
    rendered = Edition(project, "published").site / "searchindex.js"
    if not rendered.is_file():
        return False
    time, sources = rendered.stat().st_mtime, [project / name for name in SOURCES]
    for folder in [one for one in sources if one.is_dir()]:
        for place, inside, files in os.walk(folder):
            inside[:] = [name for name in inside if name not in NOT_SOURCES]
            sources += [folder.joinpath(place, name) for name in files if not name.endswith(".so")]
    return all(one.stat().st_mtime < time for one in sources if one.is_file())
