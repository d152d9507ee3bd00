"""Fronts: what SAEs of one kind give at the same cost as SAEs of another kind."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mfrbook.experiments.conditions import Seeds
from mfrbook.store.runs import Run


def points(seeds: Seeds) -> pd.DataFrame:
    """Return one row per SAE: its condition, seed, place in the stack, what sets its sparsity, and its measures."""
    rows = []
    for runs in seeds:
        for condition, run in runs.items():
            results = run.results
            for sae, l0 in enumerate(results["l0"]):
                row: dict[str, Any] = {"condition": condition, "seed": run.config["seed"], "sae": sae}
                row |= {"set to": _setting(run, sae), "L0": l0, "alive": results["alive"][sae]}
                row |= {"CE increase": results["ce_increase"][sae], "KL": results["kl"][sae]}
                row["explained variance"] = results["explained_variance"][sae]
                later = [values[sae] for values in results["later"].values()]
                rows.append(row | {"explained variance, later": float(np.mean(later)) if later else np.nan})
    return pd.DataFrame(rows)


def _setting(run: Run, sae: int) -> float:
    value = run.config["k" if run.config["sae"] == "topk" else "sparsity"]
    return value[sae] if isinstance(value, list) else value


def interpolate(x: Sequence[float], y: Sequence[float], at: float) -> float:
    """Return y at a value of x by straight lines between the points; NaN outside of them, where nothing is known."""
    order = np.argsort(x)
    return float(np.interp(at, np.asarray(x, float)[order], np.asarray(y, float)[order], left=np.nan, right=np.nan))


def ce_at_equal_l0(table: pd.DataFrame, treated: str, *, share: bool = False) -> list[float]:
    """Return for each seed by how much less the CE rises than on the local front at the same L0, in nats or as a share of that rise.

    The front is taken as straight over the logarithms of both, or where its CE does not rise everywhere over that of L0: it
    bends over L0 alone, and chords of few points would lie above it. The mean is over the treated stack's SAEs within its reach, NaN if none is.
    """

    def gain(one: pd.Series, front: pd.DataFrame) -> float:
        rise, at = front["CE increase"], np.log(one["L0"])
        if (rise > 0).all():
            expected = float(np.exp(interpolate(np.log(front["L0"]), np.log(rise), at)))
        else:
            expected = interpolate(np.log(front["L0"]), rise, at)
        return (expected - one["CE increase"]) / (expected if share else 1)

    return _by_seed(table, treated, gain)


def reduction_at_equal_ce(table: pd.DataFrame, measure: str, treated: str) -> list[float]:
    """Return for each seed the share by which a measure (L0, alive) is smaller than on the local front at the same CE."""

    def gain(one: pd.Series, front: pd.DataFrame) -> float:
        rise, at = front["CE increase"], one["CE increase"]
        if (rise > 0).all() and at > 0:
            rise, at = np.log(rise), np.log(at)
        known = interpolate(rise, np.log(front[measure]), at)
        return 1 - one[measure] / np.exp(known)

    return _by_seed(table, treated, gain)


def _by_seed(table: pd.DataFrame, treated: str, gain: Callable[[pd.Series, pd.DataFrame], float]) -> list[float]:
    found = []
    for _, part in table[(table["L0"] > 0) & (table["alive"] > 0)].groupby("seed"):
        front = part[part["condition"] == "local"]
        gains = [gain(one, front) for _, one in part[part["condition"] == treated].iterrows()]
        known = [value for value in gains if np.isfinite(value)]
        found.append(float(np.mean(known)) if known else np.nan)
    return found
