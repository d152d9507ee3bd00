"""The papers' experiments: each a frozen config with profiles, and `run(config) -> Run`."""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import Any

from mfrlib.config import conforms, require, unknown_name
from mfrlib.runs import Run, Store, complete, run_key

# condition: (penalty, re-initialisation)
CONDITIONS: Mapping[str, tuple[bool, bool]] = {
    "baseline": (False, False),
    "reinit": (False, True),
    "penalty": (True, False),
    "mfr": (True, True),
}
# Re-initialisation is worth a run only where the run without it reaches the threshold.
PAIRS = (("baseline", "reinit"), ("penalty", "mfr"))


def condition_fields(name: str, alpha: Any, reinit: str = "window") -> dict[str, Any]:
    """Return the config fields of one of the four conditions, for the penalty's weight and re-initialisation's mode."""
    penalty, restarts = CONDITIONS[name]
    return {"alpha": alpha if penalty else 0.0, "reinit": reinit if restarts else "off"}


NAMES = ("synthetic", "coverage", "groups", "gpt2", "end-to-end", "end-to-end-likeness", "eeg", "denoising", "tiny-lm")
BY_K = ("gpt2", "eeg")  # sections that compare their SAEs by k


@dataclass(frozen=True)
class Profile:
    """A size: config fields, and the number of seeds."""

    fields: Mapping[str, Any]
    n_seeds: int


@dataclass(frozen=True)
class Planned:
    """A run that a notebook asks for, not yet computed."""

    experiment: str
    config: Any
    data_id: str
    after: "Planned | None" = None
    """A run that comes first; this one is needed only if that one reaches the threshold."""

    @property
    def key(self) -> str:
        """The run's key."""
        return run_key(self.experiment, self.config, self.data_id)


def load(name: str, known: Sequence[str] = NAMES) -> ModuleType:
    """Return an experiment's module by name; it has `configure`, `run` and `plan`.

    Raises
    ------
    ConfigError
        With the nearest name, if there is no such experiment.
    """
    if name not in known:
        raise unknown_name(name, known, "experiment")
    return importlib.import_module(f"mfrlib.experiments.{name.replace('-', '_')}")


def seeds(n_seeds: int | None, profile: Profile) -> range:
    """Return the seeds to run: as many as asked for, or the profile's number."""
    require(n_seeds is None or (conforms(n_seeds, int) and n_seeds >= 1), "n_seeds", n_seeds, "must be 1 or more")
    return range(profile.n_seeds if n_seeds is None else n_seeds)


def require_penalty(alpha: Any) -> None:
    """Refuse to compare conditions with and without penalty where there is none (preset `released-head`)."""
    require(alpha != 0, "alpha", alpha, "must not be 0 where conditions with and without penalty are compared")


def drop_unset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are not None: in a notebook None means the profile's own."""
    return {name: value for name, value in values.items() if value is not None}


def reaches_threshold(run: Run) -> bool:
    """Tell whether re-initialisation in its window would have fired in a run without it, and could have come to an end.

    It could not where a run says (`passing_starts`, one share per SAE) that no fresh start stays below the threshold.
    """
    steps, values = run.series("inactivity")
    fires = (values[steps < run.config["reinit_window"]] > run.config["reinit_threshold"]).any()
    return bool(fires and min(run.results.get("passing_starts", [1])) > 0)


def treated_name(seeds: Sequence[Mapping[str, Run]]) -> str:
    """Return the condition that stands for MFR in figures of all seeds: the penalty alone unless every seed has more."""
    return "mfr" if all("mfr" in runs for runs in seeds) else "penalty"


def threshold(seeds: Sequence[Mapping[str, Run]]) -> str:
    """Say in how many seeds re-initialisation's threshold was reached."""
    n = sum("mfr" in runs for runs in seeds)
    return {0: "never reached", len(seeds): "reached"}.get(n, f"reached in {n} of {len(seeds)} seeds")


def condition_runs(run: Callable[..., Run], config: Any, alpha: Any, store: Store | None = None) -> dict[str, Run]:
    """Run the four conditions of one config and seed.

    Where no SAE reaches the threshold in its window, re-initialisation changes nothing: the condition is then left
    out instead of running the same thing twice under two names. So it is where every start is above the threshold.
    """

    def one(name: str) -> Run:
        return run(replace(config, **condition_fields(name, alpha)), store)

    def pair(plain: str, restarted: str) -> dict[str, Run]:
        first = one(plain)
        return {plain: first} | ({restarted: one(restarted)} if reaches_threshold(first) else {})

    without, penalised = complete(partial(pair, *names) for names in PAIRS)
    return without | penalised


def plan_conditions(experiment: str, config: Any, alpha: Any, data_id: str) -> Iterator[Planned]:
    """Yield what `condition_runs` may ask for: each run after the one that it waits for.

    Where a section compares its SAEs by k, the smallest first, k that do not rise are refused.
    """
    ks = config.k if experiment in BY_K and isinstance(config.k, Sequence) else ()
    require(all(a < b for a, b in pairwise(ks)), "k", config.k, "must rise from one SAE to the next")
    for plain, restarted in PAIRS:
        first = Planned(experiment, replace(config, **condition_fields(plain, alpha)), data_id)
        yield first
        yield Planned(experiment, replace(config, **condition_fields(restarted, alpha)), data_id, first)
