"""One function a table: takes runs, returns a pandas DataFrame. Here what several sections show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mfrbook.drawing.statistics import as_text, interval
from mfrbook.store.runs import Run

Seeds = Sequence[Mapping[str, Run]]  # for each seed, the runs by condition
MISSING = "–"
"""What a cell without a value shows."""


@dataclass(frozen=True)
class Interval:
    """A mean and its interval, in a cell of a table: numbers until it is drawn."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return what readers see."""
        return as_text(self.middle, self.low, self.high)


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


def with_interval(values: Any) -> Interval:
    """Return mean and 95 % interval over the first axis."""
    return Interval(*(float(one) for one in interval(np.asarray(values, dtype=float))))


def as_data(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as its readers' programs want it: every column holds numbers, or words, and a missing value is empty.

    A column with intervals becomes three, its own and those that end in " low" and " high". Words in a column of numbers, such
    as "mean" among values of k, go to a column of their own, which ends in " (words)".
    """
    columns: dict[str, list[Any]] = {}
    for name, column in zip(
        map(str, table.columns), (table.iloc[:, place] for place in range(table.shape[1])), strict=True
    ):
        cells = [_number(cell) for cell in column]
        intervals = any(isinstance(cell, Interval) for cell in cells)
        words = [cell if isinstance(cell, str) else None for cell in cells]
        if all(cell is None or isinstance(cell, str) for cell in cells):
            columns[name] = words
            continue
        for part, ending in (("middle", ""), ("low", " low"), ("high", " high")):
            if intervals or not ending:
                columns[name + ending] = [
                    getattr(cell, part)
                    if isinstance(cell, Interval)
                    else None
                    if isinstance(cell, str) or ending
                    else cell
                    for cell in cells
                ]
        if any(word is not None for word in words):
            columns[f"{name} (words)"] = words
    return pd.DataFrame(columns)


def _number(cell: Any) -> Any:
    """Return a cell's number where it is one, written out or not; None where it is missing."""
    if cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell)) or cell == MISSING:
        return None
    if not isinstance(cell, str):
        return cell
    try:
        return float(cell.replace("−", "-").replace(",", "").removesuffix("%"))
    except ValueError:
        return cell
