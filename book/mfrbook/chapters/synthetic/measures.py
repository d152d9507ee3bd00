"""Section 3: what answers the claims on data whose features are known."""

import numpy as np

from mfrbook.experiments.conditions import never_reached, treated, untreated
from mfrbook.experiments.evidence import Evidence, Untested, mean
from mfrbook.store.runs import Run
from mfrlib.method.similarity import chance_level


def similarity_r(evidence: Evidence) -> list[float]:
    """S1-printed: Pearson's r of similarity across SAEs and with input features, baseline, Hungarian."""
    return [runs["baseline"].results["r"] for runs in evidence.seeds]


def similarity_r_gain(evidence: Evidence) -> list[float]:
    """S2: r with re-initialisation minus r without."""
    pairs = [runs for runs in evidence.seeds if "reinit" in runs]
    if not pairs:
        never = never_reached(evidence.seeds[0]["baseline"])
        raise Untested(
            f"Threshold {never}, the only ones in which this reading checks it: re-initialisation changed nothing."
        )
    return [runs["reinit"].results["r"] - runs["baseline"].results["r"] for runs in pairs]


def cluster_removed(evidence: Evidence) -> list[float]:
    """S5: baseline cluster minus MFR cluster, features per SAE."""
    return _removed(evidence, "cluster").tolist()


def _removed(evidence: Evidence, name: str) -> np.ndarray:
    plain = [runs["baseline"] for runs in evidence.seeds]
    return np.array([mean(run, name) for run in plain]) - [mean(run, name) for run in treated(evidence.seeds)]


def _pairs(evidence: Evidence, name: str) -> list[tuple[float, float]]:
    """Return a result under MFR and without penalty, of each seed."""
    pairs = zip(treated(evidence.seeds), untreated(evidence.seeds), strict=True)
    return [(mean(under_mfr, name), mean(plain, name)) for under_mfr, plain in pairs]


def cluster_dead_removed(evidence: Evidence) -> list[float]:
    """S5d-first: of the features that S5 counts, those that are never active."""
    return _removed(evidence, "cluster_dead").tolist()


def cluster_live_removed(evidence: Evidence) -> list[float]:
    """S5n-first: of the features that S5 counts, those that are active."""
    return (np.array(cluster_removed(evidence)) - cluster_dead_removed(evidence)).tolist()


def loss_reduction(evidence: Evidence) -> list[float]:
    """S7: relative reduction of the final reconstruction loss by the penalty, same re-initialisation."""
    return [1 - under_mfr / plain for under_mfr, plain in _pairs(evidence, "loss")]


def input_similarity_gain(evidence: Evidence) -> list[float]:
    """S8: MMCS with the input features, MFR minus without penalty."""
    return [under_mfr - plain for under_mfr, plain in _pairs(evidence, "mmcs_input")]


def recovered_gain(evidence: Evidence) -> list[float]:
    """S11: share of input features recovered, MFR minus baseline."""
    return (-_removed(evidence, "recovered")).tolist()


def chance_mmcs(evidence: Evidence) -> list[float]:
    """Q2: MMCS of two random dictionaries of the synthetic section's size."""
    config = evidence.seeds[0]["baseline"].config
    return [
        chance_level(config["n_features"], config["n_features"], config["d_in"], n_draws=1, seed=i) for i in range(5)
    ]


def coherence_rise(evidence: Evidence) -> list[float]:
    """Q7-first: within-SAE coherence, penalty minus baseline."""
    return [mean(runs["penalty"], "coherence") - mean(runs["baseline"], "coherence") for runs in evidence.seeds]


def crowding(evidence: Evidence) -> list[float]:
    """Q8-first: share of distinct best matches of SAE 1 in SAE 2, baseline minus penalty."""
    return [unique_matches(runs["baseline"]) - unique_matches(runs["penalty"]) for runs in evidence.seeds]


def unique_matches(run: Run) -> float:
    """Return the share of the features of SAE 2 that are the best match of one of SAE 1."""
    return float(run.results["unique_across"][0])
