"""Section 3 under the released method, taken whole: one number a seed for each claim."""

import numpy as np

from mfrbook.chapters.synthetic.questions.tables import shared
from mfrbook.drawing.statistics import interval
from mfrbook.experiments.evidence import Evidence, mean
from mfrbook.store.runs import Run


def released_similarity_r_gain(evidence: Evidence) -> list[float]:
    """S2: Pearson's r of both similarities with re-initialisation, minus without."""
    return [seed["reinit"].results["r"] - seed["baseline"].results["r"] for seed in _seeds(evidence)]


def released_cluster_left(evidence: Evidence) -> list[float]:
    """S5: features in the cluster of an SAE under MFR, mean over SAEs."""
    return [mean(seed["mfr"], "cluster") for seed in _seeds(evidence)]


def released_loss_reduction(evidence: Evidence) -> list[float]:
    """S7: by what share the held-out loss is lower under MFR than with re-initialisation alone."""
    return [1 - mean(seed["mfr"], "loss") / mean(seed["reinit"], "loss") for seed in _seeds(evidence)]


def released_similarity_order(evidence: Evidence) -> list[float]:
    """S8: the step of the order MFR > re-initialisation > baseline, in MMCS with true features, that decides.

    One that surely falls or, if none does, the one whose interval reaches down farthest: the order holds if that step does.
    """
    names = ("mfr", "reinit", "baseline")
    mmcs = np.array([[mean(seed[name], "mmcs_input") for name in names] for seed in _seeds(evidence)])
    steps = mmcs[:, :-1] - mmcs[:, 1:]
    _, low, high = interval(steps)
    return steps[:, int(np.argmin(high if (high < 0).any() else low))].tolist()


def released_recovered_gain(evidence: Evidence) -> list[float]:
    """S11: share of true features that an SAE recovers, under MFR minus baseline."""
    return [mean(seed["mfr"], "recovered") - mean(seed["baseline"], "recovered") for seed in _seeds(evidence)]


def released_reinit_alone(evidence: Evidence) -> list[float]:
    """Q15: rise of MMCS with true features by re-initialisation alone."""
    return _rise(evidence, "reinit", "baseline")


def released_penalty_alone(evidence: Evidence) -> list[float]:
    """Q15: the same by the penalty alone."""
    return _rise(evidence, "penalty", "baseline")


def released_penalty_on_top(evidence: Evidence) -> list[float]:
    """Q15: the same by the penalty, both with re-initialisation."""
    return _rise(evidence, "mfr", "reinit")


def released_centring_alone(evidence: Evidence) -> list[float]:
    """Q15: the same by centring the data."""
    return _rise(evidence, "centred", "baseline")


def released_together(evidence: Evidence) -> list[float]:
    """Q15: share of true features that any SAE of a run recovers, under MFR minus with re-initialisation alone."""
    found = {(row.cell, row.seed): row.together.results["any"] for row in evidence.get("released")}
    return [found["mfr", seed] - found["reinit", seed] for cell, seed in found if cell == "mfr"]


def released_shared(evidence: Evidence) -> list[float]:
    """Q12: share of the features that two baseline SAEs share that is true."""
    return _agreement(evidence, "shared_true")


def released_true(evidence: Evidence) -> list[float]:
    """Q12: share of all features of the baseline SAEs that is true."""
    return _agreement(evidence, "true")


def _agreement(evidence: Evidence, name: str) -> list[float]:
    return [shared(seed["baseline"])[name] for seed in _seeds(evidence)]


def _rise(evidence: Evidence, cell: str, over: str) -> list[float]:
    return [mean(seed[cell], "mmcs_input") - mean(seed[over], "mmcs_input") for seed in _seeds(evidence)]


def _seeds(evidence: Evidence) -> list[dict[str, Run]]:
    """Return, for each seed, its run of each cell."""
    found: dict[int, dict[str, Run]] = {}
    for row in evidence.get("released"):
        found.setdefault(row.seed, {})[row.cell] = row.run
    return [found[seed] for seed in sorted(found)]
