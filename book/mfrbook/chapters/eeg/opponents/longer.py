"""What more steps bring on EEG without the penalty: the opponent that has its compute, or less (§4.2)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mfrbook.chapters.eeg import runs as eeg
from mfrbook.experiments.conditions import plan_conditions
from mfrbook.experiments.controls import equal_compute
from mfrbook.experiments.planned import Collect, Planned, Profile, Profiles, collector, given, seeds
from mfrbook.store.runs import Run

LONGER = "longer"
# Where the section has the paper's steps, those compared here have a fifth: their opponent may then have all of them.
PROFILES = Profiles(eeg.PROFILES, published=Profile({"steps": 700, "describe": True}, 5))
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
    chosen = given(values, eeg.EEGConfig)
    at_most = None if "steps" in chosen else AT_MOST.get(profile)
    size = PROFILES[profile]
    compared, alpha = eeg.configs(profile, len(seeds(n_seeds, size)), {**size.fields, **chosen})
    return [(config, longer(config, at_most)) for config in compared], alpha


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the runs of the section's conditions at the size compared, and the longer baseline."""
    found, alpha = configs(profile, n_seeds, values)
    return [
        plan_conditions("eeg", config, alpha, eeg.data_id(config))
        | {LONGER: Planned("eeg", opponent, eeg.data_id(opponent))}
        for config, opponent in found
    ]


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""
