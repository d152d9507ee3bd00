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
    """A copy of the project with the published book, and the variables of the environment in which it was built."""

    folder: Path
    variables: dict[str, str]

    @property
    def site(self) -> Path:
        """The rendered pages."""
        return Edition(self.folder, "published").site

    def call(self, *line: str) -> subprocess.CompletedProcess[str]:
        """Call a module of the copy, which must not fail."""
        done = subprocess.run(
            [sys.executable, "-m", *line], cwd=self.folder, env=self.variables, capture_output=True, text=True
        )
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
    folder, whole, there = place / "project", place / "whole", places()
    variables = {name: value for name, value in os.environ.items() if name not in there} | {
        "PYTHONPATH": os.pathsep.join(map(str, (folder, folder / "book", folder / "book" / "_ext"))), "MPLBACKEND": "agg",
        **{name: value for name, value in there.items() if value},
    }  # fmt: skip
    book = Built(folder, variables)
    with FileLock(place / "lock"):
        if not whole.exists():
            left_out = (".*", "_build", "runs", "__pycache__", "*.egg-info")
            shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns(*left_out))
            if up_to_date(PROJECT):
                shutil.copytree(Edition(PROJECT, "published").site, book.site)
            else:
                book.call("mfrbook", "book", "--no-spot-checks")
            whole.touch()
    return book
