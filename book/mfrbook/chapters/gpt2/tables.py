"""Tables of the language-model section: takes runs, returns pandas DataFrames, the paper's numbers beside ours."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mfrbook.chapters.gpt2.controls import ROWS, WIDER
from mfrbook.chapters.gpt2.runs import PAPER_K, PAPER_SAMPLES, GPT2Config
from mfrbook.drawing.changes import paired_change
from mfrbook.drawing.statistics import interval, signed
from mfrbook.drawing.tables import by_sae, with_interval
from mfrbook.experiments.conditions import Seeds
from mfrbook.experiments.controls import early_and_late, equal_compute, loss_change
from mfrbook.store.runs import Run

# §4.1, in percent; its tables' cells are not in the text, which says of the others only which way they went.
PAPER_LOSS, PAPER_LOSS_MEAN = {6: -21.21, 30: 7.89}, -5.66
PAPER_CE, PAPER_CE_MEAN = (-8.58, -3.51), -5.45  # from the best k to the worst
PAPER_ZERO_ABLATED = 132.27  # nats
GPT2_VOCABULARY = 50257
_LOSS_SAID = {12: "below 0", 18: "below 0", 24: "0 or above", **{k: signed(one) for k, one in PAPER_LOSS.items()}}

METRICS = {
    "loss": "reconstruction loss",
    "fvu": "FVU",
    "l0": "L0",
    "dead": "dead features, share",
    "ce": "CE with SAE inserted, nats",
    "recovered_zero": "loss recovered, of zero ablation",
    "recovered_mean": "loss recovered, of mean ablation",
    "distance": "L2 distance from smallest k",
    "distance_matched": "L2 distance, rows matched",
    "mmcs_across": "MMCS across",
}


def cells(seeds: Seeds) -> pd.DataFrame:
    """Return every measure, one row per condition, seed and k."""
    return by_sae(seeds, METRICS)


def loss(table: pd.DataFrame, treated: str) -> pd.DataFrame:
    """Table 1: reconstruction loss per k, and its paired change over seeds beside the paper's."""
    change, rows = paired_change(table, treated, "loss"), []
    for place, k in enumerate(change.columns):
        part = table[table["k"] == k].pivot(index="seed", columns="condition")
        row: dict[str, Any] = {"k": k, "L0": f"{part['l0'][['baseline', treated]].to_numpy().mean():.3g}"}
        for metric in ("loss", "fvu", "dead"):
            for condition in ("baseline", treated):
                row[f"{METRICS[metric]}, {condition}"] = with_interval(part[metric, condition])
        row["change of loss, %"] = with_interval(change[k])
        rows.append(row | _paper(place, _LOSS_SAID))
    mean = {"k": "mean", "change of loss, %": with_interval(change.mean(axis=1)), "paper, %": signed(PAPER_LOSS_MEAN)}
    return pd.DataFrame([*rows, mean]).astype(object).fillna("–")


def cross_entropy(seeds: Seeds, table: pd.DataFrame, treated: str) -> pd.DataFrame:
    """Table 2: CE with SAE outputs inserted per k; paired change over seeds, paired difference over sequences."""
    change, by_sequence, rows = paired_change(table, treated, "ce"), _sequence_differences(seeds, treated), []
    for place, k in enumerate(change.columns):
        part = table[table["k"] == k].pivot(index="seed", columns="condition")
        row: dict[str, Any] = {"k": k}
        for metric in ("ce", "recovered_zero", "recovered_mean"):
            for condition in ("baseline", treated):
                row[f"{METRICS[metric]}, {condition}"] = with_interval(part[metric, condition])
        row["change of CE, %"] = with_interval(change[k])
        row["difference over sequences, nats"] = with_interval(by_sequence[place])
        rows.append(row | _paper(place, {}))
    best, worst = PAPER_CE
    mean = {
        "k": "mean",
        "change of CE, %": with_interval(change.mean(axis=1)),
        "difference over sequences, nats": with_interval(by_sequence.mean(0)),
        "paper, %": f"{signed(worst)} to {signed(best)}, mean {signed(PAPER_CE_MEAN)}",
    }
    return pd.DataFrame([*rows, mean]).astype(object).fillna("–")


