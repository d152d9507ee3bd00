"""More runs of the synthetic experiment, for questions that its main runs cannot answer: S4, Q5, Q9, Q10."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic, NamedTuple

from mfrbook.chapters.synthetic import readings
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.experiments.planned import Collect, Planned, Profile, Profiles, R, collector, given, seeds
from mfrbook.store.runs import Run

MANY, SAES, CENTRED, SWITCHES = "many", "number of SAEs", "centring", "switches"
PROFILES = Profiles(
    smoke=Profile({"steps": 20, "batch_size": 100}, 1),
    quick=Profile({"steps": 100, "batch_size": 500, "log_every": 50}, 3),
    published=Profile({"steps": 2000, "batch_size": 500, "log_every": 100}, 5),
)
# S4 asks for many short runs.
MANY_RUNS = {"smoke": 3, "quick": 6, "published": 30}
MANY_SIZE: Mapping[str, Mapping[str, int]] = {
    "smoke": {"steps": 20},
    "quick": {"steps": 200},
    "published": {"steps": 1500, "batch_size": 1000},
}
SUMMED = "baseline, error summed"
LONGER, PAIR, ONE_TO_ONE = "baseline, longer", "baseline, a pair's compute", "penalty, one to one"
# Q5, at the features and dimensions of the readings: α by the number of SAEs. An SAE is in n - 1 of the n (n - 1) / 2 pairs that
# the penalty is the mean of, so that at one α the pull on it falls as 2 / n.
NUMBERS = (2, 3, 5, 8)
PENALTIES: Mapping[str, Callable[[int], float]] = {
    "baseline": lambda n_saes: 0.0,
    "penalty": lambda n_saes: 3.0,
    "penalty, equal pull": lambda n_saes: 3.0 * n_saes / 2,
}
# Q10, at the paper's features and dimensions: what a verdict could hang on; a tenth of the main runs' samples, in as many steps.
# Controls of no less compute: at that batch a step with the penalty, matched one to one, takes about a quarter longer than one
# without; in the second each SAE has the compute of two, in larger batches, which is fair where the penalty makes copies.
SWITCHED: Mapping[str, Mapping[str, Any]] = {
    "baseline": {},
    SUMMED: {"reduction": "sum"},  # the baseline of the penalty as printed: Adam's steps are free of the factor
    LONGER: {"steps": 1.5},  # times the others'
    PAIR: {"batch_size": 2.5},
    "penalty, α = 3": {"alpha": 3.0},
    "penalty as printed": {"alpha": 3.0, "reduction": "sum"},
    ONE_TO_ONE: {"alpha": 3.0, "matching": "hungarian"},
    "centred data": {"center": True},
    "centred, penalty as printed": {"center": True, "alpha": 3.0, "reduction": "sum"},
    "centred, penalty one to one": {"center": True, "alpha": 3.0, "matching": "hungarian"},
}
SWITCHED_SIZE: Mapping[str, Mapping[str, int]] = {"published": {"batch_size": 1000}}
# Q9, at the size of the main runs.
CUBE = "re-initialisation, cube"
CURES = {choice: SWITCHED[choice] for choice in ("baseline", "penalty, α = 3", ONE_TO_ONE, "centred data")} | {
    # On data as printed, which the printed statistic never calls bad: the released code's statistic and threshold.
    CUBE: {"reinit": "always", "inactivity_power": 3, "reinit_threshold": 2.5, "reinit_limit": 1000}
}
FEWER_SEEDS: Mapping[str, int] = {CUBE: 3, SUMMED: 3}
"""Of how many seeds at most these are: as many as a question needs."""


class Row(NamedTuple, Generic[R]):
    """One run: the question it belongs to, and what was chosen."""

    question: str
    choice: str
    n_saes: int
    seed: int
    run: R


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[Row[Planned]]:
    """Return the runs of every question, choice and seed."""
    return [
        Row(question, choice, config.n_saes, config.seed, Planned("synthetic", config, synthetic.DATA_ID))
        for question, choice, config in _choices(profile, n_seeds, values)
    ]


collect: Collect[list[Row[Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""


def compared(
    profile: str, n_seeds: int | None, values: Mapping[str, Any]
) -> Iterator[tuple[str, str, synthetic.SyntheticConfig]]:
    """Yield question, choice and config of every run of Q9 and Q10."""
    own = given(values, readings.SHARED)
    for question, choices, fields in ((CENTRED, CURES, {}), (SWITCHES, SWITCHED, SWITCHED_SIZE.get(profile, {}))):
        plain = synthetic.configure({**fields, **own}, profile)
        for seed in seeds(n_seeds, PROFILES[profile]):
            for choice, changes in choices.items():
                if seed >= FEWER_SEEDS.get(choice, seed + 1):
                    continue
                size = {name: round(getattr(plain, name) * changes.get(name, 1)) for name in ("steps", "batch_size")}
                yield question, choice, replace(plain, **{**changes, **size, "seed": seed})


def _choices(
    profile: str, n_seeds: int | None, values: Mapping[str, Any]
) -> Iterator[tuple[str, str, synthetic.SyntheticConfig]]:
    """Yield question, choice and config of every run."""
    yield from compared(profile, n_seeds, values)
    own = given(values, readings.SHARED)
    quarter = {**readings.SIZE, **PROFILES[profile].fields, **own}
    for seed in range(MANY_RUNS[profile]):
        short = {**MANY_SIZE[profile], **own, "log_every": 100}
        yield MANY, "baseline", synthetic.configure({**short, "seed": seed}, profile)
    for seed in seeds(n_seeds, PROFILES[profile]):
        for n_saes in NUMBERS:
            for choice, alpha in PENALTIES.items():
                fields = {"alpha": alpha(n_saes), "n_saes": n_saes, "seed": seed}
                yield SAES, choice, synthetic.configure({**quarter, **fields}, profile)
