"""One function a table: takes runs, returns a pandas DataFrame. Here what several sections show."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mfrbook.drawing.statistics import as_text, interval
from mfrbook.experiments.conditions import Seeds
from mfrbook.experiments.controls import DENSE, early_inactivity, loss_change

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


def dense(seeds: Seeds, treated: str) -> pd.DataFrame:
    """Return, for each k, how many features are active on more than a tenth of the samples, and the paired change of the loss (Q18)."""
    change, rows = 100 * loss_change(seeds, treated, "baseline"), []
    for sae, k in enumerate(seeds[0]["baseline"].config["k"]):
        row: dict[str, Any] = {"k": k}
        for name in ("baseline", treated):
            counts = [(runs[name].arrays["rate"][sae] > DENSE).sum() for runs in seeds]
            row[f"dense features, {name}"] = with_interval(counts)
        rows.append(row | {"change of loss, %": with_interval(change[:, sae])})
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


def _missing(cell: Any) -> bool:
    return bool(pd.api.types.is_scalar(cell) and pd.isna(cell))


def _number(cell: Any) -> Any:
    """Return a cell's number where it is one, written out or not; None where it is missing."""
    if _missing(cell) or cell == MISSING:
        return None
    if not isinstance(cell, str):
        return cell
    try:
        return float(cell.replace("−", "-").replace(",", "").removesuffix("%"))
    except ValueError:
        return cell


ROOM = 82
"""Characters that stand beside each other in a table as wide as the page's text, columns' margins included."""
ANSWERS = ("change", "paper")
"""How the columns begin that a wide table has first, behind those that name a row."""
_MARGIN, _LONGEST = 2, 21


def as_shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table's cells as readers see them: numbers to four digits, a dash where nothing is."""
    shown = {str(name): [_text(cell) for cell in table[name]] for name in table}
    return pd.DataFrame(shown, index=table.index)


def side_by_side(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Return a table as readers see it, in parts that are no wider than the page: each has the columns that name a row.

    A wide table of up to three rows is turned instead: its columns become rows.
    """
    shown = as_shown(table)
    widths = [_width(name, shown[name]) for name in shown]
    if sum(widths) <= ROOM:
        return [shown]
    if len(shown) <= 3:
        return [shown.set_index(shown.columns[0]).T.rename_axis(index=shown.columns[0], columns=None).reset_index()]
    keys = _keys(table)
    parts: list[list[int]] = [[]]
    room = ROOM - sum(widths[:keys])
    answers_first = sorted(range(keys, len(widths)), key=lambda place: not shown.columns[place].startswith(ANSWERS))
    for place in answers_first:
        if parts[-1] and sum(widths[one] for one in parts[-1]) + widths[place] > room:
            parts.append([])
        parts[-1].append(place)
    return [shown.iloc[:, [*range(keys), *part]] for part in parts]


def _keys(table: pd.DataFrame) -> int:
    """Return how many of the first columns name a row: one, or two if one alone does not tell rows apart."""
    return 1 if table.iloc[:, 0].map(str).is_unique or table.shape[1] < 3 else 2


def _width(name: str, column: pd.Series) -> int:
    """Return how many characters wide a column is: its longest word, and up to a limit its longest cell."""
    words = [word for text in (name, *column) for word in text.split()]
    longest = max((len(text) for text in column), default=0)
    return _MARGIN + max([min(longest, _LONGEST), *map(len, words)])


def _text(cell: Any) -> str:
    if _missing(cell):
        return MISSING
    if isinstance(cell, float | np.floating):
        return f"{cell:.4g}".replace("-", "−")
    return str(cell).replace("-", "−") if isinstance(cell, int | np.integer) else str(cell)
