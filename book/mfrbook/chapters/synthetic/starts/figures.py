"""How early each metric tells which starts will have an always-on feature: a curve over training for each (S10, Q14)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mfrbook.chapters.synthetic.starts.measures import FROM, joined, telling
from mfrbook.chapters.synthetic.starts.runs import METRICS, Row
from mfrbook.drawing.palette import GRID, INK, OTHERS
from mfrbook.drawing.style import Plot, new_axes, plain_log, styled
from mfrbook.experiments.controls import ALWAYS
from mfrbook.experiments.evidence import Untested
from mfrbook.store.runs import Run

BINS = 40  # of the steps, evenly in their logarithm: single steps scatter more than a reader can follow
NAMES = {"as-released": "released data", "as-printed": "data as printed"}
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def by_step(rows: Sequence[Row[Run]]) -> pd.DataFrame:
    """Return a row for each data set, metric and bin of steps.

    Returns
    -------
    DataFrame
        `first step` and `last step` of the bin, counted from 0; `AUC`, the mean over them of that with which the metric tells the
        starts that end with an always-on feature (0.5 is chance, and NaN where all starts end alike); `starts`, and
        `always on`: how many end with one.
    """
    tables = []
    for data in dict.fromkeys(row.data for row in rows):
        chosen = [row for row in rows if row.data == data]
        final, statistics = joined(chosen)
        try:
            found = telling(chosen)
        except Untested:
            found = np.full(statistics.shape[:2], np.nan)
        n = found.shape[1]
        edges = np.unique(np.geomspace(1, n + 1, BINS + 1).round().astype(int)) - 1
        for metric, values in zip(METRICS, found, strict=True):
            own = {
                "data": NAMES[data],
                "metric": metric,
                "starts": len(final),
                "always on": int((final > ALWAYS).sum()),
            }
            means = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
            tables.append(pd.DataFrame({**own, "first step": edges[:-1], "last step": edges[1:] - 1, "AUC": means}))
    return pd.concat(tables, ignore_index=True)


@styled
def telling_by_step(rows: Sequence[Row[Run]]) -> Plot:
    """AUC of each metric against the training step, a panel for each data set; steps on a logarithmic axis."""
    table = by_step(rows)
    groups = table.groupby("data", sort=False)
    figure, axes = new_axes(len(groups), height=3.6, width=7.2, sharey=True, squeeze=False)
    said: list[str] = []
    told: list[str] = []
    alike: list[str] = []
    for ax, (data, part) in zip(axes[0], groups, strict=True):
        for (metric, one), colour, line in zip(part.groupby("metric", sort=False), OTHERS, LINES, strict=False):
            middle = np.sqrt((one["first step"] + 1) * (one["last step"] + 1))
            ax.plot(middle, one["AUC"], color=colour, ls=line, lw=1.5, label=metric)
        ax.axhline(0.5, color=GRID, lw=1)
        ax.axvline(FROM, color=INK, lw=0.8, ls=":")
        ax.set_xscale("log")
        plain_log(ax.xaxis)
        ax.set_ylim(0, 1.02)
        ax.set_title(f"{data}: {part['always on'].iloc[0]} of {part['starts'].iloc[0]} starts end with one", fontsize=9)
        ax.set_xlabel("training step")
        read = part[part["first step"] <= FROM]
        at, step = read.groupby("metric", sort=False)["AUC"].last(), min(FROM, int(read["last step"].max()))
        said.append(f"{data}, AUC about step {step}: " + "; ".join(f"{name} {value:.2f}" for name, value in at.items()))
        if at.isna().all():
            alike.append(str(data))
        else:
            told.append(f"{at.max():.2f} on {data}")
    axes[0][0].set_ylabel("AUC: 0.5 is chance")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    sees = [f"About step {step} the best metric has an area under the curve of {' and '.join(told)}."] if told else []
    sees += [f"On {data} all starts end alike." for data in alike]
    return Plot(figure, table, ". ".join(said) + ".", " ".join(sees))
