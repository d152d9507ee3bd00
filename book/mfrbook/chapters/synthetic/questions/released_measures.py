"""Section 3 under the released method, taken whole: one number a seed for each claim."""

import numpy as np

from mfrbook.chapters.synthetic.measures import unique_matches
from mfrbook.chapters.synthetic.questions.released import by_seed
from mfrbook.chapters.synthetic.questions.tables import shared
from mfrbook.chapters.synthetic.runs import UNLIKE_INPUT
from mfrbook.drawing.statistics import deciding
from mfrbook.experiments.evidence import Evidence, mean
from mfrbook.store.runs import Run


def released_similarity_r(evidence: Evidence) -> list[float]:
    """S1: Pearson's r of similarity across SAEs and with true features, baseline."""
    return [seed["baseline"].results["r"] for seed in _seeds(evidence)]


def released_similarity_r_gain(evidence: Evidence) -> list[float]:
    """S2: Pearson's r of both similarities with re-initialisation, minus without."""
    return [seed["reinit"].results["r"] - seed["baseline"].results["r"] for seed in _seeds(evidence)]


def released_cluster_left(evidence: Evidence) -> list[float]:
    """S5: features in the cluster of an SAE under MFR, mean over SAEs."""
    return [mean(seed["mfr"], "cluster") for seed in _seeds(evidence)]


def released_loss_reduction(evidence: Evidence) -> list[float]:
    """S7: by what share the held-out loss is lower under MFR than with re-initialisation alone."""
    return _lower(evidence, "mfr", than="reinit")


def released_similarity_order(evidence: Evidence) -> list[float]:
    """S8: the step of the order MFR > re-initialisation > baseline, in MMCS with true features, that decides.

    One that surely falls or, if none does, the one whose interval reaches down farthest: the order holds if that step does.
    """
    names = ("mfr", "reinit", "baseline")
    mmcs = np.array([[mean(seed[name], "mmcs_input") for name in names] for seed in _seeds(evidence)])
    return deciding(mmcs[:, :-1] - mmcs[:, 1:])


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


def released_centring_loss(evidence: Evidence) -> list[float]:
    """Q15cl: by what share the held-out loss is lower on centred data than on the data as they are, neither with MFR."""
    return _lower(evidence, "centred", than="baseline")


def released_centring_or_mfr(evidence: Evidence) -> list[float]:
    """Q9: MMCS with true features on centred data without MFR, minus with MFR on the data as they are."""
    return _rise(evidence, "centred", "mfr")


def released_centring_or_mfr_loss(evidence: Evidence) -> list[float]:
    """Q9l: by what share the held-out loss is lower on centred data without MFR than with MFR on the data as they are."""
    return _lower(evidence, "centred", than="mfr")


def released_centring_or_mfr_together(evidence: Evidence) -> list[float]:
    """Q9t: share of true features that any SAE of a run recovers, on centred data without MFR minus with MFR."""
    return _together(evidence, "centred", "mfr")


def released_coherence_rise(evidence: Evidence) -> list[float]:
    """Q7r: within-SAE coherence, penalty minus baseline."""
    return [mean(seed["penalty"], "coherence") - mean(seed["baseline"], "coherence") for seed in _seeds(evidence)]


def released_crowding(evidence: Evidence) -> list[float]:
    """Q8r: share of distinct best matches of SAE 1 in SAE 2, baseline minus penalty."""
    return [unique_matches(seed["baseline"]) - unique_matches(seed["penalty"]) for seed in _seeds(evidence)]


def released_untrue(evidence: Evidence) -> list[float]:
    """Q15u: features of an SAE that are unlike every true feature, under MFR minus baseline, mean over SAEs."""
    return [_untrue(seed["mfr"]) - _untrue(seed["baseline"]) for seed in _seeds(evidence)]


def released_untrue_dead(evidence: Evidence) -> list[float]:
    """Q15ud: of these, those that are never active."""
    return [_untrue(seed["mfr"], dead=True) - _untrue(seed["baseline"], dead=True) for seed in _seeds(evidence)]


def _untrue(run: Run, dead: bool = False) -> float:
    found = run.arrays["input_max"] < UNLIKE_INPUT
    return float((found & (run.arrays["rate"] == 0) if dead else found).sum(1).mean())


def released_together_baseline(evidence: Evidence) -> list[float]:
    """Q15tb: share of true features that any SAE of a run recovers, under MFR minus baseline."""
    return _together(evidence, "mfr", "baseline")


def released_together(evidence: Evidence) -> list[float]:
    """Q15: share of true features that any SAE of a run recovers, under MFR minus with re-initialisation alone."""
    return _together(evidence, "mfr", "reinit")


def _together(evidence: Evidence, cell: str, over: str) -> list[float]:
    found = {(row.cell, row.seed): row.together.results["any"] for row in evidence.get("released")}
    return [found[cell, seed] - found[over, seed] for one, seed in found if one == cell]


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


def _lower(evidence: Evidence, cell: str, than: str) -> list[float]:
    return [1 - mean(seed[cell], "loss") / mean(seed[than], "loss") for seed in _seeds(evidence)]


def _seeds(evidence: Evidence) -> list[dict[str, Run]]:
    return by_seed(evidence.get("released"), centred=True)
