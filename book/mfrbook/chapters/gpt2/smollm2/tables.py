"""Tables of SmolLM2's runs: takes the rows of each seed, returns pandas DataFrames."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mfrbook.chapters.gpt2.smollm2.measures import by_k, changes, pairs
from mfrbook.chapters.gpt2.smollm2.runs import RELEASED_ALPHA
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.tables import with_interval
from mfrbook.experiments.conditions import Seeds
from mfrbook.experiments.controls import ks_of
from mfrbook.store.runs import Run

FEATURES: Mapping[str, str] = {
    "dead": "dead features, share",
    "dense": "features active on more than 10 % of tokens",
    "always_on": "features active on more than 90 % of tokens",
}
ERRORS: Mapping[str, str] = {
    "fvu": "mean relative error (FVU)",
    "error_median": "median relative error of a token",
    "error_largest": "share of the error in the 1 % largest tokens",
}
DISTANCES: Mapping[str, str] = {
    "distance_raw": "distance, row by row",
    "distance_raw_matched": "distance, rows matched",
}
COMPARED: Mapping[str, str] = {
    "penalty": "baseline",
    "warm start": "baseline",
    "warm start, a quarter of the steps": "baseline",
    "revival": "baseline",
    "frozen dictionary": "baseline",
    "one k": "baseline",
    "baseline, longer": "baseline",
    "baseline, wider": "baseline",
    "reverse maximum": "baseline",
    "α as released": "baseline",
    "as released": "baseline",
    "baseline, centred": "baseline",
    "penalty, centred": "baseline, centred",
    "baseline, learnt bias": "baseline",
    "penalty, learnt bias": "baseline, learnt bias",
    "penalty, untrained block": "baseline, untrained block",
    "penalty, middle layer": "baseline, middle layer",
}
"""Row, and what its loss is held against."""
SAID = (
    "penalty", "revival", "warm start", "frozen dictionary", "baseline, longer", "reverse maximum", "α as released", "as released",
    "baseline, centred", "penalty, centred", "baseline, learnt bias", "penalty, learnt bias",
)  # fmt: skip
"""Rows whose numbers at each k the prose names."""


def paired(seeds: Seeds) -> Seeds:
    """Return baseline and penalty alone, of the seeds that have both."""
    return [{name: one[name] for name in ("baseline", "penalty")} for one in seeds if "penalty" in one]


def measures(seeds: Seeds, named: Mapping[str, str]) -> pd.DataFrame:
    """Return measures for each k, without the penalty and with it."""
    rows = []
    for k in ks_of(seeds[0]["baseline"]):
        row: dict[str, object] = {"k": k}
        for metric, label in named.items():
            for name in ("baseline", "penalty"):
                row[f"{label}, {name}"] = with_interval([by_k(one[name], metric)[k] for one in seeds])
        rows.append(row)
    return pd.DataFrame(rows)


def compared(seeds: Seeds) -> pd.DataFrame:
    """Return the change of loss and cross-entropy of every row that is archived with what it is held against."""
    rows = []
    for name, against in COMPARED.items():
        both, loss = pairs(seeds, name, against), 100 * changes(seeds, name, against)
        if not both:
            continue
        run, several = both[0][0], loss.shape[1] > 1
        rows.append(
            {
                "run": name,
                "against": against,
                "seeds": len(both),
                "SAE steps": sae_steps(run),
                "change of loss, %, mean over k": with_interval(loss.mean(1)),
                "smallest k": with_interval(loss[:, 0]) if several else "–",
                "largest k": with_interval(loss[:, -1]) if several else "–",
                "change of CE, %, mean over k": with_interval(100 * changes(seeds, name, against, "ce").mean(1)),
                "dead features, share": with_interval([np.mean(one.results["dead"]) for one, _ in both]),
            }
        )
    return pd.DataFrame(rows)


def sae_steps(run: Run) -> int:
    """Return how many steps of one SAE a run took, over all its SAEs."""
    config, warm = run.config, run.config.get("warm_start", 0)
    return config["steps"] + (config["n_saes"] - 1) * warm if warm else config["steps"] * config["n_saes"]


def values(seeds: Seeds) -> dict[str, float | str]:
    """Return the numbers that the prose names: of each k and condition, and of every comparison."""
    found: dict[str, float | str] = {"smollm2_seeds": len(paired(seeds))}
    first = seeds[0]["baseline"]
    found |= {f"smollm2_{name}": first.results[name] for name in ("ce_unmodified", "ce_zero", "ce_mean", "ce_uniform")}
    found |= {f"smollm2_{name}": first.config[name] for name in ("n_inserted", "length")}
    found["smollm2_beyond_uniform"] = first.results["ce_zero"] - first.results["ce_uniform"]
    found["smollm2_held_out"] = first.results["held_out_tokens"]
    for name in ("baseline", "penalty"):
        for metric in ("loss", "recovered_zero", *FEATURES, *ERRORS, *DISTANCES):
            parts = [by_k(one[name], metric) for one in paired(seeds)]
            for k in parts[0]:
                found[f"smollm2_{metric}_{name}_{k}"] = float(np.mean([one[k] for one in parts]))
    calibrated = [one["penalty"].results["alpha"] for one in paired(seeds)]
    found["smollm2_alpha_times"] = float(np.mean(calibrated)) / RELEASED_ALPHA
    against = changes(seeds, "baseline, longer", "penalty")
    lower = [
        str(k) for k, change in zip(ks_of(first), against.mean(0) if len(against) else (), strict=False) if change < 0
    ]
    found["smollm2_longer_lower_at"] = " and ".join(lower) or "no value"
    for name in SAID:
        both, row = pairs(seeds, name, COMPARED[name]), name.replace(",", "").replace(" ", "_").replace("α", "alpha")
        found[f"smollm2_seeds_{row}"] = len(both)
        for place, change in enumerate(100 * changes(seeds, name, COMPARED[name]).T):
            k = ks_of(first)[place]
            found[f"smollm2_change_{row}_{k}"] = float(interval(change)[0])
            found[f"smollm2_dead_{row}_{k}"] = float(np.mean([by_k(run, "dead")[k] for run, _ in both]))
    return found
