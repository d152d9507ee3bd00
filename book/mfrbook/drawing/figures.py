"""One function a figure: takes runs, returns a `Plot` (figure, the data drawn, alt text). Here what several sections draw."""

from collections.abc import Mapping, Sequence
from functools import reduce
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from mfrbook.drawing.palette import GRID, INK, PAPER, STYLE, condition_of
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.style import Plot, new_axes, plain_log, styled
from mfrbook.experiments.conditions import Seeds

LESS_IS_BETTER = ("fvu", "cluster")  # among metrics of which for the others more is


@styled
def curves(
    seeds: Seeds,
    metric: str,
    label: str,
    *,
    log: bool = False,
    reference: float | None = None,
    until: int | None = None,
    single: bool = False,
    paper: Mapping[str, float] | None = None,
) -> Plot:
    """Figures 6, 7 and 8: a metric over steps, a line per condition (mean over SAEs and seeds), each run faint behind it.

    Parameters
    ----------
    reference
        A level to mark: the re-initialisation threshold, or chance.
    until
        Last step drawn.
    single
        Draw every SAE by itself and no mean: where outcomes are of two kinds, a mean is neither.
    paper
        Levels to draw in the paper's colour: what they are, and where.
    """
    figure, ax = new_axes(height=4)
    rows, said = [], []
    for condition in dict.fromkeys(name for runs in seeds for name in runs):
        name, colour, marker, line = STYLE[condition]
        series, ends = [], []
        recorded = reduce(np.intersect1d, [runs[condition].series(metric)[0] for runs in seeds if condition in runs])
        for seed, runs in enumerate(seeds):
            if condition not in runs:
                continue
            steps, values = runs[condition].series(metric)
            kept = np.isin(steps, recorded) & (steps <= (until or steps[-1]))
            mean = values.mean(1) if values.ndim == 2 else values
            if single:
                ax.plot(steps[kept], values[kept], color=colour, alpha=0.6, lw=1, ls=line, rasterized=True)
            else:
                ax.plot(steps[kept], mean[kept], color=colour, alpha=0.35, lw=0.8, rasterized=True)
            series.append(mean[kept])
            ends.append(values[kept][-1])
            rows += [
                {"condition": condition, "seed": seed, "step": s, metric: v}
                for s, v in zip(steps[kept], mean[kept], strict=True)
            ]
        middle, low, high = interval(np.stack(series))
        x = steps[kept]
        if single:
            said.append(f"{np.min(ends):.2g} to {np.max(ends):.2g} ({name})")
            ax.plot([], [], color=colour, ls=line, label=_counted(name, len(series)))
            continue
        said.append(f"{middle[-1]:.3g} ({name})")
        if len(series) > 2:  # the interval of two is wider than the axis
            ax.fill_between(x, low, high, color=colour, alpha=0.18, lw=0, rasterized=True)
        ax.plot(
            x,
            middle,
            color=colour,
            ls=line,
            marker=marker,
            markevery=sorted(set(np.searchsorted(x, np.linspace(x[0], x[-1], 9)).tolist())),
            ms=5,
            label=_counted(name, len(series)),
        )
    if reference is not None:
        ax.axhline(reference, color=INK, ls=(0, (1, 2)), lw=1)
    for what, level in (paper or {}).items():
        ax.axhline(level, color=PAPER, ls=(0, (4, 2)), lw=1.4, label=what)
    ax.set(xlabel="training step", ylabel=label, yscale="log" if log else "linear")
    if log:
        plain_log(ax.yaxis)
    figure.legend(
        *ax.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        fontsize=9.5,
        title="a line is one SAE" if single else None,
    )
    sees = f"{label[0].upper()}{label[1:]} at the end{', SAE by SAE' if single else ''}: {', '.join(said)}."
    marked = "".join(f" {what}: {level:.3g}." for what, level in (paper or {}).items())
    return Plot(figure, pd.DataFrame(rows), f"{label} over training steps. {sees}{marked}", sees)


def _counted(name: str, seeds: int) -> str:
    return f"{name}, {seeds} seed{'s' * (seeds != 1)}"


