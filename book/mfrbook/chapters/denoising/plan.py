"""The runs that the chapter on denoising asks for."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from mfrbook.chapters.denoising.runs import CONDITIONS, PROFILES, DenoisingConfig, Learns, configure, data_id
from mfrbook.experiments.conditions import condition_fields, seed_configs
from mfrbook.experiments.planned import Collect, Planned, collector, given
from mfrbook.store.runs import Run
from mfrlib.config import require


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the runs of the five conditions at a profile's size."""
    changes = given(values, DenoisingConfig)
    if isinstance(k := changes.get("k"), list):  # an SAE for each
        require(bool(k), "k", k, "must be one or more")
        changes["n_saes"] = len(k)
    configs, alpha = seed_configs(partial(configure, profile=profile), changes, PROFILES[profile], n_seeds)

    def planned(config: DenoisingConfig, learns: Learns, mutual: bool) -> Planned:
        method = condition_fields("mfr" if mutual else "baseline", alpha)
        return Planned("denoising", replace(config, learns=learns, **method), data_id(config))

    return [
        {name: planned(config, learns, mutual) for name, (learns, mutual) in CONDITIONS.items()} for config in configs
    ]


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""
