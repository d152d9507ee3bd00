"""Figures of the language-model section: runs or their tables in, a `Plot` out."""

from collections.abc import Mapping, Sequence

import pandas as pd

from mfrbook.chapters.gpt2 import tables as gpt2_tables
from mfrbook.chapters.gpt2.runs import PAPER_K
from mfrbook.drawing.figures import by_k
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.palette import CRIMSON, GRID, INK, PAPER, STYLE
from mfrbook.drawing.style import Plot, new_axes, styled
from mfrbook.experiments.controls import loss_change
from mfrbook.store.runs import Run

PAPER_LOSS = {6: -21.21, 30: 7.89}  # percent, the two the text gives (§4.1)
PAPER_CE = (-8.58, -3.51)  # percent, from the best k to the worst


@styled
def figure_9(table: pd.DataFrame, references: Mapping[str, float]) -> Plot:
    """Figure 9: reconstruction loss, and cross-entropy with each SAE's output inserted, per k.

    Parameters
    ----------
    references
        Cross-entropies without SAEs, drawn as lines: name and value in nats.
    """
    plot = by_k(table, {"loss": "reconstruction loss", "ce": "CE, nats per token"}, log=("loss",))
    ax = plot.figure.axes[1]
    low, high = min(references.values()), max(references.values())
    for (name, value), line in zip(references.items(), ("-", (0, (5, 2)), (0, (1, 2))), strict=True):
        below = value == low  # SAEs lie above the model as it is
        ax.axhline(value, color=INK, lw=1, ls=line, zorder=0)
        ax.annotate(name, (1, value), xycoords=("axes fraction", "data"), xytext=(-2, -2 if below else 2),
                    textcoords="offset points", ha="right", va="top" if below else "bottom", fontsize=8)  # fmt: skip
    ax.set_ylim(bottom=low - 0.08 * (high - low))
    said = ", ".join(f"{name} {value:.3g}" for name, value in references.items())
    return plot._replace(alt=f"{plot.alt} Without SAEs the cross-entropy is: {said}.")


@styled
def changes(table: pd.DataFrame, treated: str) -> Plot:
    """Paired change of the loss and of the cross-entropy per k, in percent: seeds, mean and interval, the paper's numbers."""
    figure, axes = new_axes(2, height=3.6)
    name, colour, marker, _ = STYLE[treated]
    rows, said = [], []
    for ax, (metric, label) in zip(axes, {"loss": "reconstruction loss", "ce": "CE"}.items(), strict=True):
        wide = gpt2_tables.paired_change(table, treated, metric)
        middle, low, high = interval(wide.to_numpy())
        x = range(len(wide.columns))
        ax.axhline(0, color=INK, lw=1)
        ax.plot(x, wide.to_numpy().T, ls="", marker=".", ms=4, color=colour, alpha=0.4)
        ax.errorbar(
            x, middle, yerr=[middle - low, high - middle], color=colour, marker=marker, capsize=3, ls="", label=name
        )
        if metric == "loss" and len(wide.columns) == len(PAPER_K):
            paper = {PAPER_K.index(k): value for k, value in PAPER_LOSS.items()}
            ax.plot(
                paper.keys(),
                paper.values(),
                ls="",
                marker="x",
                ms=8,
                mew=2,
                color=PAPER,
                label="paper, GPT-2 Small",
            )
        if metric == "ce" and len(wide.columns) == len(PAPER_K):
            ax.axhspan(*PAPER_CE, color=PAPER, alpha=0.15, lw=0, label="the paper's range")
        ax.set_xticks(x, [str(k) for k in wide.columns])
        ax.set(xlabel="k, active features per sample", ylabel=f"change of {label}, %")
        rows.append(wide.reset_index().melt("seed", value_name="change, %").assign(metric=metric))
        parts = (f"{m:+.2g} % at k={k}" for k, m in zip(wide.columns, middle, strict=True))
        said.append(f"{label}: " + ", ".join(parts))
    shown = {label: one for ax in axes for one, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3)
    return Plot(figure, pd.concat(rows), f"Change under {name} against the baseline. " + ". ".join(said) + ".")


@styled
def controls(seeds: Sequence[Mapping[str, Run]]) -> Plot:
    """What each control changes in the loss, in percent of what it is compared with: seeds, mean and interval."""
    called = [name if name.startswith(("baseline", "penalty")) else f"penalty, {name}" for name in gpt2_tables.COMPARED]
    names = [f"{name}\nagainst {one}" for name, one in zip(called, gpt2_tables.COMPARED.values(), strict=True)]
    figure, ax = new_axes(height=0.8 + 0.45 * len(names))
    rows, said = [], []
    ax.axvline(0, color=INK, lw=1)
    for place, (name, against) in enumerate(gpt2_tables.COMPARED.items()):
        change = 100 * loss_change(seeds, name, against).mean(1)
        middle, low, high = (float(one) for one in interval(change))
        ax.plot(change, [place] * len(change), ls="", marker=".", ms=4, color=CRIMSON, alpha=0.4)
        ax.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt="o", color=CRIMSON, capsize=3)
        rows.append(
            {"run": name, "against": against, "change, %": middle, "low": low, "high": high, "seeds": len(change)}
        )
        said.append(f"{name} against {against} {middle:+.2g} %")
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.invert_yaxis()
    ax.grid(color=GRID, axis="x")
    ax.set(xlabel="change of the held-out reconstruction loss, mean over k, %")
    return Plot(figure, pd.DataFrame(rows), "Change of the reconstruction loss: " + "; ".join(said) + ".")
