"""Local SAEs on SmolLM2 at other learning rates: does the one that all objectives have there suit the front they are held against?"""

from collections.abc import Mapping
from typing import Any

from mfrbook.chapters.end_to_end.sizes import smollm2
from mfrbook.experiments.planned import Collect, Planned, collector
from mfrbook.store.runs import Run

OTHERS = (0.01, 0.03)
"""Rates tried besides the chapter's, with one seed."""


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[Planned]:
    """Return the local runs of the first seed, a rate each; none at other profiles, whose books do not make them anew."""
    changes = ({}, *({"learning_rate": rate, "n_seen": 100} for rate in OTHERS)) if profile == "published" else ()
    return [Planned("end-to-end", smollm2.config_of("local", 0, one), smollm2.DATA_ID) for one in changes]


collect: Collect[list[Run]] = collector(asked)
"""What `asked` plans, loaded from the archive."""
