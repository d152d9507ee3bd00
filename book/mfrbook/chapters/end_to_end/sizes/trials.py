"""Local SAEs on SmolLM2 at other learning rates: does the one that all objectives have there suit the front they are held against?"""

from mfrbook.chapters.end_to_end.sizes import smollm2
from mfrbook.experiments.planned import Asked, Collect, Planned, archived, collector
from mfrbook.store.runs import Run

OTHERS = (0.01, 0.03)
"""Rates tried besides the chapter's, with one seed."""


asked: Asked = archived(
    lambda: [
        Planned("end-to-end", smollm2.config_of("local", 0, one), smollm2.DATA_ID)
        for one in ({}, *({"learning_rate": rate, "n_seen": 100} for rate in OTHERS))
    ]
)
"""The local runs of the first seed, a rate each; of the archive alone."""
collect: Collect[list[Run]] = collector(asked)
"""What `asked` plans, loaded from the archive."""