def _sequence_differences(seeds: Seeds, treated: str) -> np.ndarray:
    """Treated minus baseline, mean over seeds: `(sae, sequence)`. All seeds have the same held-out sequences."""
    return np.mean([runs[treated].arrays["ce"] - runs["baseline"].arrays["ce"] for runs in seeds], axis=0)


def _paper(place: int, changes: Mapping[int, str]) -> dict[str, Any]:
    k = PAPER_K[place] if place < len(PAPER_K) else None
    return {"paper's k": k or "–", "paper, %": changes.get(k or 0, "–")}


def references(run: Run) -> dict[str, float]:
    """Return the cross-entropies that inserted SAEs are held against (R16), in nats per token."""
    names = {
        "ce_unmodified": "unmodified",
        "ce_mean": "mean-ablated",
        "ce_zero": "zero-ablated",
        "ce_uniform": "uniform guess",
    }
    return {label: run.results[name] for name, label in names.items()}


def ablations(run: Run) -> pd.DataFrame:
    """The model without any SAE: as it is, without the layer, and what knowing nothing costs; the paper's beside it."""
    paper = {
        "unmodified": "3.12",
        "zero-ablated": f"{PAPER_ZERO_ABLATED:g}",
        "uniform guess": f"{np.log(GPT2_VOCABULARY):.2f}",
    }
    found = references(run)
    over = {label: run.arrays[name] for name, label in (("ce_unmodified", "unmodified"), ("ce_mean", "mean-ablated"),
                                                        ("ce_zero", "zero-ablated"))}  # fmt: skip
    return pd.DataFrame(
        {
            "first MLP": label,
            "CE, nats per token": with_interval(over[label]) if label in over else f"{value:.4g}",
            "paper, GPT-2 Small": paper.get(label, "–"),
        }
        for label, value in found.items()
    )


def scale(seeds: Seeds) -> pd.DataFrame:
    """What the SAEs were trained and tested on."""
    run = seeds[0]["baseline"]
    config, results = run.config, run.results
    return pd.DataFrame(
        [
            {
                "data": run.data_id, "seeds": len(seeds), "weights": config["weights"], "hook": config["hook"], "d_in": results["d_in"],
                "features": config["n_features"], "k": ", ".join(map(str, config["k"])),
                "tokens seen": results["samples"], "epochs": results["epochs"],
                "held-out tokens": results["held_out_tokens"], "sequences with SAEs inserted": config["n_inserted"],
            }
        ]
    )  # fmt: skip


def starts(seeds: Seeds) -> pd.DataFrame:
    """Inactivity of the baseline's SAEs against the threshold, and how many fresh starts pass their first batch (R10)."""
    runs, rows = [one["baseline"] for one in seeds], []
    config = runs[0].config
    windows = [values[steps < config["reinit_window"]] for steps, values in (run.series("inactivity") for run in runs)]
    for sae, k in enumerate(config["k"]):
        rows.append(
            {
                "k": k,
                "inactivity, first step": with_interval([one[0, sae] for one in windows]),
                f"largest in {config['reinit_window']} steps": with_interval([one[:, sae].max() for one in windows]),
                "threshold": config["reinit_threshold"],
                "fresh starts that pass, share": np.mean([run.results["passing_starts"][sae] for run in runs]),
            }
        )
    return pd.DataFrame(rows)


COMPARED = {
    "penalty": "baseline", "no warm-up": "baseline", "large α": "baseline", "large α, no warm-up": "baseline",
    "baseline, longer": "penalty", "baseline, wider": "penalty", "penalty, untrained block": "baseline, untrained block",
}  # fmt: skip


