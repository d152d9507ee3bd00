"""One function a figure: takes runs, returns a `Plot` (figure, the data drawn, alt text). Here what several sections draw."""

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter

from mfrbook.drawing.statistics import interval
from mfrbook.drawing.palette import GRID, INK, MARKED, STYLE, BLUE, ramp
from mfrbook.drawing.style import Plot, new_axes, plain_log, styled
from mfrbook.experiments.controls import change_along
from mfrbook.store.runs import Run

Seeds = Sequence[Mapping[str, Run]]  # for each seed, the runs by condition
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
) -> Plot:
    """Figures 6, 7 and 8: a metric over steps, a line per condition (mean over SAEs and seeds), each run faint behind it.

    Parameters
    ----------
    reference
        A level to mark: the re-initialisation threshold, or chance.
    until
        Last step drawn.
    """
    figure, ax = new_axes(height=3.7)
    rows, said = [], []
    for condition in dict.fromkeys(name for runs in seeds for name in runs):
        name, colour, marker, line = STYLE[condition]
        series = []
        recorded = reduce(np.intersect1d, [runs[condition].series(metric)[0] for runs in seeds if condition in runs])
        for seed, runs in enumerate(seeds):
            if condition not in runs:
                continue
            steps, values = runs[condition].series(metric)
            values = values.mean(1) if values.ndim == 2 else values
            kept = np.isin(steps, recorded) & (steps <= (until or steps[-1]))
            ax.plot(steps[kept], values[kept], color=colour, alpha=0.25, lw=0.7, rasterized=True)
            series.append(values[kept])
            rows += [
                {"condition": condition, "seed": seed, "step": s, metric: v}
                for s, v in zip(steps[kept], values[kept], strict=True)
            ]
        shared = np.stack(series)
        middle, low, high = interval(shared)
        x = steps[kept]
        ax.fill_between(x, low, high, color=colour, alpha=0.18, lw=0, rasterized=True)
        ax.plot(
            x,
            middle,
            color=colour,
            ls=line,
            marker=marker,
            markevery=sorted(set(np.searchsorted(x, np.linspace(x[0], x[-1], 9)).tolist())),
            ms=5,
            label=f"{name} ({len(series)} seed{'s' * (len(series) != 1)})",
        )
        said.append(f"{name} ends at {middle[-1]:.3g}")
    if reference is not None:
        ax.axhline(reference, color=INK, ls=(0, (1, 2)), lw=1)
    ax.set(xlabel="training step", ylabel=label, yscale="log" if log else "linear")
    if log:
        plain_log(ax.yaxis)
    ax.legend()
    return Plot(figure, pd.DataFrame(rows), f"{label} over training steps. " + "; ".join(said) + ".")


@styled
def effects(table: pd.DataFrame, metrics: Mapping[str, str]) -> Plot:
    """Forest plot of readings: for each row, each metric's mean and 95 % interval over seeds.

    Parameters
    ----------
    table
        Columns `reading`, `choice`, `seed` and the metrics, one row a run.
    metrics
        Column: label, one panel each.
    """
    groups = table.groupby(["reading", "choice"], sort=False)
    names = [f"{reading} · {choice}" for reading, choice in groups.groups]
    figure, axes = new_axes(len(metrics), height=0.9 + 0.24 * len(names), sharey=True, squeeze=False)
    rows = []
    for ax, (metric, label) in zip(axes[0], metrics.items(), strict=True):
        for place, ((reading, choice), part) in enumerate(groups):
            middle, low, high = interval(part[metric].to_numpy()[:, None])
            default = place == 0
            ax.errorbar(middle, [place], xerr=[middle - low, high - middle], fmt="D" if default else "o", ms=5,
                        color=MARKED if default else BLUE, capsize=2, lw=1.2)  # fmt: skip
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
        ax.set_title(label + ("\n(less is better)" if metric in LESS_IS_BETTER else ""), fontsize=9)
        ax.tick_params(labelsize=8)
    axes[0][0].set_yticks(range(len(names)), names)
    axes[0][0].invert_yaxis()
    data = pd.DataFrame(rows)
    return Plot(
        figure,
        data,
        f"Mean and 95 % interval of {', '.join(metrics.values())} for {len(names)} readings of the method, the default first.",
    )


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
            ax.plot(x, wide.to_numpy().T, color=colour, alpha=0.25, lw=0.7)
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
    return Plot(figure, table, ". ".join(said) + ".")


@styled
def change_over_training(seeds: Seeds, treated: str, against: str = "baseline") -> Plot:
    """How a condition changes the training loss as training goes on: a line per k and their mean, seeds and 95 % intervals (of three or more) faint."""
    steps, change = change_along(seeds, treated, against)
    ks = seeds[0][treated].config["k"]
    samples = (steps + 1) * seeds[0][treated].config["batch_size"]
    lines = {f"k = {k}": 100 * change[:, :, sae] for sae, k in enumerate(ks)} | {"mean over k": 100 * change.mean(2)}
    figure, ax = new_axes(height=4)
    ax.axhline(0, color=INK, lw=1)
    rows, said, colours = [], [], ramp(len(ks))
    for place, (name, values) in enumerate(lines.items()):
        mean = name == "mean over k"
        colour = INK if mean else colours[place]
        middle, low, high = interval(values)
        if len(values) > 2:  # the interval of two is as wide as the axis
            ax.fill_between(samples, low, high, color=colour, alpha=0.12, lw=0)
        ax.plot(samples, values.T, color=colour, alpha=0.3, lw=0.7)
        ax.plot(samples, middle, color=colour, lw=2.4 if mean else 1.4, ls="--" if mean else "-",
                marker="" if mean else "osv^D"[place % 5], markevery=(place, max(1, len(steps) // 8)), ms=5, label=name)  # fmt: skip
        rows.append(pd.DataFrame({"line": name, "samples": samples, "change, %": middle, "low": low, "high": high}))
        said.append(f"{name} from {middle[0]:+.2g} % to {middle[-1]:+.2g} %")
    room = 0.08 * 100 * np.ptp(change)  # an interval over two seeds may be ten times as wide as they lie apart
    ax.set_ylim(100 * change.min() - room, 100 * change.max() + room)
    ax.set(xlabel="samples seen", ylabel="change of the training loss, %", xlim=(0, samples[-1]))
    ax.xaxis.set_major_formatter(EngFormatter(sep=" "))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
    alt = f"Change of the training loss under {STYLE[treated][0]}, from the first step to the last. {'; '.join(said)}."
    return Plot(figure, pd.concat(rows), alt)
