"""What more steps bring on EEG without the penalty: the opponent that has its compute, or less (§4.2)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from mfrlib.controls import equal_compute
from mfrlib.experiments import drop_unset, eeg, seeds
from mfrlib.runs import Run, Store, complete

LONGER = "longer"
# The published one ends at the paper's own number of steps, though the compute of the penalty's runs would buy more.
AT_MOST: Mapping[str, int] = {"paper": eeg.EEGConfig.steps}


def longer(config: eeg.EEGConfig, at_most: int | None = None) -> eeg.EEGConfig:
    """Return a baseline's config with as many steps as the compute of the penalty's run buys, or `at_most`."""
    steps = round(config.steps * equal_compute(config))
    return replace(config, steps=steps if at_most is None else min(steps, at_most), log_every=100, describe=False)


def configs(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[eeg.EEGConfig]:
    """Return, for each seed, the config of the longer baseline."""
    chosen = drop_unset(values) | {"alpha": 0.0}
    at_most = None if "steps" in chosen else AT_MOST.get(profile)
    return [
        longer(eeg.configure({**chosen, "seed": seed}, profile), at_most)
        for seed in seeds(n_seeds, eeg.PROFILES[profile])
    ]


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> list[dict[str, Run]]:
    """Return, for each seed, the runs of the section's conditions and the longer baseline."""
    store = Store(trains=profile != "paper" if trains is None else trains)
    of_section = partial(eeg.collect, profile, n_seeds, values, trains=trains)
    longer_ones = [partial(eeg.run, config, store) for config in configs(profile, n_seeds, values or {})]
    calls: list[Callable[[], Any]] = [of_section, *longer_ones]
    found, *controls = complete(calls)
    return [conditions | {LONGER: run} for conditions, run in zip(found, controls, strict=True)]
