"""The figure of what was learned: effects of the ledger side by side, on similarity to the true features and on the loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mfrbook.drawing.palette import INK, PAPER, STYLE
from mfrbook.drawing.style import Plot, new_axes, styled, typeset

Row = Mapping[str, Any]
SHOWN: Mapping[str, Sequence[tuple[str, str, str, float]]] = {
    "Similarity to the true features": (
        ("Q9f", "centring, data as printed", "centred", 1),
        ("Q9s", "ten times the samples", "longer", 1),
        ("Q10h", "penalty, one to one", "penalty", 1),
        ("S8-printed", "MFR as printed", "mfr", 1),
        ("Q15c", "centring, data as released", "centred", 1),
        ("S8", "MFR as released", "mfr", 1),
    ),
    "Reconstruction loss": (
        ("S7-printed", "synthetic, MFR as printed", "mfr", -100),
        ("S7", "synthetic, MFR as released", "mfr", -100),
        ("Q15cl", "synthetic, centring", "centred", -100),
        ("Q9m", "SmolLM2, centring, mean over k", "centred", -100),
        ("G1m", "SmolLM2, penalty, mean over k", "penalty", -100),
        ("G1ma", "SmolLM2, smallest k", "penalty", -100),
        ("G1mz", "SmolLM2, largest k", "penalty", 100),
        ("G1ma-released", "SmolLM2 as released, smallest k", "as released", -100),
        ("G1mz-released", "SmolLM2 as released, largest k", "as released", 100),
        ("G1s", "toy language model", "penalty", -100),
        ("G1sa", "toy language model as released", "as released", -100),
        ("E1s", "EEG, a fifth of the training", "penalty", -100),
        ("E1", "EEG, at the end", "penalty", -100),
    ),
}
"""Panel → row of the ledger, its name, the condition whose colour it has, and the factor that makes its effect the panel's."""


def shown(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the effects that the figure shows, those that were measured: panel, id, name, condition, effect, interval, seeds, paper."""
    known = {row["id"]: row for row in rows if row["ours"] is not None}
    found = [
        {"panel": panel, "claim": name, "what": what, "condition": condition, "effect": factor * known[name]["ours"]}
        | dict(zip(("low", "high"), sorted(factor * end for end in known[name]["ci"]), strict=True))
        | {"seeds": known[name]["n_seeds"], "paper": factor * (known[name].get("value") or float("nan"))}
        for panel, effects in SHOWN.items()
        for name, what, condition, factor in effects
        if name in known
    ]
    return pd.DataFrame(found)


@styled
def lessons(rows: Sequence[Row]) -> Plot:
    """What helped and what did not: each effect with its 95 % interval, a panel for similarity and one for the loss."""
    table = shown(rows)
    panels = [(name, part) for name, part in table.groupby("panel", sort=False)]
    sizes = [len(part) for _, part in panels]
    figure, axes = new_axes(1, len(panels), width=5.4, height=1.4 * len(panels) + 0.3 * sum(sizes), squeeze=False,
                            gridspec_kw={"height_ratios": sizes})  # fmt: skip
    for ax, (title, part) in zip(axes[:, 0], panels, strict=True):
        ax.axvline(0, color=INK, lw=1)
        for place, row in enumerate(part.itertuples()):
            colour, marker = STYLE[row.condition][1:3]
            ax.errorbar(row.effect, place, xerr=[[row.effect - row.low], [row.high - row.effect]], fmt=marker, ms=7,
                        color=colour, capsize=3, lw=1.6)  # fmt: skip
            ax.plot(row.paper, place, "|", ms=14, mew=2.5, color=PAPER, zorder=0)
            end, shift, side = (row.high, 7, "left") if row.effect > 0 else (row.low, -7, "right")
            ax.annotate(typeset(f"{row.effect:+.2g}"), (end, place), xytext=(shift, 0), va="center", ha=side,
                        textcoords="offset points")  # fmt: skip
        ax.set_title(title, loc="left", fontsize=10, fontweight="bold")
        ax.set_xlabel("← better        change in %" if "loss" in title else "change of MMCS        better →")
        ax.set_yticks(range(len(part)), part["what"])
        ax.set_ylim(len(part) - 0.5, -0.5)
        low, high = min(0.0, part[["low", "paper"]].min(axis=None)), max(0.0, part[["high", "paper"]].max(axis=None))
        ax.set_xlim(low - 0.45 * (high - low) * (low < 0), high + 0.25 * (high - low))
        ax.locator_params(axis="x", nbins=6)
        ax.grid(axis="y", visible=False)
    said = (
        f"{row.panel}, {row.what}: {row.effect:.2g} ({row.low:.2g} to {row.high:.2g})" for row in table.itertuples()
    )
    return Plot(figure, table, f"{'; '.join(said)}.", _sees(table.set_index("claim")["effect"].to_dict()))


def _sees(effects: Mapping[str, float]) -> str:
    """Say what one sees, of what was measured."""
    parts = []
    if "Q9f" in effects and (penalties := [effects[name] for name in ("Q10h", "S8-printed") if name in effects]):
        parts.append(
            f"On data as printed centring changes similarity by {effects['Q9f']:+.2g}, the penalty by {max(penalties):+.2g} at best."
        )
    if "Q9m" in effects and "G1m" in effects:
        parts.append(
            f"On SmolLM2 centring changes the loss by {effects['Q9m']:+.2g} %, the penalty by {effects['G1m']:+.2g} %, means over k."
        )
    if "E1" in effects and "E1s" in effects:
        parts.append(
            f"On EEG the penalty's sign turns with time: the loss changes by {effects['E1s']:+.2g} %, later by {effects['E1']:+.2g} %."
        )
    return " ".join(parts)
