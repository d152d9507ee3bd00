"""What the effect of Section 4.1 rests on: warm-up and α (G5), equal compute, a trained network (R14)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mfrbook.chapters.gpt2 import runs as gpt2
from mfrbook.experiments.controls import equal_compute
from mfrbook.experiments.model_and_text import sizes_of
from mfrbook.experiments.planned import Collect, Planned, Profile, Profiles, collector, given, seeds
from mfrbook.store.runs import Run

LARGE = 4  # times the calibrated α

# Reconstruction only. Below the paper's size with fewer features, where the penalty costs less: by how many times.
FEWER: Mapping[str, int] = {"smoke": 4, "quick": 4, "published": 2, "paper": 1}
_QUICK = {"steps": 80, "batch_size": 250, "warmup": 25, "n_sequences": 240, "n_held_out": 48}
PROFILES = Profiles(
    smoke=Profile({"steps": 20, "batch_size": 128, "warmup": 5, "length": 32, "n_sequences": 128, "n_held_out": 16}, 2),
    quick=Profile(_QUICK, 5),
    published=Profile({}, 5),
)
_PENALTY: Mapping[str, Any] = {"alpha": "calibrate"}
_LARGE: Mapping[str, Any] = {"alpha": "calibrate", "alpha_scale": float(LARGE)}
_UNTRAINED: Mapping[str, Any] = {"weights": "untrained-block"}

# Name: what differs from the baseline.
ROWS: Mapping[str, Mapping[str, Any]] = {
    "baseline": {},
    "penalty": _PENALTY,
    "no warm-up": {**_PENALTY, "warmup": 0},
    "large α": _LARGE,
    "large α, no warm-up": {**_LARGE, "warmup": 0},
    "baseline, untrained block": _UNTRAINED,
    "penalty, untrained block": {**_PENALTY, **_UNTRAINED},
}
# Parameters that the notebook hands on; the others are the rows' own.
SHARED = ("model", "text", "hook", "steps", "batch_size", "length", "n_sequences", "shuffle")
LONGER, WIDER = "baseline, longer", "baseline, wider"


def rows_of(config: gpt2.GPT2Config) -> dict[str, gpt2.GPT2Config]:
    """Return the config of every row, for a baseline's.

    The longer and the wider baseline have, as nearly as whole numbers allow, the compute of the penalty's run; the
    longer one goes through the same sequences more often.
    """
    ratio = equal_compute(config)
    rows = {name: replace(config, **changes) for name, changes in ROWS.items()}
    rows[LONGER] = replace(config, steps=round(config.steps * ratio))
    rows[WIDER] = replace(config, n_features=round(config.n_features * ratio))
    return rows


def configure(values: Mapping[str, Any], profile: str = "quick") -> gpt2.GPT2Config:
    """Return the baseline's config at a profile's size, with further fields changed."""
    chosen = {**PROFILES[profile].fields, **values, "n_inserted": 0}
    config = gpt2.configure(chosen, profile)
    fewer = FEWER[sizes_of(profile, config.model)]
    return config if "n_features" in chosen else replace(config, n_features=config.n_features // fewer)


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the run of every row; only `SHARED` values are taken over."""
    chosen = given(values, SHARED)
    found = [rows_of(configure({**chosen, "seed": seed}, profile)) for seed in seeds(n_seeds, PROFILES[profile])]
    return [{name: Planned("gpt2", config, gpt2.data_id(config)) for name, config in rows.items()} for rows in found]


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""
