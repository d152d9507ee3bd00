"""What each ambiguity of the paper changes (paper/readings): one switch at a time, at one size, and whole presets."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, NamedTuple

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.experiments.planned import Collect, Planned, Profile, Profiles, R, collector, given, seeds
from mfrbook.store.runs import Run

# A quarter of the paper's numbers of features, dimensions and active features: the densities stay, a run takes seconds.
SIZE: Mapping[str, Any] = {"n_input_features": 128, "d_in": 64, "n_active": 9, "k": 9, "n_features": 128}
PROFILES = Profiles(
    smoke=Profile({"steps": 30, "batch_size": 100}, 1),
    quick=Profile({"steps": 400, "batch_size": 500, "log_every": 50}, 3),
    published=Profile({"steps": 10_000, "batch_size": 2000, "log_every": 500}, 5),
)

BANK = 100

# (reading, choice, changed fields); the first is what the others are compared with.
ROWS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("default", "no penalty", {}),
    ("R5", "raw decoder", {"decoder": "raw"}),
    ("R6", "ReLU", {"activation": "relu"}),
    ("R8", "Adam", {"optimizer": "adam"}),
    ("R9", "max, α = 3", {"alpha": 3.0}),
    ("R9", "Hungarian, α = 3", {"alpha": 3.0, "matching": "hungarian"}),
    ("R9b", "symmetric, α = 3", {"alpha": 3.0, "direction": "symmetric"}),
    ("R10", "threshold 0.5", {"reinit": "window", "reinit_threshold": 0.5, "reinit_limit": 100_000}),
    ("R11", "warm-up 100, α = 3", {"alpha": 3.0, "warmup": 100}),
    ("R11", "α calibrated", {"alpha": "calibrate", "warmup": 100}),
    ("R12", "sum, α = 3", {"alpha": 3.0, "reduction": "sum"}),
    ("R12", "mean, α = 3/64", {"alpha": 3.0 / 64}),
    ("Q9", "centred data", {"center": True}),
    ("Q9", "bias before and after", {"decoder_bias": True}),
    ("Q9", "centred, α = 3", {"center": True, "alpha": 3.0}),
)
SHARED = ("steps", "batch_size")  # parameters of the notebook that hold for every row
PRESET = "R1"
# The presets are whole, with the paper's dimensions, so that a run takes minutes: at most so many seeds of each. A closest
# reading hangs on the released code's. Of preset `first-edition` these are the main runs.
PRESET_SEEDS: Mapping[str, int] = {
    "first-edition": 5,
    "one-group": 3,
    "all-groups": 3,
    "released-oct24": 5,
    "released-head": 3,
}


class Row(NamedTuple, Generic[R]):
    """One run of the table."""

    reading: str
    choice: str
    seed: int
    run: R


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[Row[Planned]]:
    """Return the runs of every reading and seed; a preset is run with the penalty it comes with, and without."""
    return [
        Row(reading, choice, config.seed, Planned("synthetic", config, synthetic.DATA_ID))
        for reading, choice, config in _choices(profile, n_seeds, values)
    ]


collect: Collect[list[Row[Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""


def support_rows(steps: int, batch_size: int) -> int:
    """Return how many samples share a support in the released presets: the bank of a run of any size has `BANK` a group, as one of the paper's 100 M has."""
    return max(1, steps * batch_size // BANK)


def switches(rows: Sequence[Row[R]]) -> list[Row[R]]:
    """Return the rows that change one switch, the default first."""
    return [row for row in rows if not _preset(row)]


def presets(rows: Sequence[Row[R]]) -> list[Row[R]]:
    """Return the rows of whole presets, the default first."""
    return [row for row in rows if _preset(row)]


def _preset(row: Row) -> bool:
    return row.choice.partition(",")[0] in PRESET_SEEDS


def _choices(
    profile: str, n_seeds: int | None, values: Mapping[str, Any]
) -> list[tuple[str, str, synthetic.SyntheticConfig]]:
    """Return reading, choice and config of every run."""
    own, fields = given(values, SHARED), PROFILES[profile].fields
    small = {**SIZE, **fields, **own}
    found = [
        (reading, choice, synthetic.configure({**small, **changes, "seed": seed}, "smoke"))
        for seed in seeds(n_seeds, PROFILES[profile])
        for reading, choice, changes in ROWS
    ]
    for preset, most in PRESET_SEEDS.items():
        size = {**(synthetic.PROFILES[profile].fields if preset == "first-edition" else fields), **own}
        for seed in seeds(n_seeds or min(most, PROFILES[profile].n_seeds), PROFILES[profile]):
            for alpha in dict.fromkeys((0.0, synthetic.ALPHA[preset])):
                config = synthetic.configure({**size, "alpha": alpha, "seed": seed}, "published", preset)
                if config.support_rows:
                    config = replace(config, support_rows=support_rows(config.steps, config.batch_size))
                found.append(("default" if preset == "first-edition" else PRESET, f"{preset}, α = {alpha:g}", config))
    return found
