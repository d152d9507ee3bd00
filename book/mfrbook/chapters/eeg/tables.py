"""Tables of the EEG section: takes runs, returns pandas DataFrames."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mfrbook.chapters.eeg import kinds as eeg_kinds
from mfrbook.chapters.eeg.opponents.tables import opponent
from mfrbook.chapters.eeg.readings import ROWS, Rows
from mfrbook.drawing.changes import paired_change
from mfrbook.drawing.statistics import signed
from mfrbook.drawing.tables import by_sae, with_interval
from mfrbook.experiments.conditions import Seeds, measured
from mfrbook.experiments.controls import early_and_late, loss_change
from mfrbook.store.runs import Run


def cells(seeds: Seeds) -> pd.DataFrame:
    """Table 3's cells, one row per condition, seed and k."""
    return by_sae(seeds, METRICS)


METRICS = {
    "loss": "reconstruction loss",
    "fvu": "FVU",
    "distance_raw": "L2 distance from smallest k",
    "distance_raw_matched": "L2 distance, rows matched",
    "mmcs_across": "MMCS across",
    "dead": "dead features, share",
}


DISTANCES = ("distance_raw", "distance_raw_matched")  # on the weights as they are


PAPER_LOSS, PAPER_LOSS_MEAN = (-6.67, 4.04), -1.8  # Table 3 as the text has it, in percent: the best k and the worst


def summary(table: pd.DataFrame, treated: str, cosines: Mapping[int, float] | None = None) -> pd.DataFrame:
    """Table 3: baseline and treated condition per k, and the paired relative change of the loss over seeds.

    `cosines`: the loss of a fixed cosine transform for each k.
    """
    rows, smallest = [], table["k"].min()
    wide, change = table.pivot(index=["seed", "k"], columns="condition"), paired_change(table, treated, "loss")
    for k, part in wide.groupby(level="k"):
        row: dict[str, Any] = {"k": k}
        for metric in ("loss", *DISTANCES, "dead"):
            for condition in ("baseline", treated):
                known = part[metric, condition].dropna()  # older runs have no distances of raw weights
                itself = metric in DISTANCES and k == smallest
                row[f"{METRICS[metric]}, {condition}"] = "–" if itself else with_interval(known)
        row |= {f"{METRICS['loss']}, best k cosines": f"{cosines[k]:.3g}"} if cosines and k in cosines else {}
        rows.append(row | {"change of loss, %": with_interval(change[k])})
    paper = "{}, from {} to {}".format(*map(signed, (PAPER_LOSS_MEAN, *PAPER_LOSS)))
    rows.append({"k": "mean", "change of loss, %": with_interval(change.mean(axis=1)), "paper, %": paper})
    return pd.DataFrame(rows).astype(object).fillna("–")


def searched(run: Run) -> pd.DataFrame:
    """What the best k cosines, an SAE and a better search in its dictionary leave of the same windows, per k."""
    results = run.results
    names = {"dct_searched": "best k cosines", "sae": "SAE", "omp": "pursuit in the SAE's dictionary"}
    rows = {"k": results["k"]} | {f"{METRICS['loss']}, {label}": results[name] for name, label in names.items()}
    less = [100 * (omp / sae - 1) for omp, sae in zip(results["omp"], results["sae"], strict=True)]
    return pd.DataFrame(rows | {"pursuit against the SAE, %": less})


def scale(seeds: Seeds) -> pd.DataFrame:
    """What the SAEs were trained and tested on: unique windows, windows seen, epochs, subjects."""
    run = seeds[0]["baseline"]
    names = ("unique_windows", "samples", "epochs", "subjects", "held_out_windows", "held_out_subjects")
    labels = ("unique windows", "windows seen", "epochs", "subjects", "held-out windows", "held-out subjects")
    return pd.DataFrame(
        [
            {"data": run.data_id, "seeds": len(seeds)}
            | {label: run.results[name] for label, name in zip(labels, names, strict=True)}
        ]
    )


def readings(seeds: Rows) -> pd.DataFrame:
    """What each reading changes: sizes, and what the penalty does to the loss and to both distances (R17, R19, R20)."""
    rows = []
    for name in seeds[0]:
        runs = [one[name] for one in seeds]
        first = runs[0]["baseline"]
        rows.append(
            {
                "reading": name[0],
                "choice": name[1],
                "d_in": first.results["d_in"],
                "features": first.config["n_features"],
                "unique windows": first.results["unique_windows"],
                "windows seen": first.results["samples"],
                "epochs": first.results["epochs"],
                "α": f"{np.mean([one['penalty'].results['alpha'] for one in runs]):.3g}",
                "FVU, baseline": with_interval([np.mean(one["baseline"].results["fvu"]) for one in runs]),
                "change of loss, %": with_interval([100 * np.mean(_change(one, "loss")) for one in runs]),
                "change of distance, %": with_interval([100 * np.mean(_change(one, "distance")) for one in runs]),
                "the same, rows matched, %": with_interval(
                    [100 * np.mean(_change(one, "distance_matched")) for one in runs]
                ),
            }
        )
    return pd.DataFrame(rows)


def _change(pair: Mapping[str, Run], metric: str) -> np.ndarray:
    """Relative change of a metric under the penalty, per SAE; of a distance, without the SAE it is measured from."""
    before, after = (np.array(pair[name].results[metric]) for name in ("baseline", "penalty"))
    return after[before > 0] / before[before > 0] - 1


