"""What the readings of the EEG section change (R17, R19, R20): one switch at a time, at one size, without and with penalty."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mfrbook.chapters.eeg import runs as eeg
from mfrbook.experiments.planned import Planned, Profile, Profiles, collector, given, seeds
from mfrbook.store.runs import Run
from mfrlib.data.eeg.header import EEGDataError

# Reconstruction only, with the 512 features of the released code (R19) or fewer: vectors of all channels are ten times as wide.
PROFILES = Profiles(
    smoke=Profile({"steps": 12, "batch_size": 64, "n_features": 64}, 2),
    quick=Profile({"steps": 40, "batch_size": 64, "n_features": 128, "warmup": 20}, 3),
    published=Profile({"steps": 240, "batch_size": 256, "n_features": 512, "log_every": 20}, 5),
)

JOINT = ("R17", "all channels jointly, 128 Hz")
# Reading, choice: what differs from the first row.
ROWS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("default", "single channels, k = 12 … 60"): {},
    ("R19", "k = 6 … 30, the released code's"): {"k": (6, 12, 18, 24, 30)},
    JOINT: {"channels": "joint"},
}
CONDITIONS: Mapping[str, Any] = {"baseline": 0.0, "penalty": "calibrate"}
SHARED = ("data", "subjects", "readable_only")  # parameters of the notebook that hold for every row


Rows = Sequence[Mapping[tuple[str, str], Mapping[str, Run]]]
"""For each seed, by reading and choice, the runs without and with penalty."""


def asked(
    profile: str, n_seeds: int | None, values: Mapping[str, Any]
) -> list[dict[tuple[str, str], dict[str, Planned]]]:
    """Return, for each seed, reading and choice, the runs of both conditions; only `SHARED` values are taken over."""
    chosen = {**PROFILES[profile].fields, "describe": False, **given(values, SHARED)}

    def both(changes: Mapping[str, Any], seed: int) -> dict[str, Planned]:
        config = eeg.configure({**chosen, **changes, "seed": seed}, profile)
        identity = eeg.data_id(config)
        return {name: Planned("eeg", replace(config, alpha=alpha), identity) for name, alpha in CONDITIONS.items()}

    return [{name: both(changes, seed) for name, changes in ROWS.items()} for seed in seeds(n_seeds, PROFILES[profile])]


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> Rows:
    """Return what `asked` plans, loaded or computed.

    The joint one is left out, with a warning, of recordings that cannot be read so: they lack an electrode.
    """
    try:
        return collector(asked)(profile, n_seeds, values, trains=trains)
    except EEGDataError as error:

        def single(*size: Any) -> list[Any]:
            return [{name: pair for name, pair in rows.items() if name != JOINT} for rows in asked(*size)]

        found = collector(single)(profile, n_seeds, values, trains=trains)
        warnings.warn(f"{', '.join(JOINT)}, is left out: {error}", stacklevel=2)
        return found
