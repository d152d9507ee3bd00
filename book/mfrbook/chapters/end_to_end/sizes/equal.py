"""End-to-end SAEs on SmolLM2 at equal L0: one SAE of each objective, to be compared without interpolation and looked at side by side (D4)."""

from collections.abc import Mapping

from mfrbook.chapters.end_to_end import runs as end_to_end
from mfrbook.chapters.end_to_end.sizes import smollm2
from mfrbook.experiments.planned import Asked, Collect, Planned, archived, collector
from mfrbook.store.runs import Run

SPARSITIES: Mapping[str, float] = {"local": 23.0, "e2e": 3.6, "downstream": 125.0}
"""λ of the one SAE of each objective: by the fronts of `smollm2`, L0 is then about 18, the middle k of the chapter on language models."""
ARCHIVED_SEEDS = 3
"""Of how many seeds, from 0 on, the archive holds all objectives."""


def config_of(objective: str, seed: int) -> end_to_end.EndToEndConfig:
    """Return the config of an objective and seed."""
    return smollm2.config_of(objective, seed, {"sparsity": SPARSITIES.get(objective), "n_saes": 1})


asked: Asked = archived(
    lambda: [
        {name: Planned("end-to-end", config_of(name, seed), smollm2.DATA_ID) for name in SPARSITIES}
        for seed in range(ARCHIVED_SEEDS)
    ]
)
"""For each seed the run of each objective; of the archive alone."""
collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded from the archive."""
