"""What a claim's own measure gives on other runs than the main ones: under each reading."""

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from mfrbook.chapters.synthetic import readings
from mfrbook.chapters.synthetic.questions import released
from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.chapters.synthetic.runs import SyntheticConfig
from mfrbook.drawing.statistics import interval
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.ledger.measures import MEASURES
from mfrbook.store.retired import complete
from mfrbook.store.runs import Run

PENALTY = {"alpha", "warmup", "matching", "direction", "calibration", "alpha_scale"}
REINIT = {"reinit", "reinit_threshold", "reinit_window", "reinit_limit"}
# Of the questions' runs, those that are a reading of the penalty or stand beside one: reading and choice.
_SWITCHED = {
    "baseline": ("", "no penalty"),
    questions.ONE_TO_ONE: ("R9", "Hungarian, α = 3, at the paper's dimensions"),
}


class Source(NamedTuple):
    """Runs under readings, what the paper's value is multiplied by at their size, and what shows them."""

    rows: Sequence[readings.Row]
    unit: float
    see: str
    whole: Mapping[str, list[dict[str, Run]]] = MappingProxyType({})
    """In place of rows: for each reading, its runs by condition for each seed."""


class Closest(NamedTuple):
    """A reading, what a claim's measure gives for each seed under it, the paper's value at its size, the samples of a run,
    what shows them, and the number of readings that it was chosen from.
    """

    reading: str
    values: list[float]
    value: float | None
    samples: int
    see: str
    among: int


class _Other(Evidence):
    """Other runs in place of the main ones."""

    def __init__(self, **runs: Any) -> None:
        super().__init__("")
        self.runs |= runs

    def get(self, name: str) -> Any:
        """Return what is in place of an experiment's runs."""
        if name not in self.runs:
            raise Untested(f"There are no other runs of {name}.")
        return self.runs[name]


class _Conditions(dict[str, Run]):
    """The runs of a seed, by condition."""

    def __missing__(self, name: str) -> Run:
        raise Untested(f"There is no {name} under this reading.")


def by_reading(rows: Sequence[readings.Row]) -> dict[str, list[dict[str, Run]]]:
    """Return, for each reading, its runs by condition for each seed, as `mfrbook.chapters.synthetic.runs.collect` has them.

    A reading of the penalty or of re-initialisation stands beside the run that differs from it in nothing else; where
    there is none, it is left out. So are the notebook's rows that are no reading of the paper.
    """
    plain = {_identity(row.run): row.run for row in rows if _condition(row.run) == "baseline"}
    found: dict[str, list[dict[str, Run]]] = {}
    for row in (one for one in rows if one.reading == "default" or one.reading.startswith("R")):
        if baseline := plain.get(_identity(row.run)):
            runs = {"baseline": baseline} | {_condition(row.run): row.run}
            found.setdefault(f"{row.reading}: {row.choice}", []).append(runs)
    return found


def presets(rows: Sequence[readings.Row]) -> list[readings.Row]:
    """Return the runs of whole presets but for the default's, which are the main runs, whose SAEs are alike.

    The mean over SAEs of different k would hide that one of them loses (Q13).
    """
    found = [row for row in readings.presets(rows) if row.reading == readings.PRESET]
    return [row for row in found if len(set(np.atleast_1d(row.run.config["k"]))) == 1]


def as_released(rows: Sequence[released.Row]) -> dict[str, list[dict[str, Run]]]:
    """Return the runs of the whole released preset by condition, for each seed; centring is no part of it."""
    return {f"R9, R10, R12: {released.PRESET}, taken whole": released.by_seed(rows)}


def switched(rows: Sequence[questions.Row]) -> list[readings.Row]:
    """Return the questions' runs that are a reading of the penalty, and the runs beside them."""
    asked = (row for row in rows if row.question == questions.CENTRED and row.choice in _SWITCHED)
    return [readings.Row(*_SWITCHED[row.choice], row.seed, row.run) for row in asked]


def closest(measure: str, value: float | None, sources: Iterable[Source]) -> Closest | None:
    """Return the reading whose mean lies nearest to the paper's value or, where it gives none, whose whole 95 % interval
    lies farthest on its side, so that a few short runs that scatter do not stand before many that agree.

    A reading that changes nothing of what is measured is not told from the one before it. None if no reading can be
    measured so.
    """
    found: dict[tuple[float, ...], tuple[float, dict[str, Any]]] = {}
    for source in sources:
        for name, seeds in (source.whole or by_reading(source.rows)).items():
            try:
                values = MEASURES[measure](_Other(synthetic=[_Conditions(runs) for runs in seeds]))
            except Untested:
                continue
            mean, low, _ = (float(one) / source.unit for one in interval(np.asarray(values)))
            distance = -low if value is None else abs(mean - value)
            here = None if value is None else value * source.unit
            one = {"reading": name, "values": values, "value": here, "samples": seeds[0]["baseline"].results["samples"]}
            found.setdefault(tuple(values), (distance, one | {"see": source.see}))
    return Closest(**min(found.values(), key=lambda pair: pair[0])[1], among=len(found)) if found else None


def _condition(run: Run) -> str:
    if run.config["alpha"]:
        return "penalty" if run.config["reinit"] == "off" else "mfr"
    return "baseline" if run.config["reinit"] == "off" else "reinit"


def _identity(run: Run) -> str:
    """Return all of a config that is left without the penalty and re-initialisation."""
    fields = complete(SyntheticConfig, run.config)
    return json.dumps({name: value for name, value in fields.items() if name not in PENALTY | REINIT}, sort_keys=True)
