"""One function a table: takes runs, returns a pandas DataFrame."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mfrlib.experiments import threshold
from mfrlib.experiments.readings import Row
from mfrlib.runs import Run
from mfrlib.similarity import chance_level
from mfrlib.statistics import as_text, interval, pearson_interval

Seeds = Sequence[Mapping[str, Run]]  # for each seed, the runs by condition


def chance(run: Run) -> dict[str, float]:
    """Return what random dictionaries score with the input features, and with each other (Q2), by matching."""
    n, known, d_in = (run.config[name] for name in ("n_features", "n_input_features", "d_in"))
    return {
        "Hungarian": chance_level(n, known, d_in, matched=True),
        "max": chance_level(n, known, d_in),
        "across, Hungarian": chance_level(n, n, d_in, matched=True),
        "across, max": chance_level(n, n, d_in),
    }


def similarity(seeds: Seeds) -> pd.DataFrame:
    """S1–S5 for every run: r by both matchings with bootstrap intervals, the cluster, what it is made of."""
    rows = []
    for runs in seeds:
        for condition, run in runs.items():
            results = run.results
            r, low, high = pearson_interval(run.arrays["across"].ravel(), run.arrays["input"].ravel())
            rows.append(
                {
                    "condition": condition,
                    "seed": run.config["seed"],
                    "r (Hungarian)": r,
                    "r low": low,
                    "r high": high,
                    "r (max)": results["r_max"],
                    "r without cluster": results["r_without_cluster"],
                    "cluster per SAE": np.mean(results["cluster"]),
                    "of these dead": np.mean(results["cluster_dead"]),
                    "cluster · −mean": results["cluster_minus_mean"],
                    "dead features": np.mean(results["dead"]) * run.config["n_features"],
                }
            )
    return pd.DataFrame(rows)


FINAL = {
    "loss": "loss",
    "fvu": "FVU",
    "mmcs_input": "MMCS with input",
    "matched_input": "Hungarian with input",
    "recovered": "input recovered",
    "mmcs_across": "MMCS across",
    "matched_across": "Hungarian across",
    "unique_across": "unique matches across",
    "coherence": "coherence",
    "cluster": "cluster",
    "inactivity": "inactivity",
}


def final(seeds: Seeds) -> pd.DataFrame:
    """Final metrics of each condition: mean over SAEs, then mean and 95 % interval over seeds."""
    rows = []
    for condition in dict.fromkeys(name for runs in seeds for name in runs):
        row: dict[str, Any] = {"condition": condition, "seeds": sum(condition in runs for runs in seeds)}
        for metric, label in FINAL.items():
            row[label] = with_interval(
                [np.mean(runs[condition].results[metric]) for runs in seeds if condition in runs]
            )
        rows.append(row)
    return pd.DataFrame(rows).set_index("condition").T.reset_index(names="metric").rename_axis(columns=None)


def early_inactivity(run: Run) -> np.ndarray:
    """Return each SAE's largest inactivity in the window after the start `(sae,)`."""
    steps, values = run.series("inactivity")
    return values[steps < run.config["reinit_window"]].max(0)


def early(seeds: Seeds) -> pd.DataFrame:
    """Largest inactivity in the window against the threshold, baseline, one row per SAE (S6, R10c)."""
    rows = []
    for runs in seeds:
        run = runs["baseline"]
        window, threshold = run.config["reinit_window"], run.config["reinit_threshold"]
        for sae, top in enumerate(early_inactivity(run)):
            rows.append(
                {
                    "seed": run.config["seed"],
                    "SAE": sae,
                    f"largest inactivity in {window} steps": top,
                    "threshold": threshold,
                    "reached": "yes" if top > threshold else "never",
                    "cluster": run.results["cluster"][sae] if "cluster" in run.results else None,
                }
            )
    return pd.DataFrame(rows).dropna(axis=1, how="all")


READING_METRICS = {
    "fvu": "FVU",
    "mmcs_input": "MMCS with input",
    "recovered": "input recovered",
    "matched_across": "Hungarian across",
    "unique_across": "unique matches",
    "coherence": "coherence",
    "cluster": "cluster",
}
PER_SAE = ("fvu", "mmcs_input", "recovered", "cluster")


def readings(rows: Sequence[Row]) -> pd.DataFrame:
    """Final metrics of every reading and seed, one row a run."""
    return pd.DataFrame(
        {"reading": row.reading, "choice": row.choice, "seed": row.seed}
        | {metric: float(np.mean(row.run.results[metric])) for metric in READING_METRICS}
        | {"r": row.run.results["r"], "re-initialised": len(row.run.results["events"]), "α": row.run.results["alpha"]}
        | {"samples": row.run.results["samples"]}
        for row in rows
    )


