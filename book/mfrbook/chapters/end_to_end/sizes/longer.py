"""End-to-end SAEs on four times the tokens, each objective at the learning rate that suits it then: what becomes of the gain (D1t, Q20)."""

from mfrbook.chapters.end_to_end.sizes import rates
from mfrbook.experiments.planned import Asked, Collect, archived, collector
from mfrbook.store.runs import Run

ARCHIVED_SEEDS = 3
"""Of how many seeds, from 0 on, the archive holds all objectives."""


asked: Asked = archived(lambda: rates.suited(rates.LONGER, ARCHIVED_SEEDS))
"""For each seed the run of each objective; of the archive alone."""
collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded from the archive."""
