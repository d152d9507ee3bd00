"""The denoising chapter's tables, and the numbers that its prose names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mfrbook.chapters.denoising.closeness import BANDS
from mfrbook.drawing.tables import with_interval
from mfrbook.experiments.conditions import Seeds, never_reached
from mfrbook.experiments.controls import ks_of
from mfrbook.store.runs import Run

KIND = {"eye": "eye movements", "heart": "heartbeat", "muscle": "muscle", "line": "mains"}
METHOD = {
    "nothing": "do nothing", "band-pass": "band-pass", "notch": "notch filter", "wavelet": "wavelet thresholding",
    "pca": "PCA of windows", "wiener": "Wiener filter of windows", "regression": "regression on EOG or ECG", "ica": "ICA",
    "reconstruction": "SAE, reconstruction only", "reconstruction-mfr": "SAE, reconstruction only, MFR",
    "denoising": "SAE, taught noisy to clean", "denoising-mfr": "SAE, taught noisy to clean, MFR",
}  # fmt: skip
"""Names of methods on the pages, in the order of tables."""
MEASURE = {
    "rrmse_t": "error in time (RRMSE-t)", "rrmse_s": "error in spectrum (RRMSE-s)", "correlation": "correlation with clean",
    "snr_gain": "gain in SNR, dB", **{band: f"error of {band} power, dB" for band in BANDS},
}  # fmt: skip
SAES = ("denoising", "denoising-mfr", "reconstruction", "reconstruction-mfr")


def measures(seeds: Seeds, of: str = "stack") -> pd.DataFrame:
    """Return every measure: a row per seed, method, kind of artefact and ratio.

    Parameters
    ----------
    of : {"stack", "k"}
        Of SAEs, the mean of a stack, or every SAE by itself (column `k`); classical methods only with the first.
    """
    rows = []
    for runs in seeds:
        for condition, run in runs.items():
            for one in run.results["measures"]:
                stacked = condition in SAES
                if of == "k" and one["method"].startswith("k="):
                    rows.append({**one, "method": condition, "k": int(one["method"][2:])})
                elif of == "stack" and (not stacked or one["method"] == "stack"):
                    rows.append({**one, "method": condition if stacked else one["method"]})
                else:
                    continue
                rows[-1]["seed"] = run.config["seed"]
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys((*MEASURE, "snr"), float))


def scale(seeds: Seeds) -> pd.DataFrame:
    """Say what SAEs were trained and tested on, and how that compares with the paper's size."""
    run = seeds[0]["denoising"]
    results, config = run.results, run.config
    row = {
        "data": run.data_id, "eye movements": "simulated" if results["simulated_eyes"] else config["eye_movements"],
        "windows at hand": results["unique_windows"], "windows seen": results["samples"],
        "training subjects": results["subjects"], "test recordings": results["measures"][0]["recordings"],
        "features": config["n_features"], "k": ", ".join(map(str, ks_of(run))), "seeds": len(seeds),
    }  # fmt: skip
    return pd.DataFrame([row])


def simulated(runs: Mapping[str, Run]) -> tuple[str, str]:
    """Return what a figure's corner and the banner say of simulated recordings or eye movements; empty for real ones."""
    results = runs["denoising"].results
    if results["simulated"]:
        eyes = "simulated eyes" if results["simulated_eyes"] else "recorded eyes"
        return f"simulated EEG, {eyes}", "These are simulated recordings: nothing here says anything about brains."
    if results["simulated_eyes"]:
        return "simulated eye movements", "Eye movements are simulated; recordings are real."
    return "", ""


def summary(table: pd.DataFrame, measure: str = "rrmse_t") -> pd.DataFrame:
    """Return a measure by method and kind: the mean over ratios, with its 95 % interval over seeds."""
    rows = []
    kinds = [kind for kind in KIND if kind in set(table["kind"])]
    for method, name in METHOD.items():
        mine = table[table["method"] == method]
        if len(mine):
            row: dict[str, Any] = {"method": name}
            for kind in kinds:
                values = mine[mine["kind"] == kind].groupby("seed")[measure].mean()
                row[KIND[kind]] = with_interval(values) if len(values) else "–"
            untouched = mine[mine["kind"].isna()].groupby("seed")[measure].mean().dropna()
            row["no artefact"] = with_interval(untouched) if len(untouched) else "–"
            rows.append(row)
    return pd.DataFrame(rows)


def every_measure(table: pd.DataFrame) -> pd.DataFrame:
    """Return all measures by method: means over kinds and ratios, with 95 % intervals over seeds.

    Methods that are not for every kind of artefact (regression, ICA, notch) are left out: their means would be over others.
    """
    noisy = table[table["kind"].notna()]
    n_kinds, rows = noisy["kind"].nunique(), []
    for method, name in METHOD.items():
        mine = noisy[noisy["method"] == method]
        if mine["kind"].nunique() == n_kinds:
            means = mine.groupby("seed")[list(MEASURE)].mean()
            rows.append({"method": name} | {label: with_interval(means[one]) for one, label in MEASURE.items()})
    return pd.DataFrame(rows)


