"""Figures of SmolLM2's runs: takes the rows of each seed, returns a `Plot`."""

import numpy as np
import pandas as pd

from mfrbook.chapters.gpt2 import tables as gpt2_tables
from mfrbook.chapters.gpt2.smollm2.measures import Seeds, by_k, changes, ks_of, pairs
from mfrbook.drawing.changes import Reported, draw_reported
from mfrbook.drawing.palette import INK, STYLE
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.style import Plot, new_axes, styled

WAYS = ("penalty", "revival", "warm start")
"""Rows held against the baseline that may do the same: bring dead features to life."""
FORMS = ("penalty", "reverse maximum", "α as released", "as released")
"""The penalty as printed, what the released code has instead, one by one, and both."""


@styled
def ways(seeds: Seeds) -> Plot:
    """What the penalty and simpler ways change in the loss at each k, and how many features each leaves dead: seeds, and their mean."""
    figure, (loss, dead) = new_axes(2, height=3.8)
    ks = ks_of(seeds[0]["baseline"])
    x, rows, said = np.arange(len(ks)), [], []
    loss.axhline(0, color=INK, lw=1)
    for way in ("baseline", *WAYS):
        runs = [run for run, _ in pairs(seeds, way, "baseline")]
        if not runs:
            continue
        name, colour, marker, line = STYLE[way]
        label = f"{name}, {len(runs)} seed{'s' * (len(runs) > 1)}"
        change = 100 * changes(seeds, way, "baseline")
        left = np.array([list(by_k(run, "dead").values()) for run in runs])
        for ax, values in ((loss, change), (dead, 100 * left)):
            if way == "baseline" and ax is loss:
                continue
            ax.plot(x, values.T, ls="", marker=".", ms=5, color=colour, alpha=0.5)
            ax.plot(x, values.mean(0), color=colour, marker=marker, ls=line, label=label)
        for measure, values in (("change of loss, %", change), ("dead, %", 100 * left)):
            middle, low, high = interval(values)
            rows.append(pd.DataFrame({"run": way, "measure": measure, "k": ks, "mean": middle, "low": low, "high": high, "seeds": len(runs)}))  # fmt: skip
        if way != "baseline":
            said.append((name, change[:, 0].mean(), change[:, -1].mean()))
    for ax, label in ((loss, "change of reconstruction loss, %"), (dead, "dead features, %")):
        ax.set_xticks(x, [str(k) for k in ks])
        ax.set(xlabel="k, active features per token", ylabel=label)
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
    x, rows, said = np.arange(len(ks)), [], []
    ax.axhline(0, color=INK, lw=1)
    draw_reported(ax, Reported({ks.index(k): value for k, value in gpt2_tables.PAPER_LOSS.items()}))
    for form in FORMS:
        change = 100 * changes(seeds, form, "baseline")
        if not len(change):
            continue
        name, colour, marker, line = STYLE[form]
        name = "Penalty as printed" if form == "penalty" else name
        middle, low, high = interval(change)
        ax.plot(x, change.T, ls="", marker=".", ms=5, color=colour, alpha=0.5)
        ax.plot(x, middle, color=colour, marker=marker, ls=line, label=f"{name}, {len(change)} seeds")
        rows.append(
            pd.DataFrame({"run": form, "k": ks, "change, %": middle, "low": low, "high": high, "seeds": len(change)})
        )
        said.append((name, *middle[[0, -1]]))
    ax.set_xticks(x, [str(k) for k in ks])
    ax.set(xlabel="k, active features per token", ylabel="change of reconstruction loss, %")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left")
    ends = "; ".join(
        f"{name}: {first:+.2g} % at the smallest k, {last:+.2g} % at the largest" for name, first, last in said
    )
    alt = f"Change of the loss against the baseline by k under {len(said)} forms of the penalty. {ends}."
    rises = [f"{name}, by {last:.2g} %" for name, _, last in said if last > 0]
    least = -max(first for _, first, _ in said)
    sees = f"At the smallest k the loss falls by {least:.2g} % or more. At the largest it rises under: {'; '.join(rises) or 'none'}."
    return Plot(figure, pd.concat(rows), alt, sees)
