"""What one run of the benchmark measured, as figures."""

import math

import pandas as pd

from mfrbook.drawing.palette import GRID, INK, OTHERS
from mfrbook.drawing.style import Plot, new_axes, styled
from mfrbook.performance.timings import OURS, REFERENCE, Timings

AXES = {"n_features": "features", "batch": "samples in a batch", "n_saes": "SAEs"}


STYLES = [(OTHERS[0], "o", "-"), (OTHERS[1], "s", "--"), (OTHERS[2], "^", "-."), (OTHERS[3], "D", ":")]


@styled
def step_figure(timings: Timings) -> Plot:
    """Draw everybody's step of one SAE, a panel for each size."""
    data = pd.DataFrame(
        {"size": size, "library": row["contestant"], "products": 1000 * row["products_seconds"]}
        | {name: 1000 * value for name, value in row["seconds"].items()}
        for size in timings.sizes
        for row in timings.steps(size).values()
    )
    names = list(dict.fromkeys(data["library"]))
    figure, axes = new_axes(max(2, len(timings.sizes)), height=0.8 + 0.32 * len(names), sharey=True)
    for ax, (size, part) in zip(axes, data.groupby("size", sort=False), strict=False):
        for row in part.itertuples():
            place = names.index(row.library)
            colour, marker, _ = STYLES[2 if row.library not in (OURS, REFERENCE) else names.index(row.library)]
            ax.plot([row.q1, row.q3], [place, place], color=colour, lw=4, alpha=0.4, solid_capstyle="butt")
            ax.plot(row.median, place, color=colour, marker=marker, ls="none")
        ax.axvline(part["products"].iloc[0], color=INK, ls=":", lw=1.2)
        ax.set(title=size, xlabel="ms", xlim=(0, None))
    axes[0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    figure.supxlabel("dotted: the matrix products alone, at the machine's peak", fontsize=9, color=INK)
    said = "; ".join(
        f"at {size} " + ", ".join(f"{row.library} {row.median:.3g} ms" for row in part.itertuples())
        for size, part in data.groupby("size", sort=False)
    )
    fastest = data.loc[data.groupby("size", sort=False)["median"].idxmin()]
    sees = f"The shortest step is that of {', '.join(f'{row.library} at size {row.size}' for row in fastest.itertuples(name='Row'))}."
    return Plot(figure, data, f"Time of one training step of one SAE by library: {said}.", sees)


@styled
def scaling_figure(timings: Timings) -> Plot:
    """Draw steps along each axis, both scales logarithmic."""
    data = pd.DataFrame(
        {"axis": axis, "value": row[axis], "library": row["contestant"]}
        | {"products": 1000 * row["products_seconds"]}
        | {name: 1000 * value for name, value in row["seconds"].items()}
        for axis in AXES
        for row in timings.table(axis)
    )
    names = list(dict.fromkeys(data["library"]))
    figure, axes = new_axes(len(AXES), height=3.4, sharey=True)
    said = []
    for ax, (axis, label) in zip(axes, AXES.items(), strict=True):
        part = data[data["axis"] == axis]
        for name, (colour, marker, line) in zip(names, STYLES, strict=False):
            one = part[part["library"] == name]
            ax.fill_between(one["value"], one["q1"], one["q3"], color=colour, alpha=0.2, lw=0)
            ax.plot(one["value"], one["median"], color=colour, marker=marker, ls=line, ms=4, label=name)
        one = part[part["library"] == OURS]
        ax.plot(one["value"], one["products"], color=INK, ls=":", lw=1.2, label="matrix products alone")
        ax.set(xscale="log", yscale="log", xlabel=label)
        ticks = sorted(part["value"].unique())[:: 1 if axis == "n_saes" else 2]
        ax.set_xticks(ticks, [f"{tick // 1024}k" if tick >= 1024 else str(tick) for tick in ticks])
        ax.minorticks_off()
        ax.grid(color=GRID)
        ends = one["median"].iloc[[0, -1]].tolist()
        growth = math.log(ends[1] / ends[0]) / math.log(one["value"].iloc[-1] / one["value"].iloc[0])
        said.append(f"from {ends[0]:.3g} to {ends[1]:.3g} ms over {label}, a slope of {growth:.2f}")
    axes[0].set_ylabel("ms a step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    first = data.loc[data.groupby(["axis", "value"])["median"].idxmin(), "library"]
    sees = f"The step of {OURS} is the shortest at {int((first == OURS).sum())} of {len(first)} points."
    return Plot(figure, data, f"Time of a training step on logarithmic axes. {OURS} grows {'; '.join(said)}.", sees)
