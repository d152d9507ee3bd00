"""Figures for the questions: the home page's answer, and the sizes of clusters."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.chapters.synthetic.questions.tables import baselines
from mfrbook.drawing.palette import BLUE, INK, PAPER, STYLE
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.style import Plot, new_axes, styled

# The panels of the home page's figure: column and label, filled and hollow.
ANSWER = (
    {"each": "by one SAE", "any": "by the two together"},
    {"shared_true": "features that the two share", "true": "all their features"},
)


def label(choice: str) -> str:
    """Return what the home page calls a choice, for those who have not read on."""
    names = {
        "penalty, α = 3": "penalty, the text's matching", questions.ONE_TO_ONE: "penalty, one to one",
        "centred data": "centred data, no penalty",
    }  # fmt: skip
    return names.get(choice, choice)


def condition_of(choice: str) -> str:
    """Return the condition whose colour a choice has: what it does to the data, else its penalty."""
    return "centred" if choice.startswith("centred") else "penalty" if "penalty" in choice else "baseline"


@styled
def answer(table: pd.DataFrame) -> Plot:
    """Home page: what SAEs find of the input's features alone and together, and whether what they share is the input's.

    Parameters
    ----------
    table
        As `together` gives it.
    """
    choices, said = list(table["choice"].unique()), []
    figure, axes = new_axes(2, height=1.1 + 0.5 * len(choices), sharey=True)
    for ax, panel in zip(axes, ANSWER, strict=True):
        for place, choice in enumerate(choices):
            for (name, shown), shift in zip(panel.items(), (-0.14, 0.14), strict=True):
                values, colour = table.loc[table["choice"] == choice, name].dropna(), STYLE[condition_of(choice)][1]
                if values.empty:  # nothing is shared
                    continue
                middle, low, high = interval(values.to_numpy()[:, None])
                ax.plot(values, np.full(len(values), place + shift), "o", color=colour, alpha=0.3, ms=5, mew=0)
                ax.errorbar(middle, [place + shift], xerr=[middle - low, high - middle], fmt="o" if place else "D", ms=7,
                            color=colour, capsize=4, lw=1.8, mfc=colour if shift < 0 else "none")  # fmt: skip
                end = (max(high[0], values.max()), place + shift)
                ax.annotate(f"{middle[0]:.0%}", end, xytext=(8, 0), textcoords="offset points", va="center")
                said.append(f"{label(choice)}, {shown}: {middle[0]:.3f} ({len(values)} seeds)")
        for shown, face in zip(panel.values(), (INK, "none"), strict=True):
            ax.plot([], [], "o", ms=7, color=INK, mfc=face, label=shown)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
        ax.set_xticks(np.linspace(0, 1, 5), [f"{share:.0%}" for share in np.linspace(0, 1, 5)])
        ax.set(xlim=(0, 1.22), ylim=(len(choices) - 0.5, -0.5))
    axes[0].set_yticks(range(len(choices)), [label(choice) for choice in choices])
    axes[0].set_xlabel("share of the true features found")
    axes[1].set_xlabel("share of them that are true features")
    columns = ["choice", "samples", "seed", *(name for panel in ANSWER for name in panel)]
    means = table.groupby("choice", sort=False)[["each", "any"]].mean()
    parts = (
        f"{label(str(choice))}, {row['each']:.0%} alone and {row['any']:.0%} together."
        for choice, row in means.iterrows()
    )
    sees = "Share of the true features that one SAE finds alone and two find together. " + " ".join(
        part[0].upper() + part[1:] for part in parts
    )
    return Plot(figure, table[columns], f"Shares, means over seeds. {'; '.join(said)}.", sees)


@styled
def cluster_sizes(rows: Sequence[questions.Row]) -> Plot:
    """S4: how many SAEs end with a cluster of each size; the paper's two sizes are marked."""
    sizes = np.concatenate([one["baseline"].results["cluster"] for one in baselines(rows)])
    data = pd.DataFrame({"cluster": sizes}).value_counts().rename("SAEs").reset_index().sort_values("cluster")
    figure, ax = new_axes(height=3.2)
    ax.bar(data["cluster"], data["SAEs"], width=0.8, color=BLUE)
    for size in (5, 15):
        ax.axvline(size, color=PAPER, ls=":", lw=1.2, label="the paper's two sizes" if size == 5 else None)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="features in the cluster of a baseline SAE", ylabel="SAEs", xlim=(-1, max(18, sizes.max() + 1)))
    ax.legend()
    said = ", ".join(f"{row.SAEs} with {row.cluster}" for row in data.itertuples())
    common = int(data.loc[data["SAEs"].idxmax(), "cluster"])
    sees = f"Clusters have from {int(sizes.min())} to {int(sizes.max())} features, most often {common}; the paper has two sizes, 5 and 15."
    return Plot(figure, data, f"Sizes of the cluster in {len(sizes)} baseline SAEs: {said}.", sees)
