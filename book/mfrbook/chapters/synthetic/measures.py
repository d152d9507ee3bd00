"""Section 3: what answers the claims on data whose features are known."""

import numpy as np

from mfrbook.chapters.synthetic.runs import ALIKE_ACROSS, UNLIKE_INPUT
from mfrbook.experiments.evidence import Evidence, Untested, mean, treated, untreated
from mfrbook.store.runs import Run
from mfrlib.method.similarity import chance_level

NEVER_REACHED = "Threshold never reached in the first 100 steps, the only ones in which this reading checks it: re-initialisation changed nothing."


def similarity_r(evidence: Evidence) -> list[float]:
    """S1: Pearson's r of similarity across SAEs and with input features, baseline, Hungarian."""
    return [runs["baseline"].results["r"] for runs in evidence.seeds]


def similarity_r_gain(evidence: Evidence) -> list[float]:
    """S2: r with re-initialisation minus r without."""
    pairs = [runs for runs in evidence.seeds if "reinit" in runs]
    if not pairs:
        raise Untested(NEVER_REACHED)
    return [runs["reinit"].results["r"] - runs["baseline"].results["r"] for runs in pairs]


def cluster_removed(evidence: Evidence) -> list[float]:
    """S5: baseline cluster minus MFR cluster, features per SAE."""
    return [_removed(runs["baseline"], treated(runs), "cluster") for runs in evidence.seeds]


def _removed(plain: Run, under_mfr: Run, name: str) -> float:
    return mean(plain, name) - mean(under_mfr, name)


def cluster_size_pairs(evidence: Evidence) -> list[float]:
    """S3p: the same where features are paired one to one, across SAEs and with the input (R9c)."""

    def size(run: Run) -> float:
        inside = (run.arrays["across"] > ALIKE_ACROSS) & (run.arrays["input"] < UNLIKE_INPUT)
        return float(inside.sum(1).mean())

    return [size(runs["baseline"]) for runs in evidence.seeds]


def cluster_dead_removed(evidence: Evidence) -> list[float]:
    """S5d: of the features that S5 counts, those that are never active."""
    return [_removed(runs["baseline"], treated(runs), "cluster_dead") for runs in evidence.seeds]


def cluster_live_removed(evidence: Evidence) -> list[float]:
    """S5n: of the features that S5 counts, those that are active."""
    return (np.array(cluster_removed(evidence)) - cluster_dead_removed(evidence)).tolist()


def loss_reduction(evidence: Evidence) -> list[float]:
    """S7: relative reduction of the final reconstruction loss by the penalty, same re-initialisation."""
    return [1 - mean(treated(runs), "loss") / mean(untreated(runs), "loss") for runs in evidence.seeds]


def input_similarity_gain(evidence: Evidence) -> list[float]:
    """S8: MMCS with the input features, MFR minus without penalty."""
    return [mean(treated(runs), "mmcs_input") - mean(untreated(runs), "mmcs_input") for runs in evidence.seeds]


def recovered_gain(evidence: Evidence) -> list[float]:
    """S11: share of input features recovered, MFR minus baseline."""
    return [mean(treated(runs), "recovered") - mean(runs["baseline"], "recovered") for runs in evidence.seeds]


def chance_mmcs(evidence: Evidence) -> list[float]:
    """Q2: MMCS of two random dictionaries of the synthetic section's size."""
    config = evidence.seeds[0]["baseline"].config
    return [
        chance_level(config["n_features"], config["n_features"], config["d_in"], n_draws=1, seed=i) for i in range(5)
    ]


def coherence_rise(evidence: Evidence) -> list[float]:
    """Q7: within-SAE coherence, penalty minus baseline."""
    return [mean(runs["penalty"], "coherence") - mean(runs["baseline"], "coherence") for runs in evidence.seeds]


def crowding(evidence: Evidence) -> list[float]:
    """Q8: share of distinct best matches of SAE 1 in SAE 2, baseline minus penalty."""
    return [
        runs["baseline"].results["unique_across"][0] - runs["penalty"].results["unique_across"][0]
        for runs in evidence.seeds
    ]
