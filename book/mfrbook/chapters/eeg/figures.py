"""Figures of the EEG section that a neurologist would look at: traces, maps with spectra, conditions."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import LogNorm

from mfrbook.chapters.eeg import kinds as eeg_kinds
from mfrbook.chapters.eeg.features import STRETCH_SECONDS
from mfrbook.chapters.eeg.tables import PAPER_LOSS, PAPER_LOSS_MEAN
from mfrbook.drawing.changes import Reported, change_by_k
from mfrbook.drawing.palette import AMBER, BLUE, CRIMSON, GREEN, GREY, GRID, INK, VIOLET, ramp
from mfrbook.drawing.style import Plot, new_axes, plain_log, styled
from mfrbook.store.runs import Run
from mfrlib.data.eeg.recording import import_mne

SHOWN = ("Fp1", "F3", "C3", "P3", "O1", "T7")
_ENDS = ((ramp(5)[0], 1.3, "-"), (ramp(5)[-1], 1.0, "-"))  # smallest and largest k: colour, width, line
_SECONDS = 4  # drawn
PAPER_KS = 5  # SAEs
_MARKERS = dict(zip(eeg_kinds.KINDS, "oX^sDvPp", strict=True))
_COLOURS = dict(zip(eeg_kinds.KINDS, (CRIMSON, "#8d6a4f", VIOLET, BLUE, GREY, GREEN, AMBER, "#0891a8"), strict=True))


@styled
def stretch(run: Run) -> Plot:
    """Seconds of a held-out recording, and what the SAEs of smallest and largest k leave out of them, at one scale."""
    about, signals = run.results["stretch"], run.arrays["stretch"].astype(float)
    seconds = np.linspace(0, STRETCH_SECONDS, signals.shape[2], endpoint=False)
    places = [about["electrodes"].index(name) for name in SHOWN if name in about["electrodes"]]
    places = places or list(range(min(6, len(about["electrodes"]))))
    names = [about["electrodes"][place] for place in places]
    drawn, said, ks = seconds < _SECONDS, [], sorted(run.config["k"])
    data = pd.DataFrame({"electrode": np.repeat(names, drawn.sum()), "second": np.tile(seconds[drawn], len(places))})
    apart = 1.1 * np.ptp(signals[0, places], axis=-1).max()
    figure, axes = new_axes(2, height=5.2, sharex=True, sharey=True)
    lines = [(axes[0], "recorded and filtered", signals[0], (INK, 1.0, "-"))]
    for k, signal, look in zip((ks[0], ks[-1]), signals[1:], _ENDS, strict=True):
        lines.append((axes[1], f"left out, k = {k}", signals[0] - signal, look))
        rest = np.square(signal[places] - signals[0, places]).sum() / np.square(signals[0, places]).sum()
        said.append(f"{100 * rest:.2g} % of the power with k = {k}")
    for ax, name, signal, (colour, width, line) in lines:
        for level, place in enumerate(places):  # every other sample shows all there is below 45 Hz
            ax.plot(
                seconds[drawn][::2], signal[place][drawn][::2] - level * apart, color=colour, lw=width, ls=line,
                label="" if level else name,
            )  # fmt: skip
        data[f"{name}, µV"] = signal[places][:, drawn].ravel()
    axes[0].set_yticks([-level * apart for level in range(len(places))], names)
    axes[1].plot([1.02 * _SECONDS] * 2, [-50, 0], color=INK, lw=2, clip_on=False)
    axes[1].annotate("50 µV", (1.03 * _SECONDS, -25), va="center", fontsize=9, annotation_clip=False)
    for ax, title in zip(axes, ("recorded", "recorded minus reconstructed"), strict=True):
        ax.set(xlabel="second", xlim=(0, _SECONDS), title=title)
        ax.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=3)
    sees = f"The SAEs leave out {' and '.join(said)}."
    alt = f"Traces of {len(places)} electrodes of {about['recording']}, as recorded and what reconstructions leave out. {sees}"
    return Plot(figure, data, alt, sees)


@styled
def maps(run: Run) -> Plot:
    """Where on the head features of each kind are active, and their spectra: the most active one of each kind."""
    mne = import_mne()
    table = eeg_kinds.kinds(run)
    chosen = [part.loc[part["rate"].idxmax()] for kind in eeg_kinds.KINDS if len(part := table[table["kind"] == kind])]
    names = run.results["electrodes"]
    montage = mne.channels.make_standard_montage("colin27_1020")
    known = [i for i, name in enumerate(names) if name in montage.ch_names]
    info = mne.create_info([names[i] for i in known], 250.0, "eeg", verbose="ERROR")
    info.set_montage(montage, verbose="ERROR")
    columns = 4
    figure, axes = new_axes(
        columns, 2 * -(-len(chosen) // columns), height=2.9 * -(-len(chosen) // columns), squeeze=False
    )
    figure.suptitle(" ", fontsize=7)  # room for the note in the corner
    rows, said = [], []
    for ax in axes.flat:
        ax.set_visible(False)
    most = max(float(run.arrays["feature_activity"][known, int(one["feature"])].max()) for one in chosen)
    floor = most / 1000
    scale = LogNorm(floor, most)  # one scale for all: the most active kind is far above the others
    least = colormaps["viridis"](0.0)
    colours = colormaps["viridis"].with_extremes(
        under=least, bad=least
    )  # between electrodes a map may reach below zero
    for place, feature in enumerate(chosen):
        top, below = (axes[2 * (place // columns) + i, place % columns] for i in (0, 1))
        number = int(feature["feature"])
        activity = run.arrays["feature_activity"][known, number].astype(float)
        power = run.arrays["feature_spectrum"][number].astype(float)
        top.set_visible(True)
        below.set_visible(True)
        drawn, _ = mne.viz.plot_topomap(
            np.maximum(activity, floor), info, axes=top, show=False, contours=0, cmap=colours, cnorm=scale
        )
        _ink(top)
        top.set_title(f"{feature['kind']}\n{int(feature['peak'])} Hz", fontsize=9)
        below.plot(power, color=_COLOURS[feature["kind"]])
        below.fill_between(range(len(power)), power, color=_COLOURS[feature["kind"]], alpha=0.25, lw=0)
        below.set(xlim=(0, 45), ylim=(0, None), xticks=(0, 10, 20, 30, 40), yticks=())
        if place % columns == 0:
            below.set_ylabel("power")
        below.set_xlabel(f"Hz, feature {number}", fontsize=9)
        below.tick_params(labelsize=9)
        strongest = info.ch_names[int(activity.argmax())]
        said.append(f"{feature['kind']}: peak at {int(feature['peak'])} Hz, most active at {strongest}")
        rows.append(
            pd.DataFrame({"kind": feature["kind"], "feature": number, "electrode": info.ch_names, "activity": activity})
        )
        rows.append(pd.DataFrame({"kind": feature["kind"], "feature": number, "Hz": range(len(power)), "power": power}))
    figure.colorbar(drawn, ax=axes[0::2], label="mean activity", extend="min", shrink=0.7, pad=0.06)
    alt = "Maps of the head and spectra of one feature of each kind. " + ". ".join(said) + "."
    return Plot(
        figure,
        pd.concat(rows),
        alt,
        f"Some features look like each of {len(chosen)} kinds: {', '.join(one['kind'] for one in chosen)}.",
    )


def _ink(ax: Any) -> None:
    """Draw the outlines of a head in the colour that changes with the page."""
    for line in ax.lines:
        line.set_color(INK)
    for collection in ax.collections:
        collection.set_edgecolor(INK)
        collection.set_facecolor(INK)


@styled
def conditions(run: Run) -> Plot:
    """How rates of features differ between two conditions, paired over held-out subjects: each feature, and each kind."""
    pair, table = eeg_kinds.two_conditions(run), eeg_kinds.compare_conditions(run)
    assert pair is not None
    found = table[table["q"] <= eeg_kinds.LEVEL]
    figure, axes = new_axes(
        2 if len(found) else 1, height=4.2, squeeze=False
    )  # single features only if any of them differs
    right = axes[0, -1]
    if len(found):
        _volcano(axes[0, 0], table, pair)
    rates = eeg_kinds.rates_by_subject(run)
    present = [kind for kind in eeg_kinds.KINDS if (table["kind"] == kind).any()]
    said = []
    for level, kind in enumerate(present):
        mine = table.loc[table["kind"] == kind, "feature"].to_numpy()
        before, after = rates[:, :, mine].sum(2)
        change = after[(before > 0) & (after > 0)] / before[(before > 0) & (after > 0)]
        if not len(change):
            continue
        right.plot(
            change, np.full(len(change), level), ls="", marker=_MARKERS[kind], color=_COLOURS[kind], alpha=0.7, ms=5
        )
        right.plot([np.median(change)] * 2, [level - 0.3, level + 0.3], color=INK, lw=2)
        said.append(f"{kind} {np.median(change):.2f}")
    right.axvline(1, color=GRID, lw=1)
    right.set_xscale("log")
    plain_log(right.xaxis)
    right.set_yticks(range(len(present)), present)
    right.set_xlabel(f"rate, {pair[1]} over {pair[0]}")
    right.invert_yaxis()
    if len(found):
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    sees = f"Of {len(table):,} features, {len(found):,} differ between {pair[0]} and {pair[1]}{', each in the first panel' * bool(len(found))}; points are subjects, bars medians."
    alt = (
        f"{len(table)} features tested over {rates.shape[1]} subjects, {len(found)} differ between {pair[0]} and {pair[1]} "
        f"at a false discovery rate of {eeg_kinds.LEVEL:g}. Median ratio of rates by kind: {', '.join(said)}."
    )
    return Plot(figure, table, alt, sees)


def _volcano(ax: Any, table: pd.DataFrame, pair: tuple[str, str]) -> None:
    """Draw each feature's difference of rates and its p, and the p up to which differences count as found."""
    for kind in eeg_kinds.KINDS:
        part = table[table["kind"] == kind]
        if len(part):
            ax.scatter(100 * part["difference"], -np.log10(part["p"]), s=14, marker=_MARKERS[kind], color=_COLOURS[kind],
                       alpha=0.6, lw=0, label=kind, rasterized=True)  # fmt: skip
    largest = table.loc[table["q"] <= eeg_kinds.LEVEL, "p"].max()
    ax.axhline(-np.log10(largest), color=INK, lw=1, ls="--", label=f"false discoveries {eeg_kinds.LEVEL:g}")
    ax.axvline(0, color=GRID, lw=1)
    ax.set(xlabel=f"rate during {pair[1]} − {pair[0]}, percentage points", ylabel="−log₁₀ p")


def change(table: pd.DataFrame, treated: str) -> Plot:
    """Paired change of the loss per k, in percent, with what the paper reports: the best and the worst of some k, and the mean."""
    reported = Reported(between=PAPER_LOSS, mean=PAPER_LOSS_MEAN) if table["k"].nunique() == PAPER_KS else Reported()
    return change_by_k(table, treated, {"loss": ("reconstruction loss", reported)})
