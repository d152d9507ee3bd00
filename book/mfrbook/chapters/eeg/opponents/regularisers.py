"""What MFR's gain on EEG is held against: other regularisers, and more steps (§4.2).

Windows come again many times and are tested on other people, so that anything that keeps SAEs from learning the training windows by
heart may lower the loss there.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mfrbook.chapters.eeg import runs as eeg
from mfrbook.experiments.conditions import plan_conditions
from mfrbook.experiments.planned import Collect, Planned, Profile, Profiles, collector, seeds
from mfrbook.store.runs import Run

MORE_STEPS = 2
"""Times the steps of the others. Over a training, a step with the penalty takes about twice as long as one without."""
ROWS: Mapping[str, Mapping[str, Any]] = {
    "weight decay": {"weight_decay": 0.1},  # ten times the default
    "dropped inputs": {"input_dropout": 0.1},
    "more steps": {},
}
"""For each opponent what differs from the baseline, the number of steps aside. One strength each: none was chosen for its outcome."""
PROFILES = Profiles(
    {name: Profile({}, min(2, one.n_seeds)) for name, one in eeg.PROFILES.items()}, published=Profile({}, 3)
)


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the section's runs and those of the opponents, which have no penalty."""
    found, alpha = eeg.configs(profile, len(seeds(n_seeds, PROFILES[profile])), values)
    return [
        plan_conditions("eeg", config, alpha, eeg.data_id(config))
        | {name: Planned("eeg", opponent(config, name), eeg.data_id(config)) for name in ROWS}
        for config in found
    ]


def opponent(config: eeg.EEGConfig, name: str) -> eeg.EEGConfig:
    """Return the config of an opponent of a section's config."""
    steps = config.steps * (MORE_STEPS if name == "more steps" else 1)
    return replace(config, alpha=0.0, describe=False, steps=steps, **ROWS[name])


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""
