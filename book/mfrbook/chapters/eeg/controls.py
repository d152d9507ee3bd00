"""What more steps bring on EEG without the penalty: the opponent that has its compute, or less (§4.2)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from mfrbook.chapters.eeg import runs as eeg
from mfrbook.experiments.conditions import condition_runs, plan_conditions
from mfrbook.experiments.controls import equal_compute
from mfrbook.experiments.planned import Planned, Profile, drop_unset, seeds
from mfrbook.store.runs import Run
from mfrbook.store.store import Store, complete

LONGER = "longer"
# Where the section has the paper's steps, those compared here have a fifth: their opponent may then have all of them.
PROFILES: Mapping[str, Profile] = {**eeg.PROFILES, "published": Profile({"steps": 700, "describe": True}, 5)}
AT_MOST: Mapping[str, int] = {"published": eeg.EEGConfig.steps}


def longer(config: eeg.EEGConfig, at_most: int | None = None) -> eeg.EEGConfig:
    """Return a baseline's config with as many steps as the compute of the penalty's run buys, or `at_most`.

    Where that is the paper's number, it is the section's own baseline.
    """
    steps = round(config.steps * equal_compute(config))
    chosen = steps if at_most is None else min(steps, at_most)
    return replace(config, alpha=0.0, steps=chosen, describe=config.seed == 0)


def configs(
    profile: str, n_seeds: int | None, values: Mapping[str, Any]
) -> tuple[list[tuple[eeg.EEGConfig, eeg.EEGConfig]], Any]:
    """Return for each seed the config that is compared and that of its longer baseline, and the weight of the penalty."""
    chosen = drop_unset(values)
    at_most = None if "steps" in chosen else AT_MOST.get(profile)
    size = PROFILES[profile]
    compared, alpha = eeg.configs(profile, len(seeds(n_seeds, size)), {**size.fields, **chosen})
    return [(config, longer(config, at_most)) for config in compared], alpha


def plan(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs that `collect` asks for."""
    found, alpha = configs(profile, n_seeds, values)
    planned = [one for config, _ in found for one in plan_conditions("eeg", config, alpha, eeg.data_id(config))]
    return planned + [Planned("eeg", opponent, eeg.data_id(opponent)) for _, opponent in found]


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> list[dict[str, Run]]:
    """Return, for each seed, the runs of the section's conditions at the size compared, and the longer baseline."""
    store = Store(trains=profile != "published" if trains is None else trains)
    found, alpha = configs(profile, n_seeds, values or {})
    both: list[Callable[[], list[Any]]] = [
        partial(complete, [partial(condition_runs, eeg.run, config, alpha, store) for config, _ in found]),
        partial(complete, [partial(eeg.run, opponent, store) for _, opponent in found]),
    ]
    return [conditions | {LONGER: run} for conditions, run in zip(*complete(both), strict=True)]
