"""What `make book` has made of this checkout, and what its downloads must be like."""

import os
import re
from pathlib import Path

import pandas as pd

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


NUMBER = re.compile(r"[−+-]?\d[\d,.]*(e[+-]?\d+)?\s*%?(\s*\[.*\])?")


def mixed_columns(data: pd.DataFrame) -> list[str]:
    """Return the columns of a download that hold numbers among words, or one bound of an interval without the other."""
    text = data.select_dtypes(exclude="number")
    found = [name for name in text if any(NUMBER.fullmatch(str(cell)) for cell in text[name].dropna())]
    for name in data:
        bounds = [f"{name} low" in data, f"{name} high" in data]
        if any(bounds) and not all(bounds):
            found.append(name)
    return found
