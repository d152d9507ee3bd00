"""The runs that the chapter on language models asks for: the section's own, and its controls."""

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from mfrbook.chapters.gpt2 import controls, real_model
from mfrbook.chapters.gpt2.runs import PROFILES, GPT2Config, configure, data_id, run
from mfrbook.experiments.conditions import condition_runs, plan_conditions
from mfrbook.experiments.planned import Planned, drop_unset, require_penalty, seeds
from mfrbook.store.runs import Run
from mfrbook.store.store import Store, complete


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> list[dict[str, Run]]:
    """Return, for each seed, the runs of the four conditions at a profile's size.

    Re-initialisation is left out where no start stays below its threshold: it would never end.
    """
    configs, alpha = _configs(profile, n_seeds, values or {})
    store = Store(trains=profile != "published" if trains is None else trains)
    return complete(partial(condition_runs, run, config, alpha, store) for config in configs)


def plan(values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs that a notebook with these parameters asks for, refusing values that no run could have."""
    names = {field.name for field in fields(GPT2Config)}
    changes = {name: value for name, value in values.items() if name in names}
    configs, alpha = _configs(values["profile"], values.get("n_seeds"), changes)
    planned = [one for config in configs for one in plan_conditions("gpt2", config, alpha, data_id(config))]
    shared = {name: values[name] for name in controls.SHARED if name in values}
    rows_of_seeds = controls.configs(values["profile"], values.get("n_seeds"), shared)
    known = {one.key for one in planned}
    planned += [
        one for rows in rows_of_seeds for config in rows.values()
        if (one := Planned("gpt2", config, data_id(config))).key not in known
    ]  # fmt: skip
    return [*planned, *real_model.planned()] if values["profile"] == "published" else planned


def _configs(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> tuple[list[GPT2Config], Any]:
    """Return a config for each seed, and the weight of the penalty."""
    changes = drop_unset(values)
    alpha = changes.pop("alpha", "calibrate")
    configure({**changes, "alpha": alpha}, profile)  # refuses impossible values before anything runs
    require_penalty(alpha)
    chosen = seeds(n_seeds, PROFILES[profile])
    return [configure({**changes, "seed": seed}, profile) for seed in chosen], alpha
