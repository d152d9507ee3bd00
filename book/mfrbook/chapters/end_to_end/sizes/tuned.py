"""End-to-end SAEs on the chapter's tokens, each objective at the learning rate that suits it (D1r)."""

from mfrbook.chapters.end_to_end.sizes import rates
from mfrbook.experiments.planned import Asked, Collect, archived, collector
from mfrbook.store.runs import Run

ARCHIVED_SEEDS = 5
"""Of how many seeds, from 0 on, the archive holds all objectives."""


asked: Asked = archived(lambda: rates.suited(1, ARCHIVED_SEEDS))
"""For each seed the run of each objective; of the archive alone."""
collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded from the archive."""
