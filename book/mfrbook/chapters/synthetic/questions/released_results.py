"""What the cells of the released method gave: a row for each SAE, summaries, differences, and the figure."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mfrbook.chapters.synthetic.questions import tables
from mfrbook.chapters.synthetic.questions.always_on import KINDS, MARKS, has_one
from mfrbook.chapters.synthetic.questions.released import CELLS, Row
from mfrbook.chapters.synthetic.runs import PAPER_CLUSTER
from mfrbook.drawing.palette import INK, PAPER, STYLE
from mfrbook.drawing.statistics import interval
from mfrbook.drawing.style import Plot, new_axes, styled

LABELS: Mapping[str, str] = {
    "baseline": "no penalty, no re-initialisation",
    "reinit": "re-initialisation alone",
    "penalty": "penalty alone",
    "mfr": "both (MFR)",
    "centred": "centring alone",
}
MEASURES = {
    "mmcs": "MMCS with\ntrue features",
    "cluster": "features in\nthe cluster",
    "together": "true features that the\nSAEs recover together",
}
MORE = {
    "recovered": "share of true features that an SAE recovers",
    "fvu": "FVU",
    "always_on": "share of SAEs with an always-on feature",
    "r": "Pearson's r of the similarity across SAEs and that with true features",
    "shared_true": "share of the features that both SAEs have that is true",
    "true": "share of all features that is true",
}
# What each part contributes: cell, and the one that lacks that part alone.
EFFECTS: Mapping[str, tuple[str, str]] = {
    "re-initialisation alone": ("reinit", "baseline"),
    "penalty alone": ("penalty", "baseline"),
    "penalty, on top of re-initialisation": ("mfr", "reinit"),
    "re-initialisation, on top of the penalty": ("mfr", "penalty"),
    "centring alone": ("centred", "baseline"),
}


def saes(rows: Sequence[Row]) -> pd.DataFrame:
    """Return a row for each SAE; `together`, the share of true features that any SAE of the run recovers, is the run's."""
    return pd.DataFrame(
        {
            "cell": row.cell,
            "seed": row.seed,
            "sae": sae,
            "always_on": bool(on),
            "re-initialised": sum(which == sae for _, which in row.run.results["events"]),
            "mmcs": row.run.results["mmcs_input"][sae],
            "cluster": row.run.results["cluster"][sae],
            "recovered": row.run.results["recovered"][sae],
            "together": row.together.results["any"],
            "fvu": row.run.results["fvu"][sae],
            "r": row.run.results["r"],
        }
        | {name: tables.shared(row.run)[name] for name in ("shared_true", "true")}
        for row in rows
        for sae, on in enumerate(has_one(row.run))
    )


