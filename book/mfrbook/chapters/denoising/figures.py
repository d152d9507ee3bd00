"""The denoising chapter's figures."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import pandas as pd

from mfrbook.chapters.denoising.closeness import BANDS
from mfrbook.chapters.denoising.tables import KIND, MEASURE, METHOD, SAES
from mfrbook.drawing.palette import BLUE, CRIMSON, GREY, GRID, INK
from mfrbook.drawing.style import Plot, new_axes, styled
from mfrbook.store.runs import Run
from mfrlib.data.eeg.preprocessing import Preprocessing

OTHER = "#8d6a4f"  # the colour of methods that are no SAE
SHOWN = {"denoising": (BLUE, "o", "full", "-"), "denoising-mfr": (CRIMSON, "s", "full", "-"),
         "reconstruction": (BLUE, "o", "none", "--"), "reconstruction-mfr": (CRIMSON, "s", "none", "--")}  # fmt: skip
"""SAEs: colour and marker of the condition as in the whole book; filled for those taught noisy to clean; line."""
PENALTY_FREE = ("denoising", "reconstruction")
BEST = "best method that is no SAE, named above"


@styled
def gains(table: pd.DataFrame) -> Plot:
    """Draw what each method gains, a panel for each kind of artefact: seeds, and their mean over ratios.

    Parameters
    ----------
    table
        As `mfrbook.chapters.denoising.tables.measures` gives it.
    """
    kinds = [kind for kind in KIND if kind in set(table["kind"])]
    means = table[table["kind"].notna()].groupby(["method", "kind", "seed"])["snr_gain"].mean()
    order = means.groupby("method").mean().sort_values(ascending=False).index
    order = [name for name in order if name != "nothing" and not name.endswith("-mfr")]
    figure, axes = new_axes(len(kinds), height=1.2 + 0.27 * len(order), sharex=True, sharey=True, squeeze=False)
    said = []
    for ax, kind in zip(axes[0], kinds, strict=True):
        ax.axvline(0, color=INK, lw=1)
        ax.set(title=KIND[kind].capitalize(), xlabel="gain in SNR, dB")
        best = _best(table, kind, "snr_gain", set(order))
        for row, name in enumerate(order):
            if (name, kind) not in means.index:
                continue
            values = means[name, kind].to_numpy()
            colour, marker, fill, _ = SHOWN.get(name, (OTHER, "D", "full", ""))
            ax.plot(values, np.full(len(values), row), ls="", marker=".", ms=5, color=colour, alpha=0.5)
            ax.plot([values.mean()], [row], ls="", marker=marker, fillstyle=fill, ms=7, color=colour)
            if name == best:
                ax.annotate(f"{values.mean():.0f} dB", (values.mean(), row), xytext=(0, 7), textcoords="offset points",
                            ha="center", fontsize=9)  # fmt: skip
            said.append(f"{KIND[kind]}, {METHOD[name]}: {values.mean():.2g} dB")
    axes[0][0].set_yticks(range(len(order)), [METHOD[name] for name in order])
    axes[0][0].set_ylim(len(order) - 0.5, -0.9)
    for label, name in zip(axes[0][0].get_yticklabels(), order, strict=True):
        label.set_fontweight("bold" if name in SHOWN else "normal")
    bests: dict[str, list[str]] = {}
    for kind in kinds:
        bests.setdefault(METHOD[_best(table, kind, "snr_gain", set(order))], []).append(KIND[kind])
    sees = ", ".join(f"{name} for {' and '.join(where)}" for name, where in bests.items())
    return Plot(figure, table, f"Gain in SNR. {'; '.join(said)}.", f"Largest gain: {sees}.")


@styled
def against_snr(table: pd.DataFrame) -> Plot:
    """Draw the error of SAEs and of the best other method against the signal-to-noise ratio: seeds, and their mean."""
    kinds = [kind for kind in KIND if kind in set(table["kind"])]
    figure, axes = _panels(kinds, "signal-to-noise ratio of the recording, dB", MEASURE["rrmse_t"])
    said = []
    for ax, kind in zip(axes.flat, kinds, strict=False):
        ax.axhline(1, color=INK, ls=":", lw=1.2, label="an empty channel")
        for name, label, (colour, marker, fill, line) in _three(table, kind, ax):
            mine = table[(table["kind"] == kind) & (table["method"] == name)]
            wide = mine.pivot(index="snr", columns="seed", values="rrmse_t")
            ax.plot(wide.index, wide.to_numpy(), color=colour, lw=0.8, alpha=0.4)
            ax.plot(
                wide.index, wide.mean(axis=1), color=colour, marker=marker, fillstyle=fill, ls=line, lw=2, label=label
            )
            said.append(
                f"{KIND[kind]}, {METHOD[name]}: {wide.mean(axis=1).iloc[0]:.2g}, {wide.mean(axis=1).iloc[-1]:.2g}"
            )
        ax.set_xticks(wide.index)
    axes.flat[0].set_ylim(bottom=0)
    _legend(figure, axes)
    ahead = [KIND[kind] for kind in kinds if _best(table, kind, "rrmse_t") in SHOWN]
    sees = f"SAEs have the least error, mean over ratios, on {' and '.join(ahead) or 'none of the artefacts'}."
    return Plot(figure, table, f"Error at the lowest and the highest ratio. {'; '.join(said)}.", sees)


@styled
def bands(table: pd.DataFrame) -> Plot:
    """Draw the error of the power in each band at the lowest ratio: seeds, and their mean."""
    lowest = table[table["snr"] == table["snr"].min()]
    kinds = [kind for kind in KIND if kind in set(lowest["kind"])]
    figure, axes = _panels(kinds, "", "error of band power, dB")
    x, said = np.arange(len(BANDS)), []
    for ax, kind in zip(axes.flat, kinds, strict=False):
        ax.axhline(0, color=INK, lw=1)
        for shift, (name, label, (colour, marker, fill, _)) in zip(
            (-0.2, 0, 0.2), _three(table, kind, ax), strict=False
        ):
            values = lowest[(lowest["kind"] == kind) & (lowest["method"] == name)][list(BANDS)].to_numpy()
            ax.plot(x + shift, values.T, ls="", marker=".", ms=4, color=colour, alpha=0.5)
            ax.plot(x + shift, values.mean(0), ls="", marker=marker, fillstyle=fill, ms=6, color=colour, label=label)
            said.append(f"{KIND[kind]}, {METHOD[name]}: " + ", ".join(f"{one:.2g}" for one in values.mean(0)))
        ax.set_xticks(x, list(BANDS))
    _legend(figure, axes)
    errors = lowest.groupby("method")[list(BANDS)].mean().abs().max(axis=1)
    sees = f"Largest mean error of a band: {', '.join(f'{METHOD[name]} {errors[name]:.1f} dB' for name in PENALTY_FREE if name in errors)}."
    return Plot(figure, lowest, f"Error of the power in {', '.join(BANDS)}, dB. " + "; ".join(said) + ".", sees)


def _best(table: pd.DataFrame, kind: str, measure: str, among: Set[str] = frozenset(METHOD)) -> str:
    """Return the best method on a kind of artefact, mean over ratios and seeds."""
    mine = table[(table["kind"] == kind) & table["method"].isin(among)]
    means = mine.groupby("method")[measure].mean()
    return str(means.idxmin() if measure.startswith("rrmse") else means.idxmax())


def _three(table: pd.DataFrame, kind: str, ax: Any) -> Sequence[tuple[str, str, tuple[str, str, str, str]]]:
    """Return the two kinds of SAE and the best other method: method, name in the legend, look; the panel's title names the last."""
    best = _best(table, kind, "rrmse_t", METHOD.keys() - SHOWN.keys())
    ax.set_title(f"{KIND[kind].capitalize()}: {METHOD[best]}", fontsize=10)
    saes = [(name, METHOD[name], SHOWN[name]) for name in PENALTY_FREE]
    return [*saes, (best, BEST, (OTHER, "D", "full", "-."))]


