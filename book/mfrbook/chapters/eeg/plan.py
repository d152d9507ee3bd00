"""The runs that the chapter on EEG asks for: the section's own, its controls, and its readings."""

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from mfrbook.chapters.eeg import controls, readings, transforms
from mfrbook.chapters.eeg.runs import EEGConfig, configs, data_id, not_here, run
from mfrbook.experiments.conditions import condition_runs, plan_conditions
from mfrbook.experiments.planned import Planned
from mfrbook.store.runs import Run
from mfrbook.store.store import Store, complete
from mfrlib.config import ConfigError


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> list[dict[str, Run]]:
    """Return, for each seed, the runs of the four conditions at a profile's size.

    Re-initialisation is left out where no start of some SAE stays below its threshold: it would never end.
    """
    found, alpha = configs(profile, n_seeds, values or {})
    store = Store(trains=profile != "published" if trains is None else trains)
    return complete(partial(condition_runs, run, config, alpha, store) for config in found)


def plan(values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs that a notebook with these parameters asks for, refusing values that no run could have."""
    names = {field.name for field in fields(EEGConfig)}
    changes = {name: value for name, value in values.items() if name in names}
    profile, n_seeds = values["profile"], values.get("n_seeds")
    found, alpha = configs(profile, n_seeds, changes)
    if profile != "published" and (why := not_here(found[0].data)):
        raise ConfigError(why)
    planned = [one for config in found for one in plan_conditions("eeg", config, alpha, data_id(config))]
    planned += controls.plan(profile, n_seeds, changes)
    rows = readings.configs(profile, n_seeds, values)
    flat = [config for choices in rows for pair in choices.values() for config in pair.values()]
    planned += transforms.plan(profile, changes)
    return planned + [Planned("eeg", config, data_id(config)) for config in flat]
