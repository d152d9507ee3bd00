"""Figures for the questions: what SAEs find together, the home page's answer among them, and the sizes of clusters."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.chapters.synthetic.questions.tables import baselines
from mfrbook.chapters.synthetic.runs import PAPER_CLUSTER
from mfrbook.drawing.palette import BLUE, INK, PAPER, STYLE, condition_of
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.style import Live, Plot, new_axes, styled, typeset

# The panels of the home page's figure: its title, then column and label of what is filled and of what is hollow.
ANSWER = (
    ("True features that are found", {"each": "by one SAE", "any": "by the two together"}),
    ("Learned features that are true", {"shared_true": "among those the two share", "true": "among all"}),
)

COPIES = 0.005  # two SAEs find no more than one if they find less than this share more


NAMES: Mapping[str, str] = {
    "penalty, α = 3": "penalty, by maximum",
    questions.ONE_TO_ONE: "penalty, one to one",
    "centred data": "centred data, no penalty",
    "baseline": "no penalty",
}
"""What the figure calls a choice, for those who have not read on."""


@styled
def answer(table: pd.DataFrame, choices_run: pd.DataFrame | None = None, names: Mapping[str, str] = NAMES) -> Plot:
    """Draw what SAEs find of the true features alone and together, and whether what they share is true.

    Parameters
    ----------
    table
        As `mfrbook.chapters.synthetic.questions.tables.together` gives it, or that of `released_results`.
    names
        What to call a choice, where it is not its own name.
    choices_run
        What a reader can choose from, as `choices` gives it.
    """
    choices, said = list(table["choice"].unique()), []
    called = {choice: names.get(choice, choice) for choice in choices}
    figure, axes = new_axes(1, 2, width=5.4, height=2 * (0.95 + 0.48 * len(choices)), sharex=True)
    columns = ["choice", "samples", "seed", *(name for _, panel in ANSWER for name in panel)]
    start = np.floor(4 * np.nanmin(table[columns[3:]])) / 4  # from the quarter below all that is shown
    ticks = np.linspace(start, 1, 6)
    for ax, (title, panel) in zip(axes, ANSWER, strict=True):
        for place, choice in enumerate(choices):
            part, colour = (
                table[table["choice"] == choice],
                STYLE[choice if choice in STYLE else condition_of(choice)][1],
            )
            for (name, shown), shift in zip(panel.items(), (-0.17, 0.17), strict=True):
                values = part[name].dropna()
                if values.empty:  # nothing is shared
                    continue
                middle, low, high = (float(one[0]) for one in interval(values.to_numpy()[:, None]))
                ax.plot(values, np.full(len(values), place + shift), "o", color=colour, alpha=0.3, ms=4, mew=0)
                ax.errorbar(middle, [place + shift], xerr=[[middle - low], [high - middle]], fmt="o", ms=8, color=colour,
                            capsize=3, lw=1.5, mew=1.8, mfc=colour if shift < 0 else "none")  # fmt: skip
                end = (max(high, values.max()), place + shift)
                ax.annotate(typeset(f"{middle:.0%}"), end, xytext=(7, 0), textcoords="offset points", va="center")
                said.append(f"{called[choice]}, {shown}: {middle:.3f} ({len(values)} seeds)")
        for shown, face in zip(panel.values(), (INK, "none"), strict=True):
            ax.plot([], [], "o", ms=8, mew=1.8, color=INK, mfc=face, label=shown)
        ax.set_title(title, loc="left", pad=24, fontweight="bold")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, ncols=2, handletextpad=0.2, borderpad=0.2)
        ax.set_xticks(ticks, [typeset(f"{share:.0%}") for share in ticks])
        ax.set(xlim=(start, 1 + 0.14 * (1 - start)), ylim=(len(choices) - 0.5, -0.5))
        ax.set_yticks(range(len(choices)), [re.sub("(,| and) ", r"\1\n", called[choice]) for choice in choices])
        ax.grid(axis="y", visible=False)
    means = table.groupby("choice", sort=False)[columns[3:]].mean()
    most, fewest = means["any"].idxmax(), means["any"].idxmin()
    sees = f"Two SAEs together find the most true features with {called[most]} ({means['any'][most]:.0%}), and the fewest with {called[fewest]} ({means['any'][fewest]:.0%})."
    copies = [f"with {called[one]}" for one, row in means.iterrows() if row["any"] - row["each"] < COPIES]
    if copies:
        sees += f" W{' and '.join(copies)[1:]}, two find no more than one."
    live = None if choices_run is None else Live("choices", choices_run)
    return Plot(figure, table[columns], f"Shares, means over seeds. {'; '.join(said)}.", sees, live)


@styled
def cluster_sizes(rows: Sequence[questions.Row]) -> Plot:
    """S4: how many SAEs end with a cluster of each size; the paper's two sizes are marked."""
    sizes = np.concatenate([one["baseline"].results["cluster"] for one in baselines(rows)])
    data = pd.DataFrame({"cluster": sizes}).value_counts().rename("SAEs").reset_index().sort_values("cluster")
    figure, ax = new_axes(height=3.2)
    ax.bar(data["cluster"], data["SAEs"], width=0.8, color=BLUE)
    large, small = PAPER_CLUSTER["baseline"]
    for size in (small, large):
        ax.axvline(size, color=PAPER, ls=":", lw=1.2, label="the paper's two sizes" if size == small else None)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="features in the cluster of a baseline SAE", ylabel="SAEs", xlim=(-1, max(18, sizes.max() + 1)))
    ax.legend()
    said = ", ".join(f"{row.SAEs} with {row.cluster}" for row in data.itertuples())
    common = int(data.loc[data["SAEs"].idxmax(), "cluster"])
    sees = f"Clusters have from {int(sizes.min())} to {int(sizes.max())} features, most often {common}; the paper has two sizes, {small} and {large}."
    return Plot(figure, data, f"Sizes of the cluster in {len(sizes)} baseline SAEs: {said}.", sees)


