"""Figures of paired change: by k, and over training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from mfrbook.drawing.palette import INK, PAPER, STYLE, ramp
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.style import Live, Plot, new_axes, styled
from mfrbook.experiments.conditions import Seeds
from mfrbook.experiments.controls import change_along


@dataclass(frozen=True)
class Reported:
    """What a paper reports of a change, in percent: single values by place (the first k is 0), a range, a mean."""

    values: Mapping[int, float] | None = None
    between: tuple[float, float] | None = None
    mean: float | None = None


def paired_change(table: pd.DataFrame, treated: str, metric: str) -> pd.DataFrame:
    """Return the relative change of a metric under the treated condition, in percent: seeds as rows, k as columns."""
    wide = table.pivot(index=["seed", "k"], columns="condition", values=metric)
    return (100 * (wide[treated] / wide["baseline"] - 1)).unstack("k")


@styled
def change_by_k(table: pd.DataFrame, treated: str, metrics: Mapping[str, tuple[str, Reported]]) -> Plot:
    """Figures 9 and 10: paired change of metrics per k, in percent: seeds, mean and interval, and what the paper reports.

    Parameters
    ----------
    table
        Columns `condition`, `seed`, `k` and the metrics.
    metrics
        Column: its label, and what the paper reports of it.
    """
    figure, axes = new_axes(len(metrics), height=3.6, squeeze=False)
    name, colour, marker, _ = STYLE[treated]
    rows, said = [], []
    for ax, (metric, (label, reported)) in zip(axes[0], metrics.items(), strict=True):
        wide = paired_change(table, treated, metric)
        middle, low, high = interval(wide.to_numpy())
        x = np.arange(len(wide.columns))
        ax.axhline(0, color=INK, lw=1)
        draw_reported(ax, reported)
        ax.plot(x, wide.to_numpy().T, ls="", marker=".", ms=5, color=colour, alpha=0.5)
        ax.errorbar(
            x, middle, yerr=[middle - low, high - middle], color=colour, marker=marker, capsize=3, ls="", label=name
        )
        ax.set_xticks(x, [str(k) for k in wide.columns])
        ax.set(xlabel="k, active features per sample", ylabel=f"change of {label}, %")
        rows.append(wide.reset_index().melt("seed", value_name="change, %").assign(metric=metric))
        parts = (f"{m:+.2g} % at k = {k}" for k, m in zip(wide.columns, middle, strict=True))
        said.append(f"{label}: " + ", ".join(parts))
    shown = {label: one for ax in axes[0] for one, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=2)
    alt = f"Change under {name} against the baseline. " + ". ".join(said) + "."
    first = next(iter(metrics))
    means = paired_change(table, treated, first).mean()
    lower = [str(k) for k, one in means.items() if one < 0]
    most = means.abs().idxmax()
    between = f", most at k = {most}, by {means[most]:+.2g} %" if most not in (means.index[0], means.index[-1]) else ""
    sees = (
        f"{metrics[first][0].capitalize()} changes by {means.iloc[0]:+.2g} % at the smallest k and by {means.iloc[-1]:+.2g} % at the "
        f"largest{between}. It is lower at {len(lower)} of {len(means)} k."
    )
    return Plot(figure, pd.concat(rows), alt, sees)


def draw_reported(ax: Axes, reported: Reported) -> None:
    """Draw what the paper reports, in its colour."""
    if reported.between:
        ax.axhspan(*reported.between, color=PAPER, alpha=0.12, lw=0, label="paper, from best to worst k")
    if reported.mean is not None:
        ax.axhline(reported.mean, color=PAPER, ls="--", lw=1.4, label="paper, mean")
    if reported.values:
        ax.plot(list(reported.values.keys()), list(reported.values.values()), ls="", marker="x", ms=8, mew=2.2, color=PAPER,
                label="paper, at that k")  # fmt: skip


@styled
def change_over_training(seeds: Seeds, treated: str) -> Plot:
    """How a condition changes the training loss as training goes on: a line per k and their mean, seeds and 95 % intervals (of three or more) faint."""
    steps, change = change_along(seeds, treated, "baseline")
    ks: Sequence[int] = seeds[0][treated].config["k"]
    samples = (steps + 1) * seeds[0][treated].config["batch_size"]
    lines = {f"k = {k}": 100 * change[:, :, sae] for sae, k in enumerate(ks)} | {"mean over k": 100 * change.mean(2)}
    figure, ax = new_axes(height=4)
    ax.axhline(0, color=INK, lw=1)
    rows, said, colours = [], [], [*ramp(len(ks)), INK]
    for place, (name, values) in enumerate(lines.items()):
        mean = name == "mean over k"
        colour = colours[place]
        middle, low, high = interval(values)
        if len(values) > 2:  # the interval of two is as wide as the axis
            ax.fill_between(samples, low, high, color=colour, alpha=0.12, lw=0)
        ax.plot(samples, values.T, color=colour, alpha=0.3, lw=0.7)
        ax.plot(samples, middle, color=colour, lw=2.4 if mean else 1.4, ls="--" if mean else "-",
                marker="" if mean else "osv^D"[place % 5], markevery=(place, max(1, len(steps) // 8)), ms=5, label=name)  # fmt: skip
        rows.append(pd.DataFrame({"line": name, "samples": samples, "change in %": middle, "low": low, "high": high}))
        said.append(f"{name} from {middle[0]:+.2g} % to {middle[-1]:+.2g} %")
    room = 0.08 * 100 * np.ptp(change)  # an interval over two seeds may be ten times as wide as they lie apart
    ax.set_ylim(100 * change.min() - room, 100 * change.max() + room)
    ax.set(xlabel="samples seen", ylabel="change of the training loss, %", xlim=(0, samples[-1]))
    ax.xaxis.set_major_formatter(EngFormatter(sep=" "))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
    alt = f"Change of the training loss under {STYLE[treated][0]}, from the first step to the last. {'; '.join(said)}."
    whole = interval(100 * change.mean(2))[0]
    fifth = whole[np.searchsorted(samples, samples[-1] / 5)]
    sees = f"After a fifth of the training the mean change over k is {fifth:+.2g} %, at the end {whole[-1]:+.2g} %. The lines of single k diverge."
    drawn = pd.concat(rows)
    return Plot(figure, drawn, alt, sees, Live("training", drawn))