def _panels(kinds: Sequence[str], xlabel: str, ylabel: str) -> tuple[Any, Any]:
    """Return a figure with a panel for each kind of artefact, two in a row."""
    rows = (len(kinds) + 1) // 2
    figure, axes = new_axes(2, rows, height=2.6 * rows + 0.8, sharex=True, sharey=True, squeeze=False)
    for ax, kind in zip(axes.flat, kinds, strict=False):
        ax.set_title(KIND[kind].capitalize(), fontsize=10)
    for ax in axes.flat[len(kinds) :]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    return figure, axes


def _legend(figure: Any, axes: Any) -> None:
    figure.suptitle(" ", fontsize=7)  # room for the corner's note above the panels' titles
    found: dict[str, Any] = {}
    for ax in axes.flat:
        found |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(found.values(), found, loc="outside lower center", ncols=2, fontsize=9)


@styled
def example(runs: Mapping[str, Run]) -> Plot:
    """Draw some seconds of the worst channel: as recorded, and after SAEs, regression and ICA, each over the clean signal."""
    classical = runs["classical"].arrays
    clean, noisy = classical["trace_clean"], classical["trace_noisy"]
    shown = {"as recorded, with the artefact": (noisy, INK)}
    shown |= {METHOD[name]: (runs[name].arrays["trace_stack"], BLUE) for name in ("reconstruction", "denoising")}
    for name in ("regression", "ica"):
        if f"trace_{name}" in classical:
            shown[METHOD[name]] = (classical[f"trace_{name}"], OTHER)
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
    distances = (one.split(" µV from the clean")[0].rsplit(" ", 1) for one in said)
    sees = "Root mean square distance from the clean signal. " + " ".join(
        f"{what[0].upper()}{what[1:]}: {far} µV." for what, far in distances
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
            METHOD["denoising"]: (runs["denoising"].arrays[f"spectrum_{kind}_stack"], BLUE, "-", 1.8),
            METHOD[best]: (classical[f"spectrum_{kind}_{best}"], OTHER, "-." if best == "notch" else "--", 1.4),
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
    alt = "Power spectra, mean over channels, of the clean signal, with the artefact, and after SAEs and one other method, from 0.5 to 60 Hz."
    return Plot(
        figure,
        pd.concat(rows),
        alt,
        "Where a line leaves the thick one, a method changes what was clean; shaded: frequencies above the recordings' band.",
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
    for name in SAES:
        colour, marker, fill, line = SHOWN[name]
        mine = saes[saes["method"] == name]
        ax.plot(mine["loss"], mine["rrmse_t"], ls="", ms=4, marker=marker, fillstyle=fill, color=colour, alpha=0.35)
        means = mine.groupby("k")[["loss", "rrmse_t"]].mean()
        ax.plot(means["loss"], means["rrmse_t"], color=colour, marker=marker, fillstyle=fill, ls=line, ms=7, lw=1.4,
                label=METHOD[name])  # fmt: skip
        if name in PENALTY_FREE:
            for k, row in means.iloc[[0, -1]].iterrows():
                ax.annotate(f"k={k}", (row["loss"], row["rrmse_t"]), xytext=(6, -12), textcoords="offset points", fontsize=9,
                            color=INK)  # fmt: skip
        said.append(
            f"{METHOD[name]}: " + ", ".join(f"k {k}: {r['loss']:.2g}, {r['rrmse_t']:.2g}" for k, r in means.iterrows())
        )
    ax.set(
        xlabel="reconstruction loss on clean windows (better to the left)", ylabel="error of denoising (better below)"
    )
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    r = saes.groupby("method")[["loss", "rrmse_t"]].corr().iloc[::2, 1].droplevel(1)
    sees = f"Correlation of the two errors over SAEs: {', '.join(f'{METHOD[name]} {r[name]:+.2f}' for name in SAES if name in r)}."
    return Plot(figure, saes, "Reconstruction loss and error of denoising (RRMSE-t). " + "; ".join(said) + ".", sees)