# What a reader of the home page can choose.
_PARTS = ("matching", "loss", "centred", "reinit")
CHOICES: Mapping[str, tuple[str, str, str, str]] = {
    "baseline": ("none", "mean", "no", "no"),
    "penalty, α = 3": ("maximum", "mean", "no", "no"),
    "penalty as printed": ("maximum", "sum", "no", "no"),
    questions.ONE_TO_ONE: ("one to one", "mean", "no", "no"),
    "centred data": ("none", "mean", "yes", "no"),
    "centred, penalty as printed": ("maximum", "sum", "yes", "no"),
    "centred, penalty one to one": ("one to one", "mean", "yes", "no"),
}
CELLS: Mapping[str, tuple[str, str, str, str]] = {
    "baseline": ("none", "mean", "no", "no"),
    "reinit": ("none", "mean", "no", "yes"),
    "penalty": ("one to one", "mean", "no", "no"),
    "mfr": ("one to one", "mean", "no", "yes"),
    "centred": ("none", "mean", "yes", "no"),
}
"""Of a choice, or a cell of the released method: matching, loss, whether the data are centred, whether SAEs are re-initialised."""
MEASURES = ("each", "any", "shared_true", "true")


def choices(together: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each combination and number of samples that was run: means over seeds and 95 % intervals.

    Parameters
    ----------
    together
        As `mfrbook.chapters.synthetic.questions.tables.together` gives it, of every number of samples.
    cells
        As `mfrbook.chapters.synthetic.questions.released_results.together` gives it.
    """
    return pd.DataFrame(
        _row(known[str(choice)], str(samples), data, part)
        for known, table, data in (
            (CELLS, cells, "data as released"),
            (CHOICES, together, "data as printed"),
        )
        for (choice, samples), part in table.groupby(["choice", "samples"], sort=False)
        if choice in known
    )


def _row(parts: tuple[str, ...], samples: str, data: str, table: pd.DataFrame) -> dict[str, object]:
    row: dict[str, object] = dict(zip(_PARTS, parts, strict=True))
    row |= {"samples": int(samples.replace(",", "")), "seeds": len(table), "data": data}
    for name in MEASURES:
        middle, low, high = (
            interval(table[name].dropna().to_numpy()[:, None]) if table[name].notna().any() else ([np.nan],) * 3
        )
        row |= {name: float(middle[0]), f"{name}_low": float(low[0]), f"{name}_high": float(high[0])}
    return row
