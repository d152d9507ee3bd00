"""The method as released, cell by cell: with and without the penalty, with and without re-initialisation, and centring (Q15)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, NamedTuple

from mfrbook.chapters.synthetic import readings
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.experiments.conditions import CONDITIONS, condition_fields
from mfrbook.experiments.planned import Collect, Planned, Profile, Profiles, R, collector, given, seeds
from mfrbook.store.runs import Run

PRESET = "as-released"
CELLS: Mapping[str, Mapping[str, Any]] = {
    name: condition_fields(name, synthetic.ALPHA[PRESET], synthetic.REINIT[PRESET]) for name in CONDITIONS
} | {"centred": {"center": True}}
ARCHIVED_SEEDS = 5  # seeds of which the archive holds every cell, and what its SAEs recover together
PROFILES = Profiles(
    smoke=Profile({"steps": 20, "batch_size": 100}, 1),
    quick=Profile({"steps": 400, "batch_size": 1000}, 3),
    published=Profile({}, ARCHIVED_SEEDS),
)
PAPER_SAMPLES = 50_000_000  # what the released code generates


class Row(NamedTuple, Generic[R]):
    """A run of a cell, and the run that says what its SAEs recover together."""

    cell: str
    seed: int
    run: R
    together: R


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[Row[Planned]]:
    """Return the runs of every cell and seed, and what is measured of each run afterwards."""
    return [
        Row(cell, config.seed, *(Planned(name, config, synthetic.DATA_ID) for name in ("synthetic", "coverage")))
        for cell, config in _configs(profile, n_seeds, values)
    ]


collect: Collect[list[Row[Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""


def by_seed(rows: Sequence[Row], *, centred: bool = False) -> list[dict[str, Run]]:
    """Return, for each seed, the run of each cell; that on centred data only where it is asked for."""
    found: dict[int, dict[str, Run]] = {}
    for row in rows:
        if centred or row.cell != "centred":
            found.setdefault(row.seed, {})[row.cell] = row.run
    return list(found.values())


def _configs(
    profile: str, n_seeds: int | None, values: Mapping[str, Any]
) -> list[tuple[str, synthetic.SyntheticConfig]]:
    """Return cell and config of every run. The bank holds the paper's number of supports a group at every size."""
    own = given(values, readings.SHARED)
    plain = synthetic.configure({**PROFILES[profile].fields, **own}, "published", PRESET)
    plain = replace(plain, support_rows=readings.support_rows(plain.steps, plain.batch_size))
    return [
        (cell, replace(plain, seed=seed, **changes))
        for seed in seeds(n_seeds, PROFILES[profile])
        for cell, changes in CELLS.items()
    ]
