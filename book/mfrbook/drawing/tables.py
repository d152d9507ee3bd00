"""One function a table: takes runs, returns a pandas DataFrame. Here what several sections show."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mfrbook.drawing.statistics import as_text, interval
from mfrbook.store.runs import Run

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
            for sae, k in enumerate(run.config["k"]):
                row = {"condition": condition, "seed": run.config["seed"], "k": k}
                rows.append(row | {name: run.results[name][sae] for name in metrics if name in run.results})
    return pd.DataFrame(rows)


def with_interval(values: Any) -> str:
    """Return mean and 95 % interval over the first axis as text."""
    return as_text(*(float(one) for one in interval(np.asarray(values, dtype=float))))
