"""Tables of what MFR is held against on EEG: more steps, and other regularisers."""

from typing import Any

import numpy as np
import pandas as pd

from mfrbook.chapters.eeg import runs as eeg
from mfrbook.chapters.eeg.opponents.longer import LONGER
from mfrbook.chapters.eeg.opponents.regularisers import ROWS
from mfrbook.drawing.tables import with_interval
from mfrbook.experiments.conditions import Seeds
from mfrbook.experiments.controls import equal_compute, loss_change


def controls(seeds: Seeds, treated: str) -> pd.DataFrame:
    """What more steps bring, per k: the loss of all conditions, and its paired change from that of the longer baseline."""
    labels = {"baseline": "baseline", treated: treated, LONGER: "more steps"}
    changes = {name: 100 * loss_change(seeds, name, LONGER) for name in ("baseline", treated)}
    rows = []
    for sae, k in enumerate(seeds[0][LONGER].config["k"]):
        losses = {name: [one[name].results["loss"][sae] for one in seeds] for name in labels}
        row: dict[str, Any] = {"k": k} | {f"loss, {labels[name]}": with_interval(one) for name, one in losses.items()}
        rows.append(
            row | {f"{name} against more steps, %": with_interval(one[:, sae]) for name, one in changes.items()}
        )
    mean = {f"{name} against more steps, %": with_interval(one.mean(1)) for name, one in changes.items()}
    return pd.DataFrame([*rows, {"k": "mean"} | mean]).astype(object).fillna("–")


def regularisers(seeds: Seeds, treated: str) -> pd.DataFrame:
    """How the loss of each opponent of MFR, and of MFR, changes from the baseline's, and MFR's from theirs; paired by seed."""
    ks, rows = seeds[0]["baseline"].config["k"], []
    for name in (*ROWS, treated):
        changes = 100 * loss_change(seeds, name, "baseline")
        row = {"run": name, "change of loss, %, mean over k": with_interval(changes.mean(1))}
        row |= {f"k = {k}": with_interval(changes[:, place]) for place, k in ((0, ks[0]), (-1, ks[-1]))}
        row["dead features, share"] = with_interval([np.mean(one[name].results["dead"]) for one in seeds])
        if name != treated:
            row[f"{treated} against it, %, mean over k"] = with_interval(
                100 * loss_change(seeds, treated, name).mean(1)
            )
        rows.append(row)
    return pd.DataFrame(rows).astype(object).fillna("–")


def opponent(seeds: Seeds) -> dict[str, float]:
    """Return what the longer baseline takes and gives.

    The others' steps, its own over theirs, the compute of those as a share of the penalty's run, and its loss in percent of the baseline's, for the largest k.
    """
    more, fewer = (seeds[0][name].config["steps"] for name in (LONGER, "baseline"))
    ratio = equal_compute(eeg.configure(seeds[0]["baseline"].config))
    left = 1 + loss_change(seeds, LONGER, "baseline")[:, -1].mean()
    return {
        "steps": fewer,
        "more_steps": more / fewer,
        "percent_of_compute": 100 * more / fewer / ratio,
        "longer_largest_k": 100 * float(left),
    }
