"""Figures of the synthetic section: features by similarity and activity, the loss, early inactivity."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.drawing.figures import curves
from mfrbook.drawing.palette import BLUE, INK, MARKED, PAPER, STYLE
from mfrbook.drawing.statistics import pearson_interval
from mfrbook.drawing.style import Live, Plot, new_axes, styled, typeset
from mfrbook.experiments.conditions import Seeds
from mfrbook.experiments.controls import early_inactivity
from mfrbook.store.runs import Run

PAPER_R, PAPER_R_REINIT, PAPER_REDUCTION = 0.625, 0.668, 0.024  # Figures 2, 3 and 7


def features_table(run: Run) -> pd.DataFrame:
    """Return one row per feature of each SAE of a synthetic run."""
    n_saes, n_features = run.arrays["rate"].shape
    place = {
        "sae": np.repeat(np.arange(n_saes), n_features),
        "feature": np.tile(np.arange(n_features), n_saes),
    }
    return pd.DataFrame(place | {name: values.ravel() for name, values in run.arrays.items()})


@styled
def similarity(
    run: Run, title: str, chance: Mapping[str, float], every: Sequence[float] = (), paper: float | None = None
) -> Plot:
    """Figures 2 and 3: similarity across SAEs against similarity with the true features, both matchings (R9c).

    Parameters
    ----------
    chance
        By matching, what random dictionaries score.
    every
        Pearson r of every seed, with one-to-one matching.
    paper
        The paper's r.
    """
    data = features_table(run)
    figure, axes = new_axes(3, height=3.9, gridspec_kw={"width_ratios": (5, 5, 1.6)})
    said = []
    for ax, (across, known, name) in zip(
        axes, [("across", "input", "Hungarian"), ("across_max", "input_max", "max")], strict=False
    ):
        r, low, high = pearson_interval(data[across], data[known])
        pairs = data[[across, known]].dropna().to_numpy()
        line = np.polynomial.Polynomial.fit(pairs[:, 0], pairs[:, 1], 1)
        for member, marker, size, colour, label in (
            (False, "o", 14, BLUE, "feature"),
            (True, "X", 40, MARKED, "in the cluster"),
        ):
            part = data[data["cluster"] == member]
            style = {"s": size, "marker": marker, "color": colour, "alpha": 0.6, "lw": 0, "rasterized": True}
            ax.scatter(part[across], part[known], label=label, **style)
        ends = np.array([data[across].min(), data[across].max()])
        ax.plot(ends, line(ends), color=INK, label="least squares")
        ax.axhline(chance[name], color=INK, ls=":", lw=1.2, label="chance")
        ax.set_title(f"{TITLES[name]}\nr = {r:.3f} [{low:.3f}, {high:.3f}]", fontsize=10)
        ax.set(xlabel="cosine with the other SAE", xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        said.append(f"with {TITLES[name]} r is {r:.3f}, 95 % interval {low:.3f} to {high:.3f}")
    threshold_box(axes[1])
    axes[1].set_yticklabels([])
    axes[0].set_ylabel("cosine with a true feature")
    seeds_of_r(axes[2], every or [float(np.corrcoef(data[["across", "input"]].dropna().T)[0, 1])], paper)
    shown = {name: one for ax in axes for one, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=4)
    n = int(data["cluster"].sum())
    alt = f"Scatter of {len(data)} features, {title}: {'; '.join(said)}. {n} are in the cluster."
    reported = f"; the paper reports {paper:g}" if paper else ""
    sees = f"Features that two SAEs share tend to be true features (r = {run.results['r']:.2f} in this seed{reported}), but {n} are alike without being true."
    return Plot(figure, data, alt, sees, Live("thresholds", data[["across_max", "input_max"]]))


TITLES = {"Hungarian": "one-to-one matching", "max": "best match"}


def threshold_box(ax: Axes) -> None:
    """Draw the box of the cluster: alike across SAEs, unlike every true feature, each by its best match."""
    corner = (synthetic.ALIKE_ACROSS, -0.05)
    box = Rectangle(corner, 1.05 - corner[0], synthetic.UNLIKE_INPUT + 0.05, fill=False, ec=MARKED, lw=1.4, ls="--")
    box.set_label("the cluster's box")
    ax.add_patch(box)


def seeds_of_r(ax: Axes, every: Sequence[float], paper: float | None) -> None:
    """Draw Pearson r of every seed, and the paper's."""
    ax.plot(np.linspace(-0.2, 0.2, len(every)), every, "o", color=BLUE, ms=6, mew=0, alpha=0.8)
    if paper is not None:
        ax.axhline(paper, color=PAPER, ls="--", lw=1.6, label=f"paper, r = {paper:g}")
    ax.set(xlim=(-0.6, 0.6), xticks=[], ylim=(0, 1))
    ax.set_title(f"r of {len(every)}\nseed{'s' * (len(every) != 1)}", fontsize=10)


