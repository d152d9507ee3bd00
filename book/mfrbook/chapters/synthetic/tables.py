"""Tables of the synthetic section: similarity and the cluster, final metrics, and what chance gives."""

from typing import Any

import numpy as np
import pandas as pd

from mfrbook.drawing.statistics import pearson_interval
from mfrbook.drawing.tables import with_interval
from mfrbook.experiments.conditions import Seeds
from mfrbook.experiments.evidence import mean
from mfrbook.store.runs import Run
from mfrlib.method.similarity import chance_level


def chance(run: Run) -> dict[str, float]:
    """Return what random dictionaries score with the input features, and with each other (Q2), by matching."""
    n, known, d_in = (run.config[name] for name in ("n_features", "n_input_features", "d_in"))
    return {
        "Hungarian": chance_level(n, known, d_in, matched=True),
        "max": chance_level(n, known, d_in),
        "across, Hungarian": chance_level(n, n, d_in, matched=True),
        "across, max": chance_level(n, n, d_in),
    }


def similarity(seeds: Seeds) -> pd.DataFrame:
    """S1–S5 for every run: r by both matchings with bootstrap intervals, the cluster, what it is made of."""
    rows = []
    for runs in seeds:
        for condition, run in runs.items():
            results = run.results
            r, low, high = pearson_interval(run.arrays["across"].ravel(), run.arrays["input"].ravel())
            rows.append(
                {
                    "condition": condition,
                    "seed": run.config["seed"],
                    "r (Hungarian)": r,
                    "r low": low,
                    "r high": high,
                    "r (max)": results["r_max"],
                    "r without cluster": results["r_without_cluster"],
                    "cluster per SAE": np.mean(results["cluster"]),
                    "of these dead": np.mean(results["cluster_dead"]),
                    "cluster · −mean": results["cluster_minus_mean"],
                    "dead features": np.mean(results["dead"]) * run.config["n_features"],
                }
            )
    return pd.DataFrame(rows)


FINAL = {
    "loss": "loss",
    "fvu": "FVU",
    "mmcs_input": "MMCS with true features",
    "matched_input": "Hungarian with true features",
    "recovered": "true features recovered",
    "mmcs_across": "MMCS across",
    "matched_across": "Hungarian across",
    "unique_across": "unique matches across",
    "coherence": "coherence",
    "cluster": "cluster",
    "inactivity": "inactivity",
}


def final(seeds: Seeds) -> pd.DataFrame:
    """Final metrics of each condition: mean over SAEs, then mean and 95 % interval over seeds."""
    rows = []
    for condition in dict.fromkeys(name for runs in seeds for name in runs):
        row: dict[str, Any] = {"condition": condition, "seeds": sum(condition in runs for runs in seeds)}
        for metric, label in FINAL.items():
            row[label] = with_interval(
                [np.mean(runs[condition].results[metric]) for runs in seeds if condition in runs]
            )
        rows.append(row)
    return pd.DataFrame(rows).set_index("condition").T.reset_index(names="metric").rename_axis(columns=None)


def values(seeds: Seeds, treated: str) -> dict[str, float]:
    """Return the numbers the prose names: means over seeds without and with MFR."""
    return {
        f"{metric}_{said}": float(np.mean([mean(runs[name], metric) for runs in seeds]))
        for metric in ("fvu", "mmcs_input", "cluster")
        for said, name in (("baseline", "baseline"), ("treated", treated))
    }