@styled
def effects(table: pd.DataFrame, metrics: Mapping[str, str]) -> Plot:
    """Forest plot of readings: for each row, each metric's seeds, their mean and its 95 % interval.

    Parameters
    ----------
    table
        Columns `reading`, `choice`, `seed` and the metrics, one row a run.
    metrics
        Column: label, one panel each.
    """
    groups = table.groupby(["reading", "choice"], sort=False)
    codes = table["reading"].nunique() > 1  # else each name would begin alike
    names = [f"{reading} · {choice}" if codes else choice for reading, choice in groups.groups]
    figure, axes = new_axes(len(metrics), height=0.9 + 0.24 * len(names), sharey=True, squeeze=False)
    rows = []
    for ax, (metric, label) in zip(axes[0], metrics.items(), strict=True):
        for place, ((reading, choice), part) in enumerate(groups):
            middle, low, high = interval(part[metric].to_numpy()[:, None])
            default, colour = place == 0, STYLE[condition_of(choice)][1]
            ax.plot(part[metric], [place] * len(part), ls="", marker=".", ms=4, color=colour, alpha=0.4)
            ax.errorbar(middle, [place], xerr=[middle - low, high - middle], fmt="D" if default else "o", ms=5,
                        color=colour, capsize=2, lw=1.2)  # fmt: skip
            if default:
                ax.axvline(middle[0], color=GRID, lw=1)
            rows.append(
                {
                    "reading": reading,
                    "choice": choice,
                    "metric": metric,
                    "mean": middle[0],
                    "low": low[0],
                    "high": high[0],
                    "seeds": len(part),
                }
            )
        title = label if "\n" in label else fill(label, 16)
        ax.set_title(title + ("\n(less is better)" if metric in LESS_IS_BETTER else ""), fontsize=9)
        ax.tick_params(labelsize=9)
        ax.xaxis.set_major_locator(MaxNLocator(3))
    axes[0][0].set_yticks(range(len(names)), names)
    axes[0][0].invert_yaxis()
    data = pd.DataFrame(rows)
    return Plot(
        figure,
        data,
        f"Seeds, mean and 95 % interval of {', '.join(metrics.values())} for {len(names)} readings of the method, the default first.",
        _farthest(data, metrics),
    )


def _farthest(data: pd.DataFrame, metrics: Mapping[str, str]) -> str:
    """Say which choice moves each of the first two metrics farthest from the default, which comes first."""
    said = []
    for metric, label in list(metrics.items())[:2]:
        part = data[data["metric"] == metric]
        apart = (part["mean"] - part["mean"].iloc[0]).abs()
        most = part.loc[apart.idxmax()]
        said.append(
            f"{' '.join(label.split())}: {most['choice']}, {most['mean']:.2g} against {part['mean'].iloc[0]:.2g}"
        )
    return f"Farthest from the default (diamond) is, for {'; for '.join(said)}."


@styled
def by_k(
    table: pd.DataFrame,
    metrics: Mapping[str, str],
    log: Sequence[str] = (),
    over: str = "k",
    label_over: str = "k, active features per sample",
    levels: Mapping[str, float] | None = None,
) -> Plot:
    """Figure 10: a metric per k for baseline and MFR SAEs, mean and 95 % interval over seeds, single runs faint.

    Parameters
    ----------
    table
        Columns `condition`, `seed`, `over` and the metrics.
    log
        Metrics on a logarithmic axis.
    over, label_over
        The column to draw over, if not k, and its label.
    levels
        By metric, a level to mark, such as chance.
    """
    figure, axes = new_axes(len(metrics), height=3.8, squeeze=False)
    conditions = list(table["condition"].unique())
    said = []
    for ax, (metric, label) in zip(axes[0], metrics.items(), strict=True):
        for shift, condition in enumerate(conditions):
            name, colour, marker, line = STYLE[condition]
            wide = table[table["condition"] == condition].pivot(index="seed", columns=over, values=metric)
            x = wide.columns.to_numpy()
            apart = 0.06 * np.diff(x).min(initial=x.max())  # so that intervals do not cover each other
            x = x + apart * (shift - (len(conditions) - 1) / 2)
            middle, low, high = interval(wide.to_numpy())
            ax.plot(x, wide.to_numpy().T, color=colour, alpha=0.35, lw=0.8)
            ax.errorbar(
                x,
                middle,
                yerr=[middle - low, high - middle],
                color=colour,
                marker=marker,
                ls=line,
                capsize=3,
                label=name,
            )
            said.append(
                f"{label}, {name}: "
                + ", ".join(f"{m:.3g} at {over}={k}" for k, m in zip(wide.columns, middle, strict=True))
            )
        ax.set(xlabel=label_over, ylabel=label, xticks=wide.columns)
        if metric in log:
            ax.set_yscale("log")
            plain_log(ax.yaxis)
        if levels and metric in levels:
            ax.axhline(levels[metric], color=INK, ls=":", lw=1)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(conditions))
    metric, label = next(iter(metrics.items()))
    means = table.pivot_table(index=over, columns="condition", values=metric)
    more = metric.startswith("mmcs")  # the one measure drawn by k of which more is better
    best = (means.idxmax if more else means.idxmin)(axis=1).map(lambda condition: STYLE[condition][0])
    places = over if over == "k" else f"numbers of {over}"
    parts = (f"with {name} at {n} of {len(means)} {places}" for name, n in best.value_counts(sort=False).items())
    sees = f"The {label} is {'highest' if more else 'lowest'} {', '.join(parts)}."
    return Plot(figure, table, ". ".join(said) + ".", sees)
