"""The always-on feature: which SAEs have one, whether it is the data's mean, and how such SAEs differ from the others (Q14)."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy  # its parts, which take long, are imported when they are first used

from mfrbook.chapters.synthetic import readings
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.questions import released
from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.drawing.palette import BLUE, MARKED
from mfrbook.drawing.statistics import binomial_interval
from mfrbook.drawing.style import Plot, new_axes, styled
from mfrbook.drawing.tables import Interval, with_interval
from mfrbook.experiments.controls import ALWAYS, early_inactivity
from mfrbook.experiments.planned import Collect, Planned, collector
from mfrbook.store.runs import Run

KINDS = {True: "with an always-on feature", False: "without"}
MARKS = {True: (MARKED, "D"), False: (BLUE, "o")}
DATA_FIELDS = ("n_active", "n_active_groups", "floor_groups")
DATA = ("first-edition", "as-released", "released-oct24", "one-group", "all-groups")  # presets whose data differ


def has_one(run: Run) -> np.ndarray:
    """Return, for each SAE `(sae,)`, whether a feature is active on more than 90 % of held-out samples."""
    return run.arrays["rate"].max(1) > ALWAYS


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[Planned]:
    """Return the runs without a penalty at the paper's dimensions, of all the synthetic notebooks, each once."""
    parts = (
        readings.presets(readings.asked(profile, n_seeds, values)),
        *(one.asked(profile, n_seeds, values) for one in (questions, released)),
    )
    runs = {row.run.key: row.run for part in parts for row in part}  # of a preset's rows, some are the main runs
    return [run for run in runs.values() if not run.config.alpha and _at_full_size(run.config)]


collect: Collect[list[Run]] = collector(asked)
"""What `asked` plans, loaded or computed."""


def _at_full_size(config: synthetic.SyntheticConfig) -> bool:
    sizes = ("n_features", "n_input_features", "d_in")
    return all(getattr(config, name) == getattr(synthetic.SyntheticConfig(), name) for name in sizes)


def saes(runs: Iterable[Run]) -> pd.DataFrame:
    """Return a row for each SAE.

    Returns
    -------
    DataFrame
        `always_on`; `rate` and `cosine` of the most active feature: the share of samples, and its cosine with the data's
        mean; `cluster` (features), `mmcs` with the true features; `early`: the largest inactivity in the first steps.
    """
    rows = []
    for run in runs:
        config, rates = run.config, run.arrays["rate"]
        on, early = has_one(run), early_inactivity(run)
        for sae, feature in enumerate(rates.argmax(1)):
            rows.append(
                {
                    "data": data_of(config) + (", centred" if config["center"] else ""),
                    "million samples": config["steps"] * config["batch_size"] / 1e6,
                    "steps": config["steps"],
                    "re-initialised": config["reinit"] != "off",
                    "run": run.key,
                    "seed": config["seed"],
                    "sae": sae,
                    "always_on": bool(on[sae]),
                    "rate": float(rates[sae, feature]),
                    "cosine": -float(run.arrays["minus_mean"][sae, feature]),
                    "cluster": int(run.results["cluster"][sae]),
                    "mmcs": float(run.results["mmcs_input"][sae]),
                    "early": float(early[sae]),
                }
            )
    return pd.DataFrame(rows)


def data_of(config: Mapping[str, Any]) -> str:
    """Return the name of the preset whose data a run has, or "other data"."""
    presets = {name: synthetic.configure({}, "published", name) for name in DATA}
    alike = (
        name for name, one in presets.items() if all(getattr(one, field) == config[field] for field in DATA_FIELDS)
    )
    return next(alike, "other data")


