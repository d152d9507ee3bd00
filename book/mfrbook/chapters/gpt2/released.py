"""Section 4.1 on the toy model as the authors' code of September 2024 had it (R9b, R11), and on centred activations."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mfrbook.chapters.gpt2 import runs as gpt2
from mfrbook.chapters.gpt2.smollm2.runs import RELEASED_ALPHA
from mfrbook.experiments.planned import Asked, Collect, Planned, archived, collector
from mfrbook.store.runs import Run

_CALIBRATED: Mapping[str, Any] = {"alpha": "calibrate"}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "baseline": {},
    "penalty": _CALIBRATED,
    "reverse maximum": {**_CALIBRATED, "direction": "reversed"},
    "as released": {"alpha": RELEASED_ALPHA, "direction": "reversed"},
    "baseline, centred": {"center": True},
    "penalty, centred": {**_CALIBRATED, "center": True},
}
"""For each row what differs from the baseline. The reverse maximum is that of the code, the features of the larger k looking among
those of the smaller; as released has its weight too. That code has no re-initialisation."""
COMPARED: Mapping[str, str] = {
    "penalty": "baseline",
    "reverse maximum": "baseline",
    "as released": "baseline",
    "penalty, centred": "baseline, centred",
    "baseline, centred": "baseline",
}
"""What the change of the loss of a row is against."""
ARCHIVED_SEEDS = 3
"""Of how many seeds, from 0 on, the archive holds all rows."""


def config_of(name: str, seed: int) -> gpt2.GPT2Config:
    """Return the config of a row and seed, at the published size."""
    return replace(gpt2.configure({"seed": seed}, "published"), **ROWS[name])


def _planned() -> list[dict[str, Planned]]:
    configs = [{name: config_of(name, seed) for name in ROWS} for seed in range(ARCHIVED_SEEDS)]
    return [{name: Planned("gpt2", one, gpt2.data_id(one)) for name, one in rows.items()} for rows in configs]


asked: Asked = archived(_planned)
"""For each seed the run of every row; of the archive alone."""
collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded from the archive."""
