"""One function a table: takes runs, returns a pandas DataFrame. Here what several sections show."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mfrlib.runs import Run
from mfrlib.statistics import as_text, interval

Seeds = Sequence[Mapping[str, Run]]  # for each seed, the runs by condition


def early_inactivity(run: Run) -> np.ndarray:
    """Return each SAE's largest inactivity in the window after the start `(sae,)`."""
    steps, values = run.series("inactivity")
    return values[steps < run.config["reinit_window"]].max(0)


def early(seeds: Seeds) -> pd.DataFrame:
    """Largest inactivity in the window against the threshold, baseline, one row per SAE (S6, R10c)."""
    rows = []
    for runs in seeds:
        run = runs["baseline"]
        window, threshold = run.config["reinit_window"], run.config["reinit_threshold"]
        for sae, top in enumerate(early_inactivity(run)):
            rows.append(
                {
                    "seed": run.config["seed"],
                    "SAE": sae,
                    f"largest inactivity in {window} steps": top,
                    "threshold": threshold,
                    "reached": "yes" if top > threshold else "never",
                    "cluster": run.results["cluster"][sae] if "cluster" in run.results else None,
                }
            )
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def as_rows(values: Mapping[str, float], name: str, value: str) -> pd.DataFrame:
    """Return a table of names and values."""
    return pd.DataFrame({name: list(values), value: list(values.values())})


def by_sae(seeds: Seeds, metrics: Iterable[str]) -> pd.DataFrame:
    """Return those measures that a run has, one row per condition, seed and k."""
    rows = []
    for runs in seeds:
        for condition, run in runs.items():
            kept = run.results | {"mmcs_across": mmcs_across(run)}
            for sae, k in enumerate(run.config["k"]):
                row = {"condition": condition, "seed": run.config["seed"], "k": k}
                rows.append(row | {name: kept[name][sae] for name in metrics if name in kept})
    return pd.DataFrame(rows)


def mmcs_across(run: Run) -> np.ndarray:
    """Return the MMCS of each SAE of an EEG or a language model's run with the others, `(sae,)`; of one alone, NaN.

    Runs keep a mean over the whole stack, in which each SAE counts itself, at 1.
    """
    n = run.config["n_saes"]
    return (n * np.array(run.results["mmcs_across"]) - 1) / (n - 1) if n > 1 else np.full(1, np.nan)


def with_interval(values: Any) -> str:
    """Return mean and 95 % interval over the first axis as text."""
    return as_text(*(float(one) for one in interval(np.asarray(values, dtype=float))))
