"""The runs that the chapter on denoising asks for."""

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from mfrbook.chapters.denoising.runs import CONDITIONS, PROFILES, DenoisingConfig, configure, data_id, not_here, run
from mfrbook.experiments.planned import Planned, drop_unset, require_penalty, seeds
from mfrbook.store.runs import Run
from mfrbook.store.store import Store, complete
from mfrlib.config import ConfigError


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> list[dict[str, Run]]:
    """Return, for each seed, the runs of the five conditions at a profile's size."""
    store = Store(trains=profile != "published" if trains is None else trains)
    configs = _configs(profile, n_seeds, values or {})
    runs = iter(complete([partial(run, config, store) for one in configs for config in one.values()]))
    return [{name: next(runs) for name in one} for one in configs]


def plan(values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs that a notebook with these parameters asks for, refusing values that no run could have."""
    names = {field.name for field in fields(DenoisingConfig)}
    changes = {name: value for name, value in values.items() if name in names}
    if changes.get("k"):  # as the notebook has it: an SAE for each
        changes["n_saes"] = len(changes["k"])
    configs = _configs(values["profile"], values.get("n_seeds"), changes)
    if values["profile"] != "published" and (why := not_here(configs[0]["denoising"])):
        raise ConfigError(why)
    return [Planned("denoising", config, data_id(config)) for one in configs for config in one.values()]


def _configs(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, DenoisingConfig]]:
    """Return for each seed the config of every condition."""
    changes = drop_unset(values)
    alpha = changes.pop("alpha", "calibrate")
    configure({**changes, "alpha": alpha}, profile)  # refuses impossible values before anything runs
    require_penalty(alpha)
    return [
        {
            name: configure(
                {**changes, "seed": seed, "learns": learns}
                | ({"alpha": alpha, "reinit": "window"} if mutual else {"alpha": 0.0, "reinit": "off"}),
                profile,
            )
            for name, (learns, mutual) in CONDITIONS.items()
        }
        for seed in seeds(n_seeds, PROFILES[profile])
    ]
