"""Figures for the questions: the home page's answer, and the sizes of clusters."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from mfrbook.chapters.synthetic.questions import released
from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.chapters.synthetic.questions.tables import baselines, shared
from mfrbook.drawing.palette import BLUE, INK, PAPER, STYLE, condition_of
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.style import Live, Plot, new_axes, styled, typeset

# The panels of the home page's figure: its title, then column and label of what is filled and of what is hollow.
ANSWER = (
    ("True features that are found", {"each": "by one SAE", "any": "by the two together"}),
    ("Learned features that are true", {"shared_true": "among those the two share", "true": "among all"}),
)
_MIXTURE = "penalty, α = 3"


def label(choice: str) -> str:
    """Return what the home page calls a choice, for those who have not read on."""
    names = {
        _MIXTURE: "penalty, by maximum", questions.ONE_TO_ONE: "penalty, one to one", "centred data": "centred data, no penalty",
        "baseline": "no penalty",
    }  # fmt: skip
    return names.get(choice, choice)


def proposed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of choices that somebody proposed: not of the text's matching beside the code's error, an ablation."""
    return table[table["choice"] != _MIXTURE]


@styled
def answer(table: pd.DataFrame, choices_run: pd.DataFrame | None = None) -> Plot:
    """Home page: what SAEs find of the true features alone and together, and whether what they share is true.

    Parameters
    ----------
    table
        As `together` gives it.
    choices_run
        What a reader can choose from, as `choices` gives it.
    """
    choices, said = list(table["choice"].unique()), []
    figure, axes = new_axes(1, 2, width=5.4, height=2 * (0.95 + 0.48 * len(choices)), sharex=True)
    for ax, (title, panel) in zip(axes, ANSWER, strict=True):
        for place, choice in enumerate(choices):
            part, colour = table[table["choice"] == choice], STYLE[condition_of(choice)][1]
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
                said.append(f"{label(choice)}, {shown}: {middle:.3f} ({len(values)} seeds)")
        for shown, face in zip(panel.values(), (INK, "none"), strict=True):
            ax.plot([], [], "o", ms=8, mew=1.8, color=INK, mfc=face, label=shown)
        ax.set_title(title, loc="left", pad=24, fontweight="bold")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, ncols=2, handletextpad=0.2, borderpad=0.2)
        ax.set_xticks(np.linspace(0, 1, 5), [typeset(f"{share:.0%}") for share in np.linspace(0, 1, 5)])
        ax.set(xlim=(0, 1.14), ylim=(len(choices) - 0.5, -0.5))
        ax.set_yticks(range(len(choices)), [label(choice).replace(", ", ",\n") for choice in choices])
        ax.grid(axis="y", visible=False)
    columns = ["choice", "samples", "seed", *(name for _, panel in ANSWER for name in panel)]
    means = table.groupby("choice", sort=False)[columns[3:]].mean()
    parts = (
        f"{label(str(choice))}, one SAE finds {row['each']:.0%} of the true features and two find {row['any']:.0%}."
        for choice, row in means.iterrows()
    )
    sees = " ".join(f"With {part}" for part in parts)
    live = None if choices_run is None else Live("choices", choices_run)
    return Plot(figure, table[columns], f"Shares, means over seeds. {'; '.join(said)}.", sees, live)


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


# What a reader of the home page can choose.
_PARTS = ("matching", "loss", "centred", "reinit")
CHOICES: Mapping[str, tuple[str, str, str, str]] = {
    "baseline": ("none", "mean", "no", "no"),
    "penalty, α = 3": ("maximum", "mean", "no", "no"),
    "lighter penalty (R12)": ("maximum", "sum", "no", "no"),
    questions.ONE_TO_ONE: ("one to one", "mean", "no", "no"),
    "centred data": ("none", "mean", "yes", "no"),
    "centred, lighter penalty": ("maximum", "sum", "yes", "no"),
    "centred, penalty one to one": ("one to one", "mean", "yes", "no"),
}
"""By what `together` calls it: matching, loss, whether the data are centred, whether SAEs are re-initialised."""
CELLS: Mapping[str, tuple[str, str, str, str]] = {
    "reinit": ("none", "mean", "no", "yes"),
    "mfr": ("one to one", "mean", "no", "yes"),
}
MEASURES = ("each", "any", "shared_true", "true")


def choices(together: pd.DataFrame, cells: Sequence[released.Row]) -> pd.DataFrame:
    """Return a row for each combination and number of samples that was run: means over seeds and 95 % intervals.

    Parameters
    ----------
    together
        As `mfrbook.chapters.synthetic.questions.tables.together` gives it, of every number of samples.
    cells
        The runs of the released method; those with re-initialisation are taken.
    """
    rows = [
        _row(CHOICES[choice], str(samples), "the first edition's data", part)
        for (choice, samples), part in together.groupby(["choice", "samples"], sort=False)
        if choice in CHOICES
    ]
    for cell, parts in CELLS.items():
        found = [one for one in cells if one.cell == cell]
        table = pd.DataFrame(
            {name: float(np.mean(one.together.results[name])) for name in ("each", "any")} | shared(one.run)
            for one in found
        )
        if found:
            rows.append(_row(parts, f"{found[0].run.results['samples']:,}", "the released code's data", table))
    return pd.DataFrame(rows)


def _row(parts: tuple[str, ...], samples: str, data: str, table: pd.DataFrame) -> dict[str, object]:
    row: dict[str, object] = dict(zip(_PARTS, parts, strict=True))
    row |= {"samples": int(samples.replace(",", "")), "seeds": len(table), "data": data}
    for name in MEASURES:
        middle, low, high = (
            interval(table[name].dropna().to_numpy()[:, None]) if table[name].notna().any() else ([np.nan],) * 3
        )
        row |= {name: float(middle[0]), f"{name}_low": float(low[0]), f"{name}_high": float(high[0])}
    return row