def together(rows: Sequence[Row]) -> pd.DataFrame:
    """Return a row for each cell and seed: what the SAEs of its run find together, and what they share."""
    return pd.DataFrame(tables.found(row.cell, row.run, row.together) for row in rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each cell and measure: its mean over seeds, and a t interval where there are two seeds or more."""
    rows = []
    for cell in CELLS:
        part = table[table["cell"] == cell]
        for measure in (*MEASURES, *MORE):
            by_seed = part.groupby("seed")[measure].mean().to_numpy()
            rows.append({"cell": LABELS[cell], "measure": _label(measure), **_estimate(by_seed), "seeds": len(by_seed)})
    return pd.DataFrame(rows)


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """Return what each part changes, seed by seed: a row for each part and measure, as `summary` has them."""
    rows = []
    for name, (treated, plain) in EFFECTS.items():
        for measure in MEASURES:
            by_seed = table.pivot_table(index="seed", columns="cell", values=measure, aggfunc="mean")
            change = (by_seed[treated] - by_seed[plain]).to_numpy()
            rows.append({"change by": name, "measure": _label(measure), **_estimate(change), "seeds": len(change)})
    return pd.DataFrame(rows)


def _label(measure: str) -> str:
    return " ".join((MEASURES | MORE)[measure].split())


def _estimate(values: np.ndarray) -> dict[str, float]:
    middle, low, high = (float(one) for one in interval(values))
    known = len(values) > 1
    return {"value": middle, "low": low if known else np.nan, "high": high if known else np.nan}


def values(table: pd.DataFrame) -> dict[str, float]:
    """Return the numbers the prose names: `cell_measure`, means over seeds, how many seeds there are, and the baseline's cluster by kind."""
    means = table.groupby("cell")[["mmcs", "cluster", "together", "re-initialised", "always_on"]].mean()
    plain = table[table["cell"] == "baseline"].groupby("always_on")["cluster"].mean()
    found = {f"released_{cell}_{name}": float(value) for cell, row in means.iterrows() for name, value in row.items()}
    return {name.replace("-", "_"): value for name, value in found.items()} | {
        "released_seeds": float(table["seed"].nunique()),
        "released_cluster_always_on": float(plain.get(True, np.nan)),
        "released_cluster_others": float(plain.get(False, np.nan)),
    }


@styled
def figure(table: pd.DataFrame) -> Plot:
    """Return the figure of all cells: a row for each, a point for each SAE (for each run, where a run has one value)."""
    drawn, axes = new_axes(len(MEASURES), height=3.6, sharey=True)
    n_seeds, said = table["seed"].nunique(), []
    for ax, (measure, label) in zip(axes, MEASURES.items(), strict=True):
        for place, cell in enumerate(CELLS):
            part = table[table["cell"] == cell]
            if measure == "together":
                part = part.drop_duplicates("seed").assign(always_on=None)
            for at, (value, on) in enumerate(zip(part[measure], part["always_on"], strict=True)):
                shift = 0.5 * ((at + 0.5) / len(part) - 0.5)
                marker = "s" if on is None else MARKS[bool(on)][1]
                ax.plot(value, place + shift, marker, color=STYLE[cell][1], ms=6, mew=0, alpha=0.8)
            if measure == "cluster":
                reported = PAPER_CLUSTER.get(cell, ())
                ax.plot(reported, [place] * len(reported), "|", color=PAPER, ms=20, mew=2, zorder=0)
            by_seed = part.groupby("seed")[measure].mean().to_numpy()
            middle, low, high = (float(one) for one in interval(by_seed))
            if n_seeds > 2:  # the interval of two is wider than the axis
                ax.errorbar([middle], [place + 0.38], xerr=[[middle - low], [high - middle]], fmt="|", color=INK, ms=8, capsize=3)  # fmt: skip
            said.append(f"{LABELS[cell]}, {' '.join(label.split())}: {middle:.3g}")
        ax.set_xlabel(label)
        if measure != "cluster":  # a share or a cosine
            ax.set_xlim(right=min(1.0, ax.get_xlim()[1]) + 0.01)
    for kind, (_, marker) in MARKS.items():
        axes[0].plot([], [], marker, color=INK, ms=6, mew=0, label=f"SAE {KINDS[kind]}")
    axes[0].plot([], [], "s", color=INK, ms=6, mew=0, label="both SAEs of a run")
    axes[0].plot([], [], "|", color=PAPER, ms=12, mew=2, label="paper: cluster")
    axes[0].set_yticks(range(len(CELLS)), [LABELS[cell] for cell in CELLS])
    axes[0].set_ylim(len(CELLS) - 0.45, -0.55)
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    together = table.groupby("cell")["together"].mean()
    sees = f"Together the two SAEs recover the most true features with {LABELS[str(together.idxmax())]} ({together.max():.0%}), and the fewest with {LABELS[str(together.idxmin())]} ({together.min():.0%})."
    return Plot(drawn, table, f"The five cells, {n_seeds} seed{'s' * (n_seeds != 1)}. " + "; ".join(said) + ".", sees)


def too_few(table: pd.DataFrame, wanted: int) -> str:
    """Return a sentence that says that there are too few seeds to conclude anything."""
    n_seeds = table["seed"].nunique()
    return (
        f"With {n_seeds} seed{'s' * (n_seeds != 1)} for each cell, of the {wanted} that are needed, one cannot tell whether "
        "the cells differ."
    )