def controls(seeds: Seeds, compared: Mapping[str, str] = COMPARED) -> pd.DataFrame:
    """Every control: sizes, FVU, similarity, and the paired change of the loss against what it is compared with."""
    rows = []
    for name in seeds[0]:
        run, against = seeds[0][name], compared.get(name)
        row: dict[str, Any] = {"run": name, "α": f"{np.mean([one[name].results['alpha'] for one in seeds]):.3g}"}
        row |= {"steps": run.config["steps"], "features": run.config["n_features"], "warm-up": run.config["warmup"]}
        for metric in ("fvu", "dead", "mmcs_across"):
            row[METRICS[metric]] = with_interval([np.mean(one[name].results[metric]) for one in seeds])
        row["compared with"] = against or "–"
        change = 100 * loss_change(seeds, name, against) if against else None
        for label, part in (("mean", slice(None)), ("smallest k", slice(1)), ("largest k", slice(-1, None))):
            shown = "–" if change is None else with_interval(change[:, part].mean(1))
            row[f"change of loss, %, {label}"] = shown
        rows.append(row)
    return pd.DataFrame(rows)


def values(seeds: Seeds, controlled: Seeds, treated: str) -> dict[str, float | str]:
    """Return the numbers the prose names."""
    table, first = cells(seeds), seeds[0]["baseline"]
    found: dict[str, float | str] = {
        "model": first.data_id.split(":")[1],
        "seeds": len(seeds),
        "tokens": first.results["samples"],
        "tokens_share": first.results["samples"] / PAPER_SAMPLES,
        "control_features": controlled[0]["baseline"].config["n_features"],
        "paper_uniform": (uniform := float(np.log(GPT2_VOCABULARY))),
        "paper_gap": PAPER_ZERO_ABLATED - uniform,  # R16: how far below the largest logit the right one must lie
        "paper_zero_as_perplexity": float(np.log(PAPER_ZERO_ABLATED)),
        "equal_compute_paper": equal_compute(GPT2Config()),
        "passing_smallest_k": float(np.mean([runs["baseline"].results["passing_starts"][0] for runs in seeds])),
    }
    found |= {name: first.results[name] for name in ("ce_unmodified", "ce_zero", "ce_mean", "ce_uniform")}
    for label, place in (("smallest", 0), ("largest", -1)):
        for condition, name in (("baseline", "baseline"), ("treated", treated)):
            found[f"dead_{label}_k_{condition}"] = float(np.mean([one[name].results["dead"][place] for one in seeds]))
    for label, part in zip(("early", "late"), early_and_late(seeds, treated), strict=True):
        found |= _triple(f"{label}_change", 100 * part.mean(1))
    change = paired_change(table, treated, "loss")
    found |= _triple("loss_change", change.mean(axis=1))
    found |= _triple("loss_smallest_k_change", change.iloc[:, 0])
    found |= _triple("loss_largest_k_change", change.iloc[:, -1])
    found |= _triple("ce_change", paired_change(table, treated, "ce").mean(axis=1))
    found |= changes(controlled, COMPARED)
    base = next(iter(ROWS))
    found["equal_compute"] = controlled[0][WIDER].config["n_features"] / controlled[0][base].config["n_features"]
    return found


def changes(seeds: Seeds, compared: Mapping[str, str], prefix: str = "") -> dict[str, Any]:
    """Return the change of the loss of each row against what it is compared with, in %: over all k with its interval, at the smallest, at the largest."""
    found: dict[str, Any] = {}
    for name, against in compared.items():
        plain = prefix + name.replace("α", "alpha").replace(",", "").replace(" ", "_").replace("-", "_")
        change = 100 * loss_change(seeds, name, against)
        found |= _triple(f"{plain}_change", change.mean(1))
        found |= {
            f"{plain}_{end}_k_change": float(change[:, at].mean()) for end, at in (("smallest", 0), ("largest", -1))
        }
    return found


def _triple(name: str, values: Any) -> dict[str, float | str]:
    middle, low, high = map(float, interval(np.asarray(values)))
    return {name: middle, f"{name}_low": low, f"{name}_high": high}
