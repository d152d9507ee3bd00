"""The denoising chapter's figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mfrbook.chapters.denoising.closeness import BANDS
from mfrbook.chapters.denoising.tables import KIND, MEASURE, METHOD, SAES
from mfrbook.drawing.palette import AMBER, BLUE, CRIMSON, GREEN, GREY, GRID, INK, VIOLET
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.style import Plot, new_axes, styled
from mfrbook.store.runs import Run
from mfrlib.data.eeg.preprocessing import Preprocessing

# Method: colour, marker, line, width. SAEs are heavy, in blue as the baseline and in amber; what works on all channels at once is green.
LOOK: Mapping[str, tuple[str, str, str, float]] = {
    "nothing": (INK, "", ":", 1.6),
    "band-pass": (GREY, "v", "-", 1.1),
    "notch": ("#8d6a4f", "P", "-", 1.1),
    "wavelet": (GREY, "^", "--", 1.1),
    "pca": (GREY, "p", "--", 1.1),
    "wiener": ("#8d6a4f", "s", "--", 1.3),
    "regression": (GREEN, "<", "-.", 1.3),
    "ica": (GREEN, "D", "-", 1.6),
    "reconstruction": (BLUE, "X", "--", 2.0),
    "denoising": (AMBER, "o", "-", 2.4),
}
SHOWN_SAES = {"denoising": AMBER, "denoising-mfr": CRIMSON, "reconstruction": BLUE,
              "reconstruction-mfr": VIOLET}  # fmt: skip


@styled
def against_snr(table: pd.DataFrame, measure: str = "rrmse_t", reference: tuple[float, str] | None = None) -> Plot:
    """Draw a measure against the signal-to-noise ratio, a panel for each kind of artefact, with 95 % intervals over seeds.

    Parameters
    ----------
    table
        As `mfrbook.chapters.denoising.tables.measures` gives it.
    reference
        A level to mark, and what it is.
    """
    kinds = [kind for kind in KIND if kind in set(table["kind"])]
    figure, axes = _panels(kinds, "signal-to-noise ratio of the recording, dB", MEASURE[measure])
    said = []
    for ax, kind in zip(axes.flat, kinds, strict=False):
        if reference:
            ax.axhline(reference[0], color=GRID, lw=1.4, label=reference[1])
        for method in LOOK:
            mine = table[(table["kind"] == kind) & (table["method"] == method)]
            if len(mine):
                x = np.sort(mine["snr"].unique())
                points = [interval(mine[mine["snr"] == snr][measure].to_numpy()) for snr in x]
                _line(ax, x, points, method)
                ends = ", ".join(f"{float(m):.2g}" for m, _, _ in (points[0], points[-1]))
                said.append(f"{KIND[kind]}, {METHOD[method]}: {ends}")
        ax.set_xticks(np.sort(table["snr"].dropna().unique()))
    _legend(figure, axes)
    return Plot(
        figure,
        table,
        f"{MEASURE[measure]} at the lowest and the highest ratio. " + "; ".join(said) + ".",
        _best(table, measure),
    )


@styled
def bands(table: pd.DataFrame) -> Plot:
    """Draw the error of the power in each band at the lowest ratio, a panel for each kind of artefact."""
    lowest = table[table["snr"] == table["snr"].min()]
    kinds = [kind for kind in KIND if kind in set(lowest["kind"])]
    figure, axes = _panels(kinds, "", "error of band power, dB")
    x, said = np.arange(len(BANDS)), []
    for ax, kind in zip(axes.flat, kinds, strict=False):
        for method in LOOK:
            mine = lowest[(lowest["kind"] == kind) & (lowest["method"] == method)]
            if len(mine):
                points = [interval(mine[band].to_numpy()) for band in BANDS]
                _line(ax, x, points, method)
                said.append(f"{KIND[kind]}, {METHOD[method]}: " + ", ".join(f"{float(one[0]):.2g}" for one in points))
        ax.set_xticks(x, list(BANDS))
    _legend(figure, axes)
    errors = lowest.groupby("method")[list(BANDS)].mean().abs().max(axis=1)
    sees = f"Largest mean error of a band: {', '.join(f'{METHOD[name]} {errors[name]:.1f} dB' for name in ('denoising', 'reconstruction') if name in errors)}."
    return Plot(figure, lowest, f"Error of the power in {', '.join(BANDS)}, dB. " + "; ".join(said) + ".", sees)


def _best(table: pd.DataFrame, measure: str) -> str:
    """Say which method is best for each kind of artefact, mean over ratios."""
    less = measure.startswith("rrmse")
    means = table[table["kind"].notna() & table["method"].isin(LOOK)].groupby(["kind", "method"])[measure].mean()
    best = [
        f"{KIND[kind]}: {METHOD[(means[kind].idxmin() if less else means[kind].idxmax())]}"
        for kind in KIND
        if kind in means.index.get_level_values(0)
    ]
    return f"The best method, mean over ratios, by artefact: {'; '.join(best)}."


def _panels(kinds: Sequence[str], xlabel: str, ylabel: str) -> tuple[Any, Any]:
    """Return a figure with a panel for each kind of artefact, two in a row."""
    rows = (len(kinds) + 1) // 2
    figure, axes = new_axes(2, rows, height=2.9 * rows + 0.9, sharex=True, sharey=True, squeeze=False)
    for ax, kind in zip(axes.flat, kinds, strict=False):
        ax.set_title(KIND[kind].capitalize())
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    return figure, axes


def _line(ax: Any, x: np.ndarray, points: Sequence[tuple[Any, Any, Any]], method: str) -> None:
    colour, marker, line, width = LOOK[method]
    middle, low, high = (np.array(one, float) for one in zip(*points, strict=True))
    ax.errorbar(x, middle, yerr=[middle - low, high - middle], color=colour, marker=marker, ls=line, lw=width, ms=5,
                capsize=2, elinewidth=1, label=METHOD[method])  # fmt: skip


def _legend(figure: Any, axes: Any) -> None:
    figure.suptitle(" ", fontsize=7)  # room for the corner's note above the panels' titles
    found: dict[str, Any] = {}
    for ax in axes.flat:
        found |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(found.values(), found, loc="outside lower center", ncols=3, fontsize=9)


@styled
def example(runs: Mapping[str, Run]) -> Plot:
    """Draw some seconds of the worst channel: as recorded, and after SAEs, regression and ICA, each over the clean signal."""
    classical = runs["classical"].arrays
    clean, noisy = classical["trace_clean"], classical["trace_noisy"]
    shown = {"as recorded, with the artefact": (noisy, INK)}
    shown |= {
        METHOD[name]: (runs[name].arrays["trace_stack"], colour)
        for name, colour in (("reconstruction", BLUE), ("denoising", AMBER))
    }
    for name in ("regression", "ica"):
        if f"trace_{name}" in classical:
            shown[METHOD[name]] = (classical[f"trace_{name}"], GREEN)
    time = np.arange(len(clean)) / Preprocessing().rate
    figure, axes = new_axes(1, len(shown), height=1.35 * len(shown) + 0.7, sharex=True, sharey=True)
    said, columns = [], {"seconds": time, "clean": clean}
    for ax, (name, (trace, colour)) in zip(axes, shown.items(), strict=True):
        ax.plot(time, clean, color=GREY, lw=2.4, alpha=0.8, label="clean signal")
        ax.plot(time, trace, color=colour, lw=1.1)
        error = float(np.sqrt(np.mean((trace - clean) ** 2)))
        ax.set_title(f"{name}: {error:.0f} µV from clean", loc="left", fontsize=10)
        ax.set_ylabel("µV")
        said.append(f"{name} {error:.0f} µV from the clean signal (root mean square)")
        columns[name] = trace
    axes[-1].set_xlabel("seconds")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center")
    sees = "Root mean square distance from the clean signal. " + " ".join(
        f"{one[0].upper()}{one[1:].split(' from the clean')[0]}." for one in said
    )
    return Plot(
        figure, pd.DataFrame(columns), "Traces of one channel over the clean signal: " + "; ".join(said) + ".", sees
    )


@styled
def spectra(runs: Mapping[str, Run]) -> Plot:
    """Draw power spectra before and after, a panel for each kind of artefact, at the lowest ratio."""
    classical = runs["classical"].arrays
    kinds = [kind for kind in KIND if f"spectrum_{kind}_clean" in classical]
    figure, axes = _panels(kinds, "Hz; shaded: above the band", "µV²/Hz")
    rows = []
    for ax, kind in zip(axes.flat, kinds, strict=False):
        best = "notch" if kind == "line" else "ica"
        lines = {
            "clean signal": (classical[f"spectrum_{kind}_clean"], GREY, "-", 2.8),
            "with the artefact": (classical[f"spectrum_{kind}_noisy"], INK, ":", 1.6),
            METHOD["reconstruction"]: (runs["reconstruction"].arrays[f"spectrum_{kind}_stack"], BLUE, "--", 1.4),
            METHOD["denoising"]: (runs["denoising"].arrays[f"spectrum_{kind}_stack"], AMBER, "-", 1.4),
            METHOD[best]: (classical[f"spectrum_{kind}_{best}"], "#8d6a4f" if best == "notch" else GREEN, "-.", 1.4),
        }  # fmt: skip
        for name, (power, colour, line, width) in lines.items():
            frequency = np.arange(len(power)) / 2
            inside = (frequency >= 0.5) & (frequency <= 60)
            ax.plot(frequency[inside], power[inside], color=colour, ls=line, lw=width, label=name)
            rows.append(pd.DataFrame({"kind": kind, "line": name, "Hz": frequency[inside], "µV²/Hz": power[inside]}))
        ax.set_yscale("log")
        ax.axvspan(45, 60, color=GRID, alpha=0.25, lw=0)
    clean = classical[f"spectrum_{kinds[0]}_clean"]
    axes.flat[0].set_ylim(bottom=1e-3 * float(np.median(clean[1:90])))
    _legend(figure, axes)
    alt = "Power spectra, mean over channels, of the clean signal, with the artefact, and after three methods, from 0.5 to 60 Hz."
    return Plot(
        figure,
        pd.concat(rows),
        alt,
        "Where a line leaves the thick one, a method changes what was clean; shaded: above the band.",
    )


@styled
def loss_against_error(saes: pd.DataFrame) -> Plot:
    """Draw each SAE's error of denoising against its reconstruction loss on clean windows.

    Parameters
    ----------
    saes
        As `mfrbook.chapters.denoising.tables.single_saes` gives it.
    """
    figure, ax = new_axes(height=4.3)
    said = []
    for name, marker in zip(SAES, "oDXs", strict=True):
        mine = saes[saes["method"] == name]
        ax.scatter(mine["loss"], mine["rrmse_t"], s=16, marker=marker, color=SHOWN_SAES[name], alpha=0.35, lw=0)
        means = mine.groupby("k")[["loss", "rrmse_t"]].mean()
        ax.plot(
            means["loss"], means["rrmse_t"], color=SHOWN_SAES[name], marker=marker, ms=7, lw=1.2, label=METHOD[name]
        )
        if name in SAES[::2]:
            for k, row in means.iloc[[0, -1]].iterrows():
                ax.annotate(f"k={k}", (row["loss"], row["rrmse_t"]), xytext=(6, -12), textcoords="offset points", fontsize=9,
                            color=INK)  # fmt: skip
        said.append(
            f"{METHOD[name]}: " + ", ".join(f"k {k}: {r['loss']:.2g}, {r['rrmse_t']:.2g}" for k, r in means.iterrows())
        )
    ax.set(
        xlabel="reconstruction loss on clean windows (better to the left)", ylabel="error of denoising (better below)"
    )
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    r = saes.groupby("method")[["loss", "rrmse_t"]].corr().iloc[::2, 1].droplevel(1)
    sees = f"Correlation of the two errors over SAEs: {', '.join(f'{METHOD[name]} {r[name]:+.2f}' for name in SAES if name in r)}."
    return Plot(figure, saes, "Reconstruction loss and error of denoising (RRMSE-t). " + "; ".join(said) + ".", sees)