def groups(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the SAEs by data and number of samples, those that were never re-initialised: the name of each group, and its rows."""
    plain = table[~table["re-initialised"]]
    order = {name: place for place, name in enumerate(f"{data}{end}" for end in ("", ", centred") for data in DATA)}
    keys = sorted(
        plain.groupby(["data", "million samples", "steps"]).groups,
        key=lambda key: (order.get(key[0], len(order)), key[1]),
    )
    columns = ["data", "million samples", "steps"]
    return [(f"{key[0]}, {key[1]:g} M", plain[(plain[columns] == list(key)).all(axis=1)]) for key in keys]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each group: the share of SAEs with an always-on feature, and what each kind is like.

    The share has an exact binomial 95 % interval (Clopper and Pearson), each mean a t interval over SAEs; both take SAEs for
    independent, which two of one run are but for their data. The last column is the area under the curve (AUC) with which
    the largest early inactivity tells the two kinds apart: 0.5 is chance.
    """
    rows = []
    for name, part in groups(table):
        on = part["always_on"]
        share = Interval(float(on.mean()), *binomial_interval(int(on.sum()), len(part)))
        row = {"data and samples": name, "SAEs": len(part), "always on, SAEs": int(on.sum()), "always on, share": share}
        row["cosine with the mean"] = part.loc[on, "cosine"].mean()
        for column, label in (("cluster", "features in the cluster"), ("mmcs", "MMCS with true features")):
            for kind, short in ((True, "always on"), (False, "others")):
                values = part.loc[on == kind, column]
                row[f"{label}: {short}"] = with_interval(values) if len(values) else np.nan
        rows.append(row | {"AUC of early inactivity": auc(part.loc[on, "early"], part.loc[~on, "early"])})
    return pd.DataFrame(rows)


def auc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> Any:
    """Return the chance that a value of the first is above one of the second, ties counted half; NaN if either is empty.

    The values of a row lie along the last axis; there is one chance for each row.
    """
    above, below = np.asarray(positive, float), np.asarray(negative, float)
    if not above.size or not below.size:
        return np.full(above.shape[:-1], np.nan)[()]
    found = scipy.stats.mannwhitneyu(above, below, axis=-1, method="asymptotic").statistic
    return found / (above.shape[-1] * below.shape[-1])


@styled
def figure(table: pd.DataFrame) -> Plot:
    """Return the figure that shows both kinds of SAE: a row for each group, a point for each SAE."""
    found = groups(table)
    panels = {
        "cluster": "features in\nthe cluster",
        "mmcs": "MMCS with\ntrue features",
        "cosine": "most active feature:\ncosine with the mean",
    }
    drawn, axes = new_axes(len(panels), height=1.3 + 0.33 * len(found), sharey=True)
    for ax, (column, label) in zip(axes, panels.items(), strict=True):
        for place, (_, part) in enumerate(found):
            for kind, (colour, marker) in MARKS.items():
                values = part.loc[part["always_on"] == kind, column].sort_values()
                spread = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(len(values))
                ax.plot(values, place + spread, marker, color=colour, ms=5, alpha=0.65, mew=0)
        ax.set_xlabel(label)
    for kind, (colour, marker) in MARKS.items():
        axes[0].plot([], [], marker, color=colour, ms=6, mew=0, label=f"SAE {KINDS[kind]}")
    axes[0].set_yticks(range(len(found)), [name for name, _ in found])
    axes[0].set_ylim(len(found) - 0.5, -0.5)
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    said = [
        f"{name}: {int(part['always_on'].sum())} of {len(part)} SAEs have one" + _clusters(part) for name, part in found
    ]
    means = table.groupby("always_on")["cluster"].mean()
    sees = f"SAEs with an always-on feature have a larger cluster, {means.get(True, np.nan):.0f} features against {means.get(False, np.nan):.0f}, means over all groups."
    return Plot(drawn, table, "SAEs with and without an always-on feature. " + "; ".join(said) + ".", sees)


def _clusters(part: pd.DataFrame) -> str:
    means = part.groupby("always_on")["cluster"].mean()
    return "".join(f", mean cluster {KINDS[kind]} {mean:.0f}" for kind, mean in means.items())
