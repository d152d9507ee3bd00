"""Section 3 under the method as printed: one number a seed for each claim.

Losses are compared as shares of the data's variance, of which the sum and the mean over dimensions are multiples.
"""

from mfrbook.chapters.synthetic.measures import unique_matches
from mfrbook.experiments.evidence import Evidence, Untested, mean
from mfrbook.store.runs import Run


def printed_similarity_r_gain(evidence: Evidence) -> list[float]:
    """S2: r with re-initialisation minus r without; untested where re-initialisation never acted."""
    found = evidence.get("printed")
    fired = sum(bool(runs["mfr"].results["events"]) for runs in found)
    highest = max(float(run.series("inactivity")[1].max()) for runs in found for run in runs.values())
    threshold = found[0]["mfr"].config["reinit_threshold"]
    if fired or highest > threshold:
        raise Untested("Re-initialisation alone has not been run as printed.")
    raise Untested(
        f"The threshold, {threshold:g}, was never crossed: inactivity was checked at every step of the {len(found)} runs with the "
        f"penalty, and reached {highest:.2f} at most in all recorded steps with it and without. Re-initialisation changed nothing."
    )


def printed_cluster_left(evidence: Evidence) -> list[float]:
    """S5: features in the cluster of an SAE under MFR, mean over SAEs."""
    return [mean(runs["mfr"], "cluster") for runs in evidence.get("printed")]


def printed_loss_reduction(evidence: Evidence) -> list[float]:
    """S7: by what share the held-out loss is lower under MFR than with re-initialisation alone, which is the baseline."""
    return [1 - mean(runs["mfr"], "fvu") / mean(_without(runs), "fvu") for runs in evidence.get("printed")]


def printed_similarity_gain(evidence: Evidence) -> list[float]:
    """S8: MMCS with true features, under MFR minus with re-initialisation alone, which is the baseline."""
    return [mean(runs["mfr"], "mmcs_input") - mean(_without(runs), "mmcs_input") for runs in evidence.get("printed")]


def printed_recovered_gain(evidence: Evidence) -> list[float]:
    """S11: share of true features that an SAE recovers, under MFR minus baseline."""
    return [mean(runs["mfr"], "recovered") - mean(_without(runs), "recovered") for runs in evidence.get("printed")]


def printed_coherence_rise(evidence: Evidence) -> list[float]:
    """Q7: within-SAE coherence, under MFR, which is the penalty alone, minus baseline."""
    return [mean(runs["mfr"], "coherence") - mean(_without(runs), "coherence") for runs in evidence.get("printed")]


def printed_crowding(evidence: Evidence) -> list[float]:
    """Q8: share of distinct best matches of SAE 1 in SAE 2, baseline minus under MFR, which is the penalty alone."""
    return [unique_matches(_without(runs)) - unique_matches(runs["mfr"]) for runs in evidence.get("printed")]


def printed_centring(evidence: Evidence) -> list[float]:
    """Q9p: MMCS with true features on centred data without a penalty, minus with the penalty as printed on the data as they are."""
    centred = {
        (row.seed, row.run.results["samples"]): mean(row.run, "mmcs_input")
        for row in evidence.get("questions")
        if row.choice == "centred data"
    }
    runs = [seed["mfr"] for seed in evidence.get("printed")]
    return [centred[run.config["seed"], run.results["samples"]] - mean(run, "mmcs_input") for run in runs]


def _without(runs: dict[str, Run]) -> Run:
    if runs["mfr"].results["events"]:
        raise Untested("Re-initialisation acted, and has not been run alone as printed.")
    return runs["baseline"]
