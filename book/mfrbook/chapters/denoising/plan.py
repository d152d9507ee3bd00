"""The runs that the chapter on denoising asks for."""

from collections.abc import Mapping
from typing import Any

from mfrbook.chapters.denoising.runs import CONDITIONS, PROFILES, DenoisingConfig, configure, data_id
from mfrbook.experiments.planned import Collect, Planned, collector, given, require_penalty, seeds
from mfrbook.store.runs import Run
from mfrlib.config import require


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the runs of the five conditions at a profile's size."""
    changes = given(values, DenoisingConfig)
    if isinstance(k := changes.get("k"), list):  # an SAE for each
        require(bool(k), "k", k, "must be one or more")
        changes["n_saes"] = len(k)
    alpha = changes.pop("alpha", "calibrate")
    configure({**changes, "alpha": alpha}, profile)  # refuses impossible values before anything runs
    require_penalty(alpha)

    def planned(learns: str, mutual: bool, seed: int) -> Planned:
        method = {"alpha": alpha, "reinit": "window"} if mutual else {"alpha": 0.0, "reinit": "off"}
        config = configure({**changes, **method, "learns": learns, "seed": seed}, profile)
        return Planned("denoising", config, data_id(config))

    return [
        {name: planned(learns, mutual, seed) for name, (learns, mutual) in CONDITIONS.items()}
        for seed in seeds(n_seeds, PROFILES[profile])
    ]


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""
