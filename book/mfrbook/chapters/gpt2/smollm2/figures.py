"""Figures of SmolLM2's runs: takes the rows of each seed, returns a `Plot`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mfrbook.chapters.gpt2 import tables as gpt2_tables
from mfrbook.chapters.gpt2.smollm2.measures import by_k, changes, pairs
from mfrbook.drawing.changes import Reported, draw_reported
from mfrbook.drawing.palette import INK, STYLE
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.style import Plot, new_axes, styled
from mfrbook.experiments.conditions import Seeds
from mfrbook.experiments.controls import ks_of

WAYS = ("penalty", "revival", "warm start", "baseline, centred", "baseline, longer")
"""Rows held against the baseline that may do the same: bring dead features to life, or take more compute."""
FORMS = ("penalty", "reverse maximum", "α as released", "as released")
"""The penalty as printed, what the released code has instead, one by one, and both."""
CHANGE = "change of reconstruction loss, %"


@styled
def ways(seeds: Seeds) -> Plot:
    """What the penalty and other ways change in the loss at each k, and how many features each leaves dead: seeds, and their mean."""
    figure, (loss, dead) = new_axes(2, height=3.8)
    ks = ks_of(seeds[0]["baseline"])
    rows, said = [], []
    for way in ("baseline", *WAYS):
        runs = [run for run, _ in pairs(seeds, way, "baseline")]
        if not runs:
            continue
        change = 100 * changes(seeds, way, "baseline")
        left = np.array([list(by_k(run, "dead").values()) for run in runs])
        _draw(dead, way, 100 * left)
        for measure, values in (("change of loss, %", change), ("dead, %", 100 * left)):
            middle, low, high = interval(values)
            rows.append(pd.DataFrame({"run": way, "measure": measure, "k": ks, "mean": middle, "low": low, "high": high, "seeds": len(runs)}))  # fmt: skip
        if way != "baseline":
            _draw(loss, way, change)
            said.append((STYLE[way][0], change[:, 0].mean(), change[:, -1].mean()))
    _over_k(loss, ks, CHANGE)
    loss.axhline(0, color=INK, lw=1, zorder=0)
    _over_k(dead, ks, "dead features, %")
    figure.legend(*dead.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    sees = " ".join(
        f"{name}: the loss changes by {smallest:+.2g} % at the smallest k and by {largest:+.2g} % at the largest."
        for name, smallest, largest in said
    )
    return Plot(
        figure, pd.concat(rows), f"Change of the loss against the baseline by k, and dead features by k. {sees}", sees
    )


@styled
def forms(seeds: Seeds) -> Plot:
    """What each form of the penalty changes in the loss at each k, beside the paper's numbers: seeds, and their mean."""
    figure, ax = new_axes(height=4.8)
    ks = ks_of(seeds[0]["baseline"])
    rows, said = [], []
    draw_reported(ax, Reported({ks.index(k): value for k, value in gpt2_tables.PAPER_LOSS.items()}))
    for form in FORMS:
        change = 100 * changes(seeds, form, "baseline")
        if not len(change):
            continue
        name = "Penalty as printed" if form == "penalty" else STYLE[form][0]
        middle, low, high = interval(change)
        _draw(ax, form, change, name)
        rows.append(
            pd.DataFrame({"run": form, "k": ks, "change, %": middle, "low": low, "high": high, "seeds": len(change)})
        )
        said.append((name, *middle[[0, -1]]))
    _over_k(ax, ks, CHANGE)
    ax.axhline(0, color=INK, lw=1, zorder=0)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left")
    ends = "; ".join(
        f"{name}: {first:+.2g} % at the smallest k, {last:+.2g} % at the largest" for name, first, last in said
    )
    alt = f"Change of the loss against the baseline by k under {len(said)} forms of the penalty. {ends}."
    rises = [f"{name}, by {last:.2g} %" for name, _, last in said if last > 0]
    least = -max(first for _, first, _ in said)
    sees = f"At the smallest k the loss falls by {least:.2g} % or more. At the largest it rises under: {'; '.join(rises) or 'none'}."
    return Plot(figure, pd.concat(rows), alt, sees)


def _draw(ax: Axes, row: str, values: np.ndarray, name: str = "") -> None:
    """Draw a row's values, `(seed, k)`: a point a seed, and their mean as a line."""
    own, colour, marker, line = STYLE[row]
    x, label = np.arange(values.shape[1]), f"{name or own}, {len(values)} seed{'s' * (len(values) > 1)}"
    ax.plot(x, values.T, ls="", marker=".", ms=5, color=colour, alpha=0.5)
    ax.plot(x, values.mean(0), color=colour, marker=marker, ls=line, label=label)


def _over_k(ax: Axes, ks: Sequence[int], label: str) -> None:
    """Give the axes a tick for each k, and labels."""
    ax.set_xticks(np.arange(len(ks)), [str(k) for k in ks])
    ax.set(xlabel="k, active features per token", ylabel=label)
