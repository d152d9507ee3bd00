"""End-to-end SAEs on four times the tokens, each objective at the learning rate that suits it then: what becomes of the gain (D1t, Q20)."""

from collections.abc import Mapping
from typing import Any

from mfrbook.chapters.end_to_end import rates
from mfrbook.experiments.planned import Collect, Planned, collector
from mfrbook.store.runs import Run

ARCHIVED_SEEDS = 3
"""Of how many seeds, from 0 on, the archive holds all objectives."""


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the objectives that the archive holds; none at other profiles, whose books do not make them anew."""
    return rates.suited(rates.LONGER, ARCHIVED_SEEDS) if profile == "published" else []


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded from the archive."""
