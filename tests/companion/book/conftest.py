"""The published book, for all tests that look at it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock

from mfrbook.book.edition import Edition
from mfrbook.store.provenance import PROJECT
from tests.companion.book.made import places, up_to_date


class Built(NamedTuple):
    """A copy of the project with the published book, and where the runs and data were that it was built from."""

    folder: Path
    places: dict[str, str]

    @property
    def store(self) -> str:
        """Where the copy's small runs lie: tests that need the same run compute it once."""
        return str(self.folder / ".runs")

    @property
    def site(self) -> Path:
        """The rendered pages."""
        return Edition(self.folder, "published").site

    def call(self, *line: str, **places: str) -> subprocess.CompletedProcess[str]:
        """Call a module of the copy, which must not fail; with a store of the copy's own and no data, unless told places."""
        variables = {name: value for name, value in os.environ.items() if name != "MFR_DATA"} | {
            "PYTHONPATH": os.pathsep.join(map(str, (self.folder, self.folder / "book", self.folder / "book" / "_ext"))),
            "MFR_CACHE": self.store, "MPLBACKEND": "agg",
        }  # fmt: skip
        whole = [sys.executable, "-m", *line]
        done = subprocess.run(whole, cwd=self.folder, env=variables | places, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return done


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The published book in a copy of the project, made once for all processes: the reader's own stays as it is.

    What `make book` has made is copied where nothing has changed that it is made from; else the book is built.
    """
    place = tmp_path_factory.getbasetemp()
    place = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "published-book"
    place.mkdir(exist_ok=True)
    whole = place / "whole"
    there = places() if up_to_date(PROJECT) else {}
    book = Built(place / "project", {name: value for name, value in there.items() if value})
    with FileLock(place / "lock"):
        if not whole.exists():
            left_out = (".*", "_build", "runs", "__pycache__", "*.egg-info")
            shutil.copytree(PROJECT, book.folder, ignore=shutil.ignore_patterns(*left_out))
            if there:
                shutil.copytree(Edition(PROJECT, "published").site, book.site)
            else:
                book.call("mfrbook", "book", "--no-spot-checks")
            whole.touch()
    return book
