"""Where files lie."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mfrbook.store.provenance import PROJECT

if TYPE_CHECKING:  # planning, which a scheduler does in every job, does without torch
    pass


def cache_folder() -> Path:
    """Return the folder that is written to: `MFR_CACHE`, or `.runs` in the project."""
    return Path(os.environ.get("MFR_CACHE") or PROJECT / ".runs")
