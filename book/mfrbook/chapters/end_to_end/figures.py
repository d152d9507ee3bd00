"""The end-to-end chapter's figures: fronts, and how alike dictionaries are."""

from collections.abc import Mapping
from textwrap import fill

import numpy as np
import pandas as pd

from mfrbook.chapters.end_to_end import pareto
from mfrbook.drawing.palette import INK, STYLE
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.style import Plot, new_axes, plain_log, styled

WIDE = 5  # an axis is logarithmic where the largest value is so many times the smallest


@styled
def fronts(table: pd.DataFrame, across: Mapping[str, str]) -> Plot:
    """Rise of the cross-entropy against what an SAE costs: one point an SAE, means over seeds joined; intervals of three or more.

    Parameters
    ----------
    table
        As `mfrbook.chapters.end_to_end.pareto.points` gives it.
    across
        Column: label, one panel each.
    """
    figure, axes = new_axes(len(across), height=4.2, sharey=True, squeeze=False)
    said = []
    first: dict[str, np.ndarray] = {}  # the points of the first panel's lines, from left to right
    for ax, (column, label) in zip(axes[0], across.items(), strict=True):
        for condition, part in table.groupby("condition", sort=False):
            name, colour, marker, line = STYLE[str(condition)]
            ax.plot(part[column], part["CE increase"], ls="", marker=marker, ms=3, color=colour, alpha=0.3)
            means = []
            for _, same in part.groupby("sae"):
                x, y = (interval(same[one].to_numpy()) for one in (column, "CE increase"))
                if len(same) > 2:  # the interval of two is wider than the axes
                    ax.errorbar([x[0]], [y[0]], xerr=_sides(x), yerr=_sides(y), color=colour, capsize=2, lw=1)
                means.append((float(x[0]), float(y[0])))
            ax.plot(*zip(*means, strict=True), color=colour, ls=line, marker=marker, ms=6, label=name)
            points = "; ".join(f"{x:.3g}: {y:.3g}" for x, y in sorted(means))
            first.setdefault(name, np.array(sorted(means)).T)
            said.append(f"{name}, CE increase in nats by {label}: {points}")
        ax.set_xlabel(label)
        if table[column].min() * WIDE < table[column].max() and (table[column] > 0).all():
            ax.set_xscale("log")
            plain_log(ax.xaxis)
    axes[0][0].set_ylabel("increase of the cross-entropy, nats")
    if (table["CE increase"] > 0).all():
        axes[0][0].set_yscale("log")
        plain_log(axes[0][0].yaxis)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return Plot(figure, table, ". ".join(said) + ".", f"Lower and further left is better. {_below(first)}".strip())


@styled
def gains(sets: Mapping[str, pd.DataFrame]) -> Plot:
    """What share of the local front's rise of the CE each objective saves at the same L0: seeds, means, intervals of three or more.

    Parameters
    ----------
    sets
        What a set of runs is called, line by line, and its table as `mfrbook.chapters.end_to_end.pareto.points` gives it.
    """
    figure, ax = new_axes(height=3.8)
    rows = []
    for place, treated in enumerate(("e2e", "downstream")):
        name, colour, marker, _ = STYLE[treated]
        for column, (label, points) in enumerate(sets.items()):
            saved = 100 * np.array(pareto.ce_at_equal_l0(points, treated, share=True))
            saved = saved[np.isfinite(saved)]  # of the seeds with an SAE within the local front's reach
            if not len(saved):
                continue
            at, middle = column + 0.24 * place - 0.12, float(saved.mean())
            ax.plot([at] * len(saved), saved, ls="", marker=".", ms=5, color=colour, alpha=0.5)
            sides = _sides(interval(saved)) if len(saved) > 2 else None  # the interval of two is wider than the axes
            ax.errorbar([at], [middle], yerr=sides, fmt=marker, color=colour, capsize=3, label=None if column else name)
            rows.append({"SAE": name, "runs": label.replace("\n", " "), "saved, %": middle, "seeds": len(saved)})
    ax.axhline(0, color=INK, lw=1, zorder=0)
    ax.set_xticks(range(len(sets)), list(sets))
    ax.set_xlim(-0.5, len(sets) - 0.5)
    ax.set_ylabel("rise of the CE saved, %")
    figure.legend(loc="outside lower center", ncols=2)
    table = pd.DataFrame(rows).sort_values("saved, %")
    said = [f"{row['SAE']}, {row['runs']}: {row['saved, %']:.2g} %" for _, row in table.iterrows()]
    alt = f"Saved of the local SAEs' rise of the cross-entropy: {'; '.join(said)}."
    return Plot(figure, table, alt, f"Least is saved by {said[0]}. Most is saved by {said[-1]}.")


def _below(lines: Mapping[str, np.ndarray]) -> str:
    """Say at how many of its points each line lies below the first one, as far as that one reaches (on logarithmic axes)."""
    if min(points.min() for points in lines.values()) <= 0:
        return ""
    (name, (x, y)), *others = lines.items()
    parts = []
    for other, (at, height) in others:
        inside = (at >= x[0]) & (at <= x[-1])
        if inside.any():
            below = height[inside] < np.exp(np.interp(np.log(at[inside]), np.log(x), np.log(y)))
            parts.append(f"{below.sum()} of {inside.sum()} of {other}")
    return (
        f"Of the first panel's points within the reach of {name}, below its line lie {', '.join(parts)}."
        if parts
        else ""
    )


def _sides(one: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[list[float]]:
    middle, low, high = (float(value) for value in one)
    return [[middle - low], [high - middle]]


@styled
def likeness(table: pd.DataFrame, measure: str, label: str) -> Plot:
    """How alike dictionaries are: mean and 95 % interval of each comparison, and what random ones score.

    Parameters
    ----------
    table
        As `mfrbook.chapters.end_to_end.comparison.likeness` gives it.
    measure
        A column of it that has `low`, `high` and `chance` beside it.
    """
    figure, ax = new_axes(height=1.1 + 0.4 * len(table))
    rows = np.arange(len(table))
    middle, low, high, chance = (
        table[name].to_numpy(float) for name in (measure, f"{measure} low", f"{measure} high", f"{measure} chance")
    )
    colours = [STYLE[name][1] for name in table["condition"]]
    for row, marker in zip(rows, (STYLE[name][2] for name in table["condition"]), strict=True):
        sides = [[middle[row] - low[row]], [high[row] - middle[row]]]
        ax.errorbar(middle[row], row, xerr=sides, fmt=marker, color=colours[row], capsize=3, ms=6)
    ax.plot(chance, rows, ls="", marker="|", ms=14, color=INK, label="chance: random dictionaries")
    names = [f"{what}, {how}" for what, how in zip(table["features of"], table["compared"], strict=True)]
    ax.set_yticks(rows, [fill(name, 28) for name in names], fontsize=9.5)
    ax.invert_yaxis()
    ax.set_xlabel(label)
    figure.legend(loc="outside lower center")
    said = [f"{name}: {m:.3f}, chance {c:.3f}" for name, m, c in zip(names, middle, chance, strict=True)]
    most = names[int(middle.argmax())]
    return Plot(
        figure, table, f"{label}. " + "; ".join(said) + ".", f"Most alike are: {most} (cosine {middle.max():.2f})."
    )
