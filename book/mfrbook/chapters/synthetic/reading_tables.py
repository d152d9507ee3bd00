"""Tables of the readings: what each switch, and each preset, changes."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mfrbook.chapters.synthetic.readings import Row
from mfrbook.drawing.tables import with_interval

METRICS = {
    "fvu": "FVU",
    "mmcs_input": "MMCS with true features",
    "recovered": "true features recovered",
    "matched_across": "Hungarian across",
    "unique_across": "unique matches",
    "coherence": "coherence",
    "cluster": "cluster",
}
PER_SAE = ("fvu", "mmcs_input", "recovered", "cluster")


def cells(rows: Sequence[Row]) -> pd.DataFrame:
    """Final metrics of every reading and seed, one row a run."""
    return pd.DataFrame(
        {"reading": row.reading, "choice": row.choice, "seed": row.seed}
        | {metric: float(np.mean(row.run.results[metric])) for metric in METRICS}
        | {"r": row.run.results["r"], "re-initialised": len(row.run.results["events"]), "α": row.run.results["alpha"]}
        | {"samples": row.run.results["samples"]}
        for row in rows
    )


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over seeds of every reading, the default first."""
    rows = []
    for (reading, choice), part in table.groupby(["reading", "choice"], sort=False):
        row: dict[str, Any] = {"reading": reading, "choice": choice, "α": f"{part['α'].mean():.3g}"}
        row |= {label: with_interval(part[metric]) for metric, label in METRICS.items()}
        row |= {"r": with_interval(part["r"]), "re-initialised": f"{part['re-initialised'].mean():.3g}"}
        rows.append(row | {"seeds": len(part), "million samples": f"{part['samples'].mean() / 1e6:.3g}"})
    return pd.DataFrame(rows)


def by_k(rows: Sequence[Row]) -> pd.DataFrame:
    """Final metrics of each SAE, one row each, under the readings whose SAEs differ in k."""
    return pd.DataFrame(
        {"choice": f"{row.choice}, k = {k}", "seed": row.seed} | {name: row.run.results[name][sae] for name in PER_SAE}
        for row in rows
        if not isinstance(row.run.config["k"], int)
        for sae, k in enumerate(row.run.config["k"])
    )


def by_k_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over seeds of each SAE."""
    return pd.DataFrame(
        {"choice": choice} | {METRICS[name]: with_interval(part[name]) for name in PER_SAE}
        for choice, part in table.groupby("choice", sort=False)
    )


def choices(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the summary of some readings only."""
    return summary(table[table["choice"].isin(names)])


def values(table: pd.DataFrame) -> dict[str, float]:
    """Return the numbers the prose names: `choice_metric` means over seeds, in plain letters."""
    metrics = [name for name in ("fvu", "mmcs_input", "unique_across", "cluster") if name in table]
    means = table.groupby("choice", sort=False)[metrics].mean()
    return {f"{_plain(choice)}_{metric}": value for choice, row in means.iterrows() for metric, value in row.items()}


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower().replace("α", "alpha")).strip("_")
