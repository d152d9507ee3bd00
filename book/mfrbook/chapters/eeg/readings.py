"""What the readings of the EEG section change (R17, R19, R20): one switch at a time, at one size, without and with penalty."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mfrbook.chapters.eeg import runs as eeg
from mfrbook.experiments.planned import Profile, drop_unset, seeds
from mfrbook.store.runs import Run
from mfrbook.store.store import Store, complete
from mfrlib.data.eeg.header import EEGDataError

# Reconstruction only, with the 512 features of the released code (R19) or fewer: vectors of all channels are ten times as wide.
PROFILES: Mapping[str, Profile] = {
    "smoke": Profile({"steps": 12, "batch_size": 64, "n_features": 64}, 2),
    "quick": Profile({"steps": 40, "batch_size": 64, "n_features": 128, "warmup": 20}, 3),
    "published": Profile({"steps": 240, "batch_size": 256, "n_features": 512, "log_every": 20}, 5),
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
    """Return the runs of every reading, for each seed.

    The joint one is left out, with a warning, of recordings that cannot be read so: they lack an electrode.
    """
    store = Store(trains=profile != "published" if trains is None else trains)

    def both(name: tuple[str, str], pair: Mapping[str, eeg.EEGConfig]) -> dict[tuple[str, str], dict[str, Run]]:
        try:
            runs = complete(partial(eeg.run, config, store) for config in pair.values())
        except EEGDataError as error:
            if pair["baseline"].channels != "joint":
                raise
            warnings.warn(f"{name[0]}, {name[1]}, is left out: {error}", stacklevel=2)
            return {}
        return {name: dict(zip(pair, runs, strict=True))}

    found = configs(profile, n_seeds, values or {})
    made = iter(complete(partial(both, name, pair) for rows in found for name, pair in rows.items()))
    return [{name: pair for _ in rows for name, pair in next(made).items()} for rows in found]