def paired(table: pd.DataFrame, treated: str, measure: str = "snr_gain") -> pd.DataFrame:
    """Return a method's measure minus each other's, paired by seed, mean over ratios, with 95 % intervals."""
    rows = []
    for method, name in METHOD.items():
        row: dict[str, Any] = {"against": name}
        for kind, label in KIND.items():
            difference = _difference(table[table["kind"] == kind], treated, method, measure)
            row[label] = with_interval(difference) if len(difference) else "–"
        if method != treated and method in set(table["method"]):
            rows.append(row)
    return pd.DataFrame(rows)


def _difference(table: pd.DataFrame, treated: str, other: str, measure: str) -> pd.Series:
    means = table.groupby(["method", "seed"])[measure].mean()
    if not {treated, other} <= set(means.index.get_level_values(0)):
        return pd.Series(dtype=float)
    return (means[treated] - means[other]).dropna()


def single_saes(seeds: Seeds) -> pd.DataFrame:
    """Return a row per SAE: seed, condition, k, its reconstruction loss on clean windows, its error of denoising."""
    table = measures(seeds, of="k")
    noisy = table[table["kind"].notna()]
    errors = noisy.groupby(["seed", "method", "k"], sort=False)[["rrmse_t", "snr_gain"]].mean().reset_index()
    losses = pd.DataFrame(
        {"seed": runs[name].config["seed"], "method": name, "k": k, "loss": loss}
        for runs in seeds
        for name in SAES
        for k, loss in zip(ks_of(runs[name]), runs[name].results["loss"], strict=True)
    )
    return losses.merge(errors, on=["seed", "method", "k"])


def correlation(saes: pd.DataFrame, methods: Sequence[str] = SAES) -> list[float]:
    """Return, for each seed, Pearson's r of reconstruction loss and error of denoising over SAEs; NaN for fewer than three."""
    mine = saes[saes["method"].isin(methods)]
    return [
        float(np.corrcoef(part["loss"], part["rrmse_t"])[0, 1]) if len(part) > 2 else float("nan")
        for _, part in mine.groupby("seed")
    ]


def mfr_change(seeds: Seeds, learnt: str, of: str = "k") -> np.ndarray:
    """Return for each seed the relative change of the error in time by MFR, paired by SAE if `of` is "k" (see `measures`)."""
    table = measures(seeds, of)
    pairs = ["seed", "k"] if of == "k" else ["seed"]
    errors = table[table["kind"].notna()].groupby(["method", *pairs])["rrmse_t"].mean()
    return (errors[f"{learnt}-mfr"] / errors[learnt] - 1).groupby("seed").mean().to_numpy()


def mfr_changes(seeds: Seeds) -> pd.DataFrame:
    """Say by how much MFR changes the error, of SAEs by themselves and of the mean of what a stack makes."""
    of = {"k": "each SAE by itself, mean over k, %", "stack": "mean of a stack's estimates, %"}
    return pd.DataFrame(
        {"SAEs": METHOD[learnt]}
        | {label: with_interval(100 * mfr_change(seeds, learnt, one)) for one, label in of.items()}
        for learnt in ("denoising", "reconstruction")
    )


def mean_of(table: pd.DataFrame, method: str, measure: str, kind: str | None = None) -> np.ndarray:
    """Return a method's measure for each seed, the mean over ratios, and over kinds unless one is named."""
    mine = table[(table["method"] == method) & (table["kind"].notna() if kind is None else table["kind"] == kind)]
    return mine.groupby("seed")[measure].mean().to_numpy()


def values(seeds: Seeds) -> dict[str, float | str]:
    """Return the numbers that the prose names: sizes, and means by method, kind and measure."""
    table = measures(seeds)
    found: dict[str, float | str] = {"seeds": len(seeds)}
    config = seeds[0]["denoising"].config
    found |= {"features": config["n_features"], "windows": seeds[0]["denoising"].results["samples"]}
    found |= {"lowest_snr": min(config["test_snrs"]), "highest_snr": max(config["test_snrs"])}
    for method in METHOD:
        for kind in (*KIND, None):
            for measure in ("rrmse_t", "snr_gain"):
                values = mean_of(table, method, measure, kind)
                if len(values):
                    key = f"{method}_{kind or 'all'}_{measure}".replace("-", "_")
                    found[key] = float(values.mean())
        clean = table[(table["method"] == method) & table["kind"].isna()]["rrmse_t"]
        if len(clean):
            found[f"{method}_untouched".replace("-", "_")] = float(clean.mean())
    reached = any(runs[name].results["events"] for runs in seeds for name in SAES)
    found["threshold"] = "reached" if reached else never_reached(seeds[0][SAES[0]])
    return found