def seen(run: Run) -> str:
    """Say in a caption how many windows a run's SAEs saw, and how many of them were different."""
    unique, windows, epochs = (run.results[name] for name in ("unique_windows", "samples", "epochs"))
    return f"{unique:,} unique windows, {windows:,} seen, {epochs:.2g} epochs."


def superposition(seeds: Seeds) -> pd.DataFrame:
    """What the baseline's dictionaries say of superposition, per k (E4); `mfrlib.method.evaluation` defines the measures."""
    runs, rows = [one["baseline"] for one in seeds], []
    for sae, k in enumerate(runs[0].config["k"]):
        row: dict[str, Any] = {"k": k, "dimensions": runs[0].results["d_in"]}
        alive = [one.config["n_features"] * (1 - one.results["dead"][sae]) for one in runs]
        row["alive features"] = with_interval(alive)
        for metric, label in SUPERPOSITION.items():
            row[label] = with_interval([one.results[metric][sae] for one in runs])
            if metric == "per_dimension":  # of n random unit rows: 1 + (n - 1) / d
                row["the same of random features"] = with_interval([1 + (one - 1) / row["dimensions"] for one in alive])
        rows.append(row)
    return pd.DataFrame(rows)


SUPERPOSITION = {
    "per_dimension": "features that share a dimension (Σ cos²)",
    "coherence": "coherence",
    "coherence_chance": "coherence of random features",
}


def kinds(run: Run) -> pd.DataFrame:
    """How many features look like what, and how active they are (`mfrbook.chapters.eeg.kinds.kinds`)."""
    found = eeg_kinds.kinds(run)
    rows = []
    for kind in eeg_kinds.KINDS:
        part = found[found["kind"] == kind]
        share = part["rate"].sum() / found["rate"].sum()
        peaks = f"{part['peak'].min()} to {part['peak'].max()}" if len(part) else "–"
        rows.append({"kind": kind, "features": len(part), "share of activity, %": 100 * share, "peaks, Hz": peaks})
    return pd.DataFrame(rows)


def conditions(run: Run, top: int = 10) -> pd.DataFrame:
    """The features whose rates differ most surely between two conditions (`mfrbook.chapters.eeg.kinds.compare_conditions`)."""
    found, pair = eeg_kinds.compare_conditions(run).sort_values("p", kind="stable"), eeg_kinds.two_conditions(run)
    assert pair is not None
    shown = found.assign(rate=100 * found["rate"], difference=100 * found["difference"]).rename(
        columns={"peak": "peak, Hz", "rate": "rate, %", "difference": f"{pair[1]} − {pair[0]}, percentage points"}
    )
    return shown[["feature", "kind", *shown.filter(regex="Hz|%|points").columns, "p", "q"]].head(top)


def values(
    seeds: Seeds, controlled: Seeds, rows: Rows, treated: str, cosines: Mapping[int, float]
) -> dict[str, float | str]:
    """Return the numbers that the prose names, about the loss, starts, compute, readings, features and conditions.

    `cosines`: as for `summary`.
    """
    run = seeds[0]["baseline"]
    change = 100 * loss_change(seeds, treated, "baseline")
    pair = eeg_kinds.two_conditions(run)
    q = eeg_kinds.compare_conditions(run)["q"] if pair else pd.Series(dtype=float)
    numbers: dict[str, float | str] = {
        "change": float(change.mean()),
        "gaining_k": " and ".join(map(str, sorted(np.array(run.config["k"])[change.mean(0).argsort()[:2]]))),
        "late_training_change": 100 * float(early_and_late(seeds, treated)[1].mean()),
        "seeds": len(seeds),
        "data": "simulated" if run.results["simulated"] else "recorded",
        "passing_smallest_k": float(np.mean([one["baseline"].results["passing_starts"][0] for one in seeds])),
        "windows": run.results["unique_windows"],
        "epochs": run.results["epochs"],
        "conditions": " and ".join(pair) if pair else "none",
        "tested": len(q),
        "discoveries": int((q <= eeg_kinds.LEVEL).sum()),
        "reading_seeds": len(rows),
    }
    for name, label in zip(ROWS, ("default", "released_k", "joint"), strict=True):
        changes = [_change(one[name], "loss") for one in rows if name in one]
        numbers[f"{label}_loss_change"] = 100 * float(np.mean(changes)) if changes else float("nan")
    pairs = [{"baseline": runs["baseline"], "penalty": runs[treated]} for runs in measured(seeds, DISTANCES[0])]
    for metric in DISTANCES:
        numbers[f"{metric}_change"] = (
            100 * float(np.mean([_change(pair, metric) for pair in pairs])) if pairs else float("nan")
        )
    return numbers | _each_k(seeds, treated, cosines) | opponent(controlled)


def _each_k(seeds: Seeds, treated: str, cosines: Mapping[int, float]) -> dict[str, float | str]:
    """Return for each k the changes of the baseline's loss in percent, by the penalty and by cosines, and both shares of dead features."""
    found: dict[str, float | str] = {}
    for sae, k in enumerate(seeds[0]["baseline"].config["k"]):
        loss = np.array([one["baseline"].results["loss"][sae] for one in seeds])
        found[f"change_{k}"] = 100 * float(loss_change(seeds, treated, "baseline")[:, sae].mean())
        found[f"cosines_{k}"] = 100 * float((cosines[k] / loss - 1).mean()) if k in cosines else float("nan")
        for name, condition in (("baseline", "baseline"), ("treated", treated)):
            found[f"dead_{name}_{k}"] = float(np.mean([one[condition].results["dead"][sae] for one in seeds]))
    return found