def typical(seeds: Seeds) -> dict[str, Run]:
    """Return baseline and MFR of the seed whose change of the cluster's size between them is the median."""

    def growth(runs: Mapping[str, Run]) -> int:
        before, after = (features_table(runs[name])["cluster"].sum() for name in ("baseline", "mfr"))
        return int(after - before)

    runs = sorted(seeds, key=growth)[len(seeds) // 2]
    return {name: runs[name] for name in ("baseline", "mfr")}


@styled
def activity_plane(runs: Mapping[str, Run]) -> Plot:
    """Figures 4 and 5 as a plane: activation probability as colour, dead features marked."""
    figure, axes = new_axes(len(runs), height=4.1, sharex=True, sharey=True, squeeze=False)
    tables = [features_table(run).assign(condition=condition) for condition, run in runs.items()]
    top = max(table["rate"].quantile(0.99) for table in tables)
    for ax, table in zip(axes[0], tables, strict=True):
        alive, dead = table[table["rate"] > 0].sort_values("rate", ascending=False), table[table["rate"] == 0]
        ax.scatter(
            dead["across_max"], dead["input_max"], marker="x", s=22, lw=1.1, color=MARKED, label=f"dead: {len(dead)}"
        )
        points = ax.scatter(
            alive["across_max"],
            alive["input_max"],
            c=alive["rate"],
            cmap="viridis",
            vmin=0,
            vmax=top,
            s=14,
            lw=0,
            rasterized=True,
        )
        inside, n_saes = table[table["cluster"]], table["sae"].nunique()
        ax.set_title(
            f"{STYLE[table['condition'].iloc[0]][0]}:\ncluster of {len(inside) / n_saes:.0f} per SAE"
            + (f", {(inside['rate'] == 0).mean():.0%} of it dead" if len(inside) else ""),
            fontsize=9,
        )
        ax.set_xlabel("best cosine with the other SAE")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), borderaxespad=0)
    axes[0][0].set_ylabel("best cosine with a true feature")
    figure.colorbar(points, ax=axes, label="activation probability", shrink=0.85, pad=0.02, extend="max")
    for ax in axes[0]:
        threshold_box(ax)
    parts = (
        f"{one['cluster'].sum() / one['sae'].nunique():.0f} features per SAE ({STYLE[one['condition'].iloc[0]][0]})"
        for one in tables
    )
    sees = f"The clusters have {' and '.join(parts)}; the paper has about {max(synthetic.PAPER_CLUSTER['baseline'])} without MFR and none with it."
    return Plot(figure, pd.concat(tables), _activity_alt("Scatter coloured by activation probability", tables), sees)


def _activity_alt(kind: str, tables: Sequence[pd.DataFrame]) -> str:
    parts = [
        f"{STYLE[table['condition'].iloc[0]][0]}: {int(table['cluster'].sum())} of {len(table)} features in the cluster, "
        f"{int((table['rate'] == 0).sum())} dead"
        for table in tables
    ]
    return f"{kind} of similarity across SAEs and with the input features. " + "; ".join(parts) + "."


@styled
def loss_with_fvu(seeds: Seeds, *, single: bool = False) -> Plot:
    """Figure 7: reconstruction loss on a log scale, with FVU, the loss over the data's variance, on the right; `single` as in `curves`."""
    against = "reinit" if all("reinit" in runs for runs in seeds) else "baseline"
    last = float(np.mean([runs[against].series("loss")[1][-1].mean() for runs in seeds]))
    paper = {f"paper: {100 * PAPER_REDUCTION:.1f} % below {STYLE[against][0].lower()}": last * (1 - PAPER_REDUCTION)}
    plot = curves(seeds, "loss", "reconstruction loss", log=True, paper=paper, single=single)
    results = seeds[0]["baseline"].results
    per_loss = results["fvu"][0] / results["loss"][0]
    ax = plot.figure.axes[0]
    right = ax.secondary_yaxis("right", functions=(lambda y: y * per_loss, lambda y: y / per_loss))
    right.set_ylabel("FVU", color=INK)
    right.tick_params(which="both", colors=INK)
    low, high = (end * per_loss for end in ax.get_ylim())
    ticks = [tick for tick in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3) if low <= tick <= high]
    right.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    right.minorticks_off()
    return plot._replace(data=plot.data.assign(fvu=plot.data["loss"] * per_loss))


@styled
def early_against_cluster(seeds: Seeds) -> Plot:
    """S6: largest inactivity in the window after the start against the size of the cluster at the end, one point per SAE."""
    rows, window = [], seeds[0]["baseline"].config["reinit_window"]
    for seed, runs in enumerate(seeds):
        top = early_inactivity(runs["baseline"])
        rows += [
            {"seed": seed, "sae": i, "early_inactivity": top[i], "cluster": c}
            for i, c in enumerate(runs["baseline"].results["cluster"])
        ]
    data = pd.DataFrame(rows)
    figure, ax = new_axes(height=3.2)
    ax.scatter(data["early_inactivity"], data["cluster"], color=BLUE, marker="o", s=36)
    r = float(data[["early_inactivity", "cluster"]].corr().iloc[0, 1])
    ax.set(
        xlabel=f"largest inactivity in the first {window} steps",
        ylabel="features in the cluster",
        title=typeset(f"r = {r:.2f}"),
    )
    return Plot(
        figure,
        data,
        f"Size of the cluster at the end in {len(data)} baseline SAEs against their inactivity in the first {window} steps; r = {r:.2f}.",
        f"Early inactivity and the cluster at the end correlate with r = {r:.2f} over {len(data)} SAEs; the ledger has the interval over runs.",
    )


def with_superior(seeds: Seeds) -> list[dict[str, Run]]:
    """Return the baseline runs, named "superior" as well where the cluster is smaller than halfway; none if all are alike."""
    sizes = [float(np.mean(runs["baseline"].results["cluster"])) for runs in seeds]
    middle = (min(sizes) + max(sizes)) / 2
    if min(sizes) == max(sizes):
        return []
    return [
        {"baseline": runs["baseline"]} | ({"superior": runs["baseline"]} if size < middle else {})
        for runs, size in zip(seeds, sizes, strict=True)
    ]
