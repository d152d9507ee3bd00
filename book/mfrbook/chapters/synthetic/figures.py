"""Figures of the synthetic section: features by similarity and activity, the loss, early inactivity."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mfrbook.drawing.figures import Seeds, curves
from mfrbook.drawing.statistics import pearson_interval
from mfrbook.drawing.palette import BLUE, GRID, INK, MARKED, STYLE
from mfrbook.drawing.style import Plot, new_axes, styled
from mfrbook.drawing.tables import early_inactivity
from mfrbook.store.runs import Run


def features_table(run: Run) -> pd.DataFrame:
    """Return one row per feature of each SAE of a synthetic run."""
    n_saes, n_features = run.arrays["rate"].shape
    place = {
        "sae": np.repeat(np.arange(n_saes), n_features),
        "feature": np.tile(np.arange(n_features), n_saes),
    }
    return pd.DataFrame(place | {name: values.ravel() for name, values in run.arrays.items()})


@styled
def similarity(run: Run, title: str, chance: Mapping[str, float]) -> Plot:
    """Figures 2 and 3: similarity across SAEs against similarity with the input features, both matchings (R9c)."""
    data = features_table(run)
    figure, axes = new_axes(2, height=3.9, sharex=True, sharey=True)
    said = []
    for ax, (across, known, name) in zip(
        axes, [("across", "input", "Hungarian"), ("across_max", "input_max", "max")], strict=True
    ):
        r, low, high = pearson_interval(data[across], data[known])
        pairs = data[[across, known]].dropna().to_numpy()
        line = np.polynomial.Polynomial.fit(pairs[:, 0], pairs[:, 1], 1)
        for member, marker, size, colour, label in (
            (False, "o", 14, BLUE, "feature"),
            (True, "X", 44, MARKED, "in the cluster"),
        ):
            part = data[data["cluster"] == member]
            style = {"s": size, "marker": marker, "color": colour, "alpha": 0.6, "lw": 0, "rasterized": True}
            ax.scatter(part[across], part[known], label=label, **style)
        ends = np.array([data[across].min(), data[across].max()])
        ax.plot(ends, line(ends), color=INK, label="least squares")
        ax.axhline(chance[name], color=GRID, ls=":", label="chance, input features")
        ax.set_title(f"{name}: r = {r:.3f} [{low:.3f}, {high:.3f}]")
        ax.set_xlabel("cosine with the other SAE")
        said.append(f"with {name} matching r is {r:.3f}, 95 % interval {low:.3f} to {high:.3f}")
    axes[0].set_ylabel("cosine with an input feature")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(title)
    alt = (
        f"Scatter of {len(data)} features, {title}: {'; '.join(said)}. {int(data['cluster'].sum())} are in the cluster."
    )
    return Plot(figure, data, alt)


@styled
def activity_space(runs: Mapping[str, Run]) -> Plot:
    """Figures 4 and 5 as in the paper: both similarities and the activation probability, in three dimensions."""
    figure, axes = new_axes(len(runs), height=3.9, subplot_kw={"projection": "3d"}, squeeze=False)
    data, top = [], max(float(run.arrays["rate"].max()) for run in runs.values())
    for ax, (condition, run) in zip(axes[0], runs.items(), strict=True):
        table = features_table(run).assign(condition=condition)
        label, colour, marker, _ = STYLE[condition]
        ax.scatter(
            table["across"],
            table["input"],
            table["rate"],
            s=7,
            color=colour,
            marker=marker,
            alpha=0.6,
            lw=0,
            rasterized=True,
        )
        ax.set(
            title=label,
            xlabel="cosine across SAEs",
            ylabel="cosine with input",
            zlabel="activation probability",
            zlim=(0, top),
        )
        ax.tick_params(labelsize=7)
        ax.view_init(elev=22, azim=-60)
        ax.set_box_aspect(None, zoom=0.8)
        data.append(table)
    return Plot(figure, pd.concat(data), _activity_alt("Three-dimensional scatter", data))


@styled
def activity_plane(runs: Mapping[str, Run]) -> Plot:
    """Figures 4 and 5 as a plane: activation probability as colour, dead features marked."""
    figure, axes = new_axes(len(runs), height=4.1, sharex=True, sharey=True, squeeze=False)
    tables = [features_table(run).assign(condition=condition) for condition, run in runs.items()]
    top = max(table["rate"].quantile(0.99) for table in tables)
    for ax, table in zip(axes[0], tables, strict=True):
        alive, dead = table[table["rate"] > 0].sort_values("rate", ascending=False), table[table["rate"] == 0]
        ax.scatter(
            dead["across"], dead["input"], marker="x", s=22, lw=1.1, color=MARKED, label=f"dead: {len(dead)}"
        )
        points = ax.scatter(
            alive["across"],
            alive["input"],
            c=alive["rate"],
            cmap="viridis",
            vmin=0,
            vmax=top,
            s=14,
            lw=0,
            rasterized=True,
        )
        inside = table[table["cluster"]]
        ax.set_title(
            f"{STYLE[table['condition'].iloc[0]][0]}: {len(inside)} in the cluster, {int((inside['rate'] == 0).sum())} of them dead",
            fontsize=9,
        )
        ax.set_xlabel("cosine with the other SAE")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), borderaxespad=0)
    axes[0][0].set_ylabel("cosine with an input feature")
    figure.colorbar(points, ax=axes, label="activation probability", shrink=0.85, pad=0.02, extend="max")
    return Plot(figure, pd.concat(tables), _activity_alt("Scatter coloured by activation probability", tables))


def _activity_alt(kind: str, tables: Sequence[pd.DataFrame]) -> str:
    parts = [
        f"{STYLE[table['condition'].iloc[0]][0]}: {int(table['cluster'].sum())} of {len(table)} features in the cluster, "
        f"{int((table['rate'] == 0).sum())} dead"
        for table in tables
    ]
    return f"{kind} of similarity across SAEs and with the input features. " + "; ".join(parts) + "."


@styled
def loss_with_fvu(seeds: Seeds) -> Plot:
    """Figure 7: reconstruction loss on a log scale, with FVU, the loss over the data's variance, on the right."""
    plot = curves(seeds, "loss", "reconstruction loss", log=True)
    results = seeds[0]["baseline"].results
    per_loss = results["fvu"][0] / results["loss"][0]
    ax = plot.figure.axes[0]
    right = ax.secondary_yaxis("right", functions=(lambda y: y * per_loss, lambda y: y / per_loss))
    right.set_ylabel("FVU", color=INK)
    right.tick_params(which="both", colors=INK)
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
    ax.set(xlabel=f"largest inactivity in the first {window} steps", ylabel="features in the cluster")
    return Plot(
        figure,
        data,
        f"Size of the cluster at the end in {len(data)} baseline SAEs against their inactivity in the first {window} steps.",
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
