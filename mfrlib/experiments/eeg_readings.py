"""What the readings of the EEG section change (R17, R19, R20): one switch at a time, at one size, without and with penalty."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mfrlib.data.eeg_header import EEGDataError
from mfrlib.experiments import Profile, drop_unset, eeg, seeds
from mfrlib.runs import Run, Store, complete

# Reconstruction only, with the 512 features of the released code (R19) or fewer: vectors of all channels are ten times as wide.
PROFILES: Mapping[str, Profile] = {
    "smoke": Profile({"steps": 12, "batch_size": 64, "n_features": 64}, 2),
    "quick": Profile({"steps": 40, "batch_size": 64, "n_features": 128, "warmup": 20}, 3),
    "paper": Profile({"steps": 240, "batch_size": 256, "n_features": 512, "log_every": 20}, 1),
}

# Reading, choice: what differs from the first row.
ROWS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("default", "single channels, k = 12 … 60"): {},
    ("R19", "k = 6 … 30, the released code's"): {"k": (6, 12, 18, 24, 30)},
    ("R17", "all channels jointly, 128 Hz"): {"channels": "joint"},
}
CONDITIONS: Mapping[str, Any] = {"baseline": 0.0, "penalty": "calibrate"}
SHARED = ("data", "subjects", "readable_only")  # parameters of the notebook that hold for every row


Rows = Sequence[Mapping[tuple[str, str], Mapping[str, Run]]]
"""For each seed, by reading and choice, the runs without and with penalty."""


def configs(
    profile: str, n_seeds: int | None, values: Mapping[str, Any]
) -> list[dict[tuple[str, str], dict[str, eeg.EEGConfig]]]:
    """Return, for each seed, reading and choice, the configs of both conditions; only `SHARED` values are taken over."""
    chosen = {**PROFILES[profile].fields, "describe": False, **drop_unset({name: values.get(name) for name in SHARED})}
    found = []
    for seed in seeds(n_seeds, PROFILES[profile]):
        rows = {name: eeg.configure({**chosen, **changes, "seed": seed}, profile) for name, changes in ROWS.items()}
        found.append(
            {
                name: {condition: replace(config, alpha=alpha) for condition, alpha in CONDITIONS.items()}
                for name, config in rows.items()
            }
        )
    return found


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> Rows:
    """Return the runs of every reading, for each seed; the joint one is left out of recordings that lack an electrode."""
    store = Store(trains=profile != "paper" if trains is None else trains)

    def run(config: eeg.EEGConfig) -> Run | None:
        try:
            return eeg.run(config, store)
        except EEGDataError:
            if config.channels == "joint":
                return None
            raise

    found = configs(profile, n_seeds, values or {})
    flat = [config for rows in found for pair in rows.values() for config in pair.values()]
    runs = iter(complete(partial(run, config) for config in flat))
    made = [{name: {condition: next(runs) for condition in pair} for name, pair in rows.items()} for rows in found]
    return [
        {
            name: {condition: run for condition, run in pair.items() if run}
            for name, pair in rows.items()
            if all(pair.values())
        }
        for rows in made
    ]
