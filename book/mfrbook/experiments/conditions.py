"""The four conditions that a section compares: the penalty and re-initialisation, each with and without."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from mfrbook.experiments.planned import Planned, Profile, require_penalty, seeds
from mfrbook.store.runs import Run
from mfrlib.config import require

Seeds = Sequence[Mapping[str, Run]]
"""For each seed, the runs by condition."""

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


BY_K = ("gpt2", "eeg")  # sections that compare their SAEs by k


def treated_name(seeds: Seeds) -> str:
    """Return the condition that stands for MFR in figures of all seeds: the penalty alone unless every seed has more."""
    return "mfr" if all("mfr" in runs for runs in seeds) else "penalty"


def treated(seeds: Seeds) -> list[Run]:
    """Return each seed's run that stands for MFR: all of the condition that `treated_name` names."""
    name = treated_name(seeds)
    return [runs[name] for runs in seeds]


def measured(seeds: Seeds, name: str) -> list[Mapping[str, Run]]:
    """Return the seeds all of whose runs have a result; older runs lack what was not measured yet."""
    return [runs for runs in seeds if all(name in run.results for run in runs.values())]


def untreated(seeds: Seeds) -> list[Run]:
    """Return each seed's run without penalty, with re-initialisation where every seed has one."""
    name = "reinit" if all("reinit" in runs for runs in seeds) else "baseline"
    return [runs[name] for runs in seeds]


def threshold(seeds: Seeds) -> str:
    """Say in how many seeds re-initialisation's threshold was reached."""
    n = sum("mfr" in runs for runs in seeds)
    if not n:
        return never_reached(seeds[0]["baseline"])
    return "reached" if n == len(seeds) else f"reached in {n} of {len(seeds)} seeds"


def never_reached(run: Run) -> str:
    """Say of a run whose threshold was never reached in which steps it was looked at."""
    always = run.config["reinit"] == "always"
    return "never reached at any step" if always else f"never reached in the first {run.config['reinit_window']} steps"


def seed_configs(
    configure: Callable[[Mapping[str, Any]], Any],
    changes: Mapping[str, Any],
    profile: Profile,
    n_seeds: int | None,
    alpha: Any = "calibrate",
) -> tuple[list[Any], Any]:
    """Return a config for each seed, without a penalty, and the weight of the penalty: that of the changes, else `alpha`.

    Impossible values are refused before anything runs.
    """
    alpha = changes.get("alpha", alpha)
    configure({**changes, "alpha": alpha})
    require_penalty(alpha)
    without = {name: value for name, value in changes.items() if name != "alpha"}
    return [configure({**without, "seed": seed}) for seed in seeds(n_seeds, profile)], alpha


def plan_conditions(
    experiment: str, config: Any, alpha: Any, data_id: str, reinit: str = "window"
) -> dict[str, Planned]:
    """Return the four conditions of one config and seed, each after the one that it waits for, if it waits for one.

    Where no SAE reaches the threshold in its window, re-initialisation changes nothing: the condition is then left
    out instead of running the same thing twice under two names. So it is where every start is above the threshold.
    Where inactivity is checked at every step (`reinit="always"`), a run's records, every `log_every` steps, cannot tell
    whether the threshold was crossed: all four conditions are run.
    Where a section compares its SAEs by k, the smallest first, k that do not rise are refused.
    """
    ks = config.k if experiment in BY_K and isinstance(config.k, Sequence) else ()
    require(all(a < b for a, b in pairwise(ks)), "k", config.k, "must rise from one SAE to the next")
    found = {}
    for alone, restarted in PAIRS:
        found[alone] = Planned(experiment, replace(config, **condition_fields(alone, alpha)), data_id)
        after = None if reinit == "always" else found[alone]
        found[restarted] = Planned(
            experiment, replace(config, **condition_fields(restarted, alpha, reinit)), data_id, after
        )
    return found
