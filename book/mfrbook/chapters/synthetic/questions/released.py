"""The method as released, cell by cell: with and without the penalty, with and without re-initialisation, and centring (Q15)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from mfrbook.chapters.synthetic import readings
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.questions import coverage
from mfrbook.experiments.planned import Planned, Profile, drop_unset, seeds
from mfrbook.store.runs import Run
from mfrbook.store.store import Store, complete
from mfrlib.config import unknown_name

PRESET = "as-released"
CELLS: Mapping[str, Mapping[str, Any]] = {
    "baseline": {},
    "reinit": {"reinit": synthetic.REINIT[PRESET]},
    "penalty": {"alpha": synthetic.ALPHA[PRESET]},
    "mfr": {"alpha": synthetic.ALPHA[PRESET], "reinit": synthetic.REINIT[PRESET]},
    "centred": {"center": True},
}
ARCHIVED_SEEDS = 2  # seeds of which the archive holds every cell, and what its SAEs recover together
PROFILES: Mapping[str, Profile] = {
    "smoke": Profile({"steps": 20, "batch_size": 100}, 1),
    "quick": Profile({"steps": 400, "batch_size": 1000}, 3),
    "published": Profile({}, ARCHIVED_SEEDS),
}
PAPER_SAMPLES = 50_000_000  # what the released code generates


class Row(NamedTuple):
    """A run of a cell, and the run that says what its SAEs recover together."""

    cell: str
    seed: int
    run: Run
    together: Run


def collect(
    profile: str, n_seeds: int | None = None, values: Mapping[str, Any] | None = None, *, trains: bool | None = None
) -> list[Row]:
    """Return the runs of every cell and seed, as `mfrbook.chapters.synthetic.runs.collect` says of `trains`."""
    store = Store(trains=profile != "published" if trains is None else trains)
    configs = _configs(profile, n_seeds, values or {})
    runs = complete(partial(one.run, config, store) for one in (synthetic, coverage) for _, config in configs)
    made, together = runs[: len(configs)], runs[len(configs) :]
    return [
        Row(cell, config.seed, run, found) for (cell, config), run, found in zip(configs, made, together, strict=True)
    ]


def by_seed(rows: Sequence[Row]) -> list[dict[str, Run]]:
    """Return, for each seed, the runs on data as they are, by condition."""
    found: dict[int, dict[str, Run]] = {}
    for row in rows:
        if row.cell != "centred":
            found.setdefault(row.seed, {})[row.cell] = row.run
    return list(found.values())


def plan(values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs that the training notebook asks for: those of the four conditions, and of every cell."""
    return [*synthetic.plan(values), *cells(values)]


def cells(values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs of every cell and seed, and what is measured of each run afterwards."""
    configs = [config for _, config in _configs(values["profile"], values.get("n_seeds"), values)]
    return [
        Planned(experiment, config, synthetic.DATA_ID) for experiment in ("synthetic", "coverage") for config in configs
    ]


def _configs(
    profile: str, n_seeds: int | None, values: Mapping[str, Any]
) -> list[tuple[str, synthetic.SyntheticConfig]]:
    """Return cell and config of every run. The bank holds the paper's number of supports a group at every size."""
    if profile not in PROFILES:
        raise unknown_name(profile, PROFILES, "profile")
    own = drop_unset({name: values.get(name) for name in readings.SHARED})
    plain = synthetic.configure({**PROFILES[profile].fields, **own}, "published", PRESET)
    plain = replace(plain, support_rows=max(1, plain.steps * plain.batch_size // readings.BANK))
    return [
        (cell, replace(plain, seed=seed, **changes))
        for seed in seeds(n_seeds, PROFILES[profile])
        for cell, changes in CELLS.items()
    ]
