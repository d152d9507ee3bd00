"""End-to-end SAEs on a real model, SmolLM2: the three objectives in the middle of its blocks, each at several sparsities (D1-D3)."""

from collections.abc import Mapping
from typing import Any

from mfrbook.chapters.end_to_end import runs as end_to_end
from mfrbook.experiments.planned import Asked, Collect, Planned, archived, collector
from mfrbook.experiments.smollm2 import DATA_ID
from mfrbook.store.runs import Run
from mfrlib.config import unknown_name
from mfrlib.language_models.pretrained.gguf import SMOLLM2

SIZES: Mapping[str, Any] = {
    "model": SMOLLM2, "hook": "blocks.15.hook_resid_pre", "n_features": 1536, "batch_size": 4, "length": 128,
    "steps": 600, "n_sequences": 2400, "learning_rate": 0.003, "learning_rate_warmup": 30, "downstream": 1.0, "bfloat16": True,
    "n_held_out": 100, "n_usage": 200,
}  # fmt: skip
"""Of every run; 300 thousand tokens, none of them twice."""
SPARSITIES: Mapping[str, tuple[float, ...]] = {
    "local": (1.0, 3.0, 6.0, 12.0, 24.0),
    "e2e": (0.5, 2.0, 6.0),
    "downstream": (10.0, 30.0, 100.0),
}
"""λ of each SAE of a stack, by objective; the local front, with which others are compared, reaches farther."""
ARCHIVED_SEEDS = 2
"""Of how many seeds, from 0 on, the archive holds all objectives."""


def config_of(objective: str, seed: int, changed: Mapping[str, Any] | None = None) -> end_to_end.EndToEndConfig:
    """Return the config of an objective and seed, with other sizes where they are changed."""
    if objective not in SPARSITIES:
        raise unknown_name(objective, SPARSITIES, "objective")
    own = {
        "objective": objective,
        "sparsity": SPARSITIES[objective],
        "n_saes": len(SPARSITIES[objective]),
        "seed": seed,
    }
    return end_to_end.configure({**SIZES, **own, **(changed or {})}, "published")


asked: Asked = archived(
    lambda: [
        {name: Planned("end-to-end", config_of(name, seed), DATA_ID) for name in SPARSITIES}
        for seed in range(ARCHIVED_SEEDS)
    ]
)
"""For each seed the run of each objective; of the archive alone."""
collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded from the archive."""
