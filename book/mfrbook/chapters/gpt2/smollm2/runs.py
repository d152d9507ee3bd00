"""Section 4.1 at the paper's size on a real model, SmolLM2: the pair of conditions, and what their difference rests on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mfrbook.chapters.gpt2 import runs as gpt2
from mfrbook.experiments.planned import Asked, Collect, Planned, archived, collector
from mfrbook.experiments.smollm2 import DATA_ID
from mfrbook.store.runs import Run
from mfrlib.config import unknown_name
from mfrlib.language_models.pretrained.gguf import SMOLLM2

SIZES: Mapping[str, Any] = {
    "model": SMOLLM2, "n_features": 3072, "k": gpt2.PAPER_K, "n_held_out": 1000, "n_inserted": 250, "log_every": 100,
}  # fmt: skip
TIMES = 4
"""By how much a baseline is given more steps, or more features. With the certified search the penalty's steps take about 3 times
the baseline's here, so that this is more than its cost."""
MIDDLE = "blocks.15.hook_mlp_out"
RELEASED_ALPHA = 0.005
_PENALTY: Mapping[str, Any] = {"alpha": "calibrate"}

ROWS: Mapping[str, Mapping[str, Any]] = {
    "baseline": {},
    "penalty": _PENALTY,
    "warm start": {"warm_start": 4000},
    "warm start, a quarter of the steps": {"warm_start": 1000},
    "revival": {"revival": 1 / 32},
    "frozen dictionary": {**_PENALTY, "frozen": True},
    "one k": {**_PENALTY, "k": 18},
    "baseline, longer": {"steps": TIMES * 4000},
    "baseline, wider": {"n_features": TIMES * 3072},
    "reverse maximum": {**_PENALTY, "k": gpt2.PAPER_K[::-1]},
    "α as released": {"alpha": RELEASED_ALPHA},
    "as released": {"alpha": RELEASED_ALPHA, "k": gpt2.PAPER_K[::-1]},
    "baseline, centred": {"center": True},
    "penalty, centred": {**_PENALTY, "center": True},
    "baseline, learnt bias": {"decoder_bias": True},
    "penalty, learnt bias": {**_PENALTY, "decoder_bias": True},
    "baseline, untrained block": {"weights": "untrained-block"},
    "penalty, untrained block": {**_PENALTY, "weights": "untrained-block"},
    "baseline, middle layer": {"hook": MIDDLE},
    "penalty, middle layer": {**_PENALTY, "hook": MIDDLE},
}
"""For each row what differs from the baseline. The reverse maximum is the penalty with the SAEs in the other order: the rows of the
larger k then seek their best match among those of the smaller. As released is the code that the authors ran in September 2024: that
maximum, its weight, and no re-initialisation."""
ARCHIVED_SEEDS: Mapping[str, int] = {
    "baseline": 5,
    "penalty": 5,
    "warm start": 5,
    "revival": 3,
    "frozen dictionary": 3,
    "one k": 3,
    "baseline, longer": 3,
    "reverse maximum": 3,
    "α as released": 3,
    "as released": 5,
    "baseline, centred": 5,
    "penalty, centred": 3,
}
"""Of how many seeds, from 0 on, the archive holds a row; of those that are missing, none."""


def config_of(name: str, seed: int, changed: Mapping[str, Any] | None = None) -> gpt2.GPT2Config:
    """Return the config of a row and seed, with other sizes where they are changed."""
    if name not in ROWS:
        raise unknown_name(name, ROWS, "row")
    return replace(gpt2.configure({**SIZES, **(changed or {}), "seed": seed}, "published"), **ROWS[name])


asked: Asked = archived(
    lambda: [
        {name: Planned("gpt2", config_of(name, seed), DATA_ID) for name in ROWS if seed < ARCHIVED_SEEDS.get(name, 0)}
        for seed in range(max(ARCHIVED_SEEDS.values(), default=0))
    ]
)
"""For each seed the run of every row that there is of it; of the archive alone."""
collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded from the archive."""
