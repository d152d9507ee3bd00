"""Figures of the language-model section: runs or their tables in, a `Plot` out."""

from collections.abc import Mapping

import pandas as pd

from mfrbook.chapters.gpt2 import tables as gpt2_tables
from mfrbook.chapters.gpt2.runs import PAPER_K
from mfrbook.drawing.changes import Reported, change_by_k
from mfrbook.drawing.figures import by_k
from mfrbook.drawing.palette import CRIMSON, GRID, INK
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.style import Plot, new_axes, styled
from mfrbook.experiments.conditions import Seeds
from mfrbook.experiments.controls import loss_change


@styled
def figure_9(table: pd.DataFrame, references: Mapping[str, float]) -> Plot:
    """Figure 9: reconstruction loss, and cross-entropy and loss recovered with each SAE's output inserted, per k.

    Parameters
    ----------
    references
        Cross-entropies without SAEs, drawn as lines: name and value in nats.
    """
    shown = {"loss": "reconstruction loss", "ce": "CE, nats per token", "recovered_zero": "loss recovered, share"}
    plot = by_k(table, shown, log=("loss",), label_over="k, active features")
    ax = plot.figure.axes[1]
    low, far = min(references, key=lambda name: references[name]), []
    top = table["ce"].max() + 0.5 * (table["ce"].max() - references[low])
    for name, value in references.items():
        if value > top:  # it would press the SAEs into a line
            far.append(f"{name}: {value:.1f}")
            continue
        ax.axhline(value, color=INK, lw=1, zorder=0)
        ax.annotate(name, (1, value), xycoords=("axes fraction", "data"), xytext=(-2, -2 if name == low else 2),
                    textcoords="offset points", ha="right", va="top" if name == low else "bottom", fontsize=9)  # fmt: skip
    ax.set_ylim(references[low] - 0.12 * (top - references[low]), top)
    if far:
        ax.text(1, 1, "above, " + "\n".join(far), transform=ax.transAxes, ha="right", va="top", fontsize=9)
    said = ", ".join(f"{name} {value:.3g}" for name, value in references.items())
    return plot._replace(alt=f"{plot.alt} Without SAEs the cross-entropy is: {said}.")


def changes(table: pd.DataFrame, treated: str) -> Plot:
    """Paired change of the loss and of the cross-entropy per k, in percent, with what the paper reports of GPT-2 Small."""
    loss, ce = Reported(), Reported()
    if table["k"].nunique() == len(PAPER_K):
        by_place = {PAPER_K.index(k): value for k, value in gpt2_tables.PAPER_LOSS.items()}
        loss = Reported(by_place, mean=gpt2_tables.PAPER_LOSS_MEAN)
        ce = Reported(between=gpt2_tables.PAPER_CE, mean=gpt2_tables.PAPER_CE_MEAN)
    return change_by_k(table, treated, {"loss": ("reconstruction loss", loss), "ce": ("CE", ce)})


@styled
def controls(seeds: Seeds) -> Plot:
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
    ax.set_yticks(range(len(names)), names, fontsize=9.5)
    ax.invert_yaxis()
    ax.grid(color=GRID, axis="x")
    ax.set(xlabel="change of the loss, mean over k, %")
    table = pd.DataFrame(rows)
    lower = table.loc[table["high"] < 0, "run"]
    sees = f"The whole interval is below zero for: {'; '.join(lower) or 'none'}."
    return Plot(figure, table, "Change of the reconstruction loss: " + "; ".join(said) + ".", sees)