def readings_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over seeds of every reading, the default first."""
    rows = []
    for (reading, choice), part in table.groupby(["reading", "choice"], sort=False):
        row: dict[str, Any] = {"reading": reading, "choice": choice, "α": f"{part['α'].mean():.3g}"}
        row |= {label: with_interval(part[metric]) for metric, label in READING_METRICS.items()}
        row |= {"r": with_interval(part["r"]), "re-initialised": f"{part['re-initialised'].mean():.3g}"}
        rows.append(row | {"seeds": len(part), "million samples": f"{part['samples'].mean() / 1e6:.3g}"})
    return pd.DataFrame(rows)


def readings_by_k(rows: Sequence[Row]) -> pd.DataFrame:
    """Final metrics of each SAE, one row each, under the readings whose SAEs differ in k."""
    return pd.DataFrame(
        {"choice": f"{row.choice}, k = {k}", "seed": row.seed} | {name: row.run.results[name][sae] for name in PER_SAE}
        for row in rows
        if not isinstance(row.run.config["k"], int)
        for sae, k in enumerate(row.run.config["k"])
    )


def readings_by_k_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over seeds of each SAE."""
    return pd.DataFrame(
        {"choice": choice} | {READING_METRICS[name]: with_interval(part[name]) for name in PER_SAE}
        for choice, part in table.groupby("choice", sort=False)
    )


def eeg(seeds: Seeds) -> pd.DataFrame:
    """Table 3's cells, one row per condition, seed and k."""
    rows = []
    for runs in seeds:
        for condition, run in runs.items():
            for sae, k in enumerate(run.config["k"]):
                row = {"condition": condition, "seed": run.config["seed"], "k": k}
                rows.append(row | {name: run.results[name][sae] for name in EEG_METRICS})
    return pd.DataFrame(rows)


EEG_METRICS = {
    "loss": "reconstruction loss",
    "fvu": "FVU",
    "distance": "L2 distance from smallest k",
    "distance_matched": "the same, rows matched",
    "mmcs_across": "MMCS across",
    "dead": "dead features, share",
}


def eeg_summary(table: pd.DataFrame, treated: str) -> pd.DataFrame:
    """Table 3: baseline and treated condition per k, and the paired relative change of the loss over seeds."""
    rows = []
    wide = table.pivot(index=["seed", "k"], columns="condition")
    for k, part in wide.groupby(level="k"):
        row: dict[str, Any] = {"k": k}
        for metric in ("loss", "distance", "distance_matched", "dead"):
            for condition in ("baseline", treated):
                row[f"{EEG_METRICS[metric]}, {condition}"] = with_interval(part[metric, condition])
        row["change of loss, %"] = with_interval(100 * (part["loss", treated] / part["loss", "baseline"] - 1))
        rows.append(row)
    return pd.DataFrame(rows)


def eeg_scale(seeds: Seeds) -> pd.DataFrame:
    """What the SAEs were trained and tested on: unique windows, windows seen, epochs, subjects."""
    run = seeds[0]["baseline"]
    names = ("unique_windows", "samples", "epochs", "subjects", "held_out_windows", "held_out_subjects")
    labels = ("unique windows", "windows seen", "epochs", "subjects", "held-out windows", "held-out subjects")
    return pd.DataFrame(
        [{"data": run.data_id} | {label: run.results[name] for label, name in zip(labels, names, strict=True)}]
    )


def as_rows(values: Mapping[str, float], name: str, value: str) -> pd.DataFrame:
    """Return a table of names and values."""
    return pd.DataFrame({name: list(values), value: list(values.values())})


def readings_choices(table: pd.DataFrame, choices: Sequence[str]) -> pd.DataFrame:
    """Return the summary of some readings only."""
    return readings_summary(table[table["choice"].isin(choices)])


def paired_values(seeds: Seeds, treated: str) -> dict[str, float | str]:
    """Return the numbers the prose names: means of both conditions, and paired differences with their intervals."""
    values: dict[str, float | str] = {
        "seeds": len(seeds),
        "threshold": threshold(seeds),
    }
    for metric in FINAL:
        pairs = np.array([[np.mean(runs[name].results[metric]) for name in ("baseline", treated)] for runs in seeds])
        middle, low, high = map(float, interval(pairs[:, 1] - pairs[:, 0]))
        values |= {f"{metric}_baseline": pairs[:, 0].mean(), f"{metric}_treated": pairs[:, 1].mean()}
        values |= {f"{metric}_difference": middle, f"{metric}_low": low, f"{metric}_high": high}
    return values


def reading_values(table: pd.DataFrame) -> dict[str, float]:
    """Return the numbers the prose names: `choice/metric` means over seeds, in plain letters."""
    metrics = [name for name in (*READING_METRICS, "r") if name in table]
    means = table.groupby("choice", sort=False)[metrics].mean()
    return {f"{_plain(choice)}_{metric}": value for choice, row in means.iterrows() for metric, value in row.items()}


def eeg_values(seeds: Seeds, treated: str) -> dict[str, float | str]:
    """Return the numbers the prose names: the mean change of the loss over k and seeds, in percent."""
    changes = [
        100 * np.mean(np.array(runs[treated].results["loss"]) / runs["baseline"].results["loss"] - 1) for runs in seeds
    ]
    middle, low, high = map(float, interval(np.array(changes)))
    data = "simulated" if seeds[0]["baseline"].results["simulated"] else "recorded"
    return {"change": middle, "change_low": low, "change_high": high, "seeds": len(seeds), "data": data}


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower().replace("α", "alpha")).strip("_")


def with_interval(values: Any) -> str:
    """Return mean and 95 % interval over the first axis as text."""
    return as_text(*(float(one) for one in interval(np.asarray(values, dtype=float))))
