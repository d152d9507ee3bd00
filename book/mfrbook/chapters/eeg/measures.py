"""Sections 4.2 and 4.3: what answers the claims on EEG."""

from collections.abc import Mapping, Sequence

import numpy as np

from mfrbook.chapters.eeg.opponents.longer import LONGER
from mfrbook.chapters.gpt2.measures import lm_loss_reduction
from mfrbook.chapters.gpt2.smollm2.measures import smollm2_loss_reduction
from mfrbook.experiments.conditions import measured, treated, treated_name
from mfrbook.experiments.controls import dense_correlation, early_and_late, loss_change
from mfrbook.experiments.evidence import Evidence, Untested, mean
from mfrbook.store.runs import Run


def eeg_loss_reduction(evidence: Evidence) -> list[float]:
    """E1: relative reduction of the held-out reconstruction loss, mean over k."""
    return _reductions(evidence).mean(1).tolist()


def eeg_loss_best_k(evidence: Evidence) -> list[float]:
    """E1a: the same for the best k (`_at_largest`)."""
    return _at_largest(_reductions(evidence))


def eeg_loss_worst_k(evidence: Evidence) -> list[float]:
    """E1z: relative rise of the loss for the worst k (`_at_largest`)."""
    return _at_largest(-_reductions(evidence))


def _at_largest(found: np.ndarray) -> list[float]:
    """Return each seed's value, of `(seed, k)`, at the k whose mean over the *other* seeds is largest: a choice by the same numbers would favour itself."""
    others = found.sum(0) - found
    return found[np.arange(len(found)), others.argmax(1)].tolist()


def transforms_dct(evidence: Evidence) -> list[float]:
    """Q17: by what share the best k cosines leave less error than an SAE of that k, at the k and condition where it is least."""
    fixed = np.array(_transforms(evidence)["fixed"].results["dct"])
    found = evidence.get("eeg")
    pairs = zip((runs["baseline"] for runs in found), treated(found), strict=True)
    less = np.array(
        [1 - fixed / np.array([run.results["loss"] for run in pair]) for pair in pairs]
    )  # (seed, condition, k)
    return less.reshape(len(less), -1)[:, int(less.mean(0).argmin())].tolist()


def transforms_pursuit(evidence: Evidence) -> list[float]:
    """Q17o: by what share matching pursuit leaves less error than the SAE whose dictionary it searches; one value per k."""
    results = _transforms(evidence)["searched"].results
    return (1 - np.array(results["omp"]) / np.array(results["sae"])).tolist()


def _transforms(evidence: Evidence) -> Mapping[str, Run]:
    for found in evidence.get("eeg-transforms"):
        return found
    raise Untested("The cosine transform is of single channels.")


def eeg_dense(evidence: Evidence) -> list[float]:
    """Q18: Pearson's r over k of the loss's relative change under MFR and the number of dense features it takes away."""
    return dense_correlation(evidence.get("eeg"))


def shorter_gain(evidence: Evidence) -> list[float]:
    """E1s: relative reduction of the loss where training is shorter, mean over k."""
    found = evidence.get("eeg-controls")
    return (-loss_change(found, treated_name(found), "baseline")).mean(1).tolist()


def shorter_against_longer(evidence: Evidence) -> list[float]:
    """E1t: relative reduction of the loss against a longer baseline of no more compute, at the median of the five k."""
    return np.median(_against_longer(evidence), axis=1).tolist()


def shorter_against_longer_smallest_k(evidence: Evidence) -> list[float]:
    """E1u: the same for the smallest k."""
    return _against_longer(evidence)[:, 0].tolist()


def _against_longer(evidence: Evidence) -> np.ndarray:
    found = evidence.get("eeg-controls")
    return -loss_change(found, treated_name(found), LONGER)


def opponents_weight_decay(evidence: Evidence) -> list[float]:
    """E1w: relative reduction of the loss against a baseline of more weight decay, mean over k."""
    return _against(evidence, "weight decay")


def opponents_dropped_inputs(evidence: Evidence) -> list[float]:
    """E1x: the same against a baseline whose encoder does not see a part of each window."""
    return _against(evidence, "dropped inputs")


def opponents_more_steps(evidence: Evidence) -> list[float]:
    """E1v: the same against a baseline of more steps."""
    return _against(evidence, "more steps")


def _against(evidence: Evidence, opponent: str) -> list[float]:
    found = evidence.get("eeg-regularisers")
    return (-loss_change(found, treated_name(found), opponent)).mean(1).tolist()


def eeg_gain_lost(evidence: Evidence) -> list[float]:
    """E1e: reduction of the training loss in the first fifth of training minus that in the last, mean over k."""
    found = evidence.get("eeg")
    early, late = early_and_late(found, treated_name(found))
    return (late - early).mean(1).tolist()


def eeg_gain_by_k(evidence: Evidence) -> list[float]:
    """E6: reduction for the smallest k minus that for the largest."""
    found = _reductions(evidence)
    return (found[:, 0] - found[:, -1]).tolist()


def _reductions(evidence: Evidence) -> np.ndarray:
    """Relative reduction of the held-out reconstruction loss under MFR: `(seed, sae)`."""
    found = evidence.get("eeg")
    return -loss_change(found, treated_name(found), "baseline")


def _raw(evidence: Evidence) -> list[Mapping[str, Run]]:
    """Return the seeds whose runs measured distances on the weights as they are, as older ones did not."""
    if found := measured(evidence.get("eeg"), "distance_raw"):
        return found
    raise Untested(
        "Needs the raw weights, and these runs kept distances of unit rows only, which are pinned near √(2n): to be run again."
    )


def _distance_gain(evidence: Evidence, name: str) -> list[float]:
    """Mean over k of a distance from the smallest-k SAE, MFR minus baseline."""
    found = _raw(evidence)
    pairs = [
        (_distances(one, name), _distances(runs["baseline"], name))
        for one, runs in zip(treated(found), found, strict=True)
    ]
    return [float(after.mean() - before.mean()) for after, before in pairs]


def _distances(run: Run, name: str) -> np.ndarray:
    return np.array(run.results[name][1:])


def eeg_distance(evidence: Evidence) -> list[float]:
    """E2: L2 distance of the raw weights as printed, row by row."""
    return _distance_gain(evidence, "distance_raw")


def eeg_distance_matched(evidence: Evidence) -> list[float]:
    """E2 read otherwise (R20): the same distance after a one-to-one match of the rows, which have no order."""
    return _distance_gain(evidence, "distance_raw_matched")


def _slope(run: Run) -> float:
    """Slope in k of the L2 distance from the smallest-k SAE, per active feature."""
    return float(np.polyfit(run.config["k"][1:], _distances(run, "distance_raw"), 1)[0])


def eeg_distance_falls(evidence: Evidence) -> list[float]:
    """E2: how fast that distance falls with k under MFR."""
    return [-_slope(run) for run in treated(_raw(evidence))]


def eeg_distance_rises(evidence: Evidence) -> list[float]:
    """E2: how fast it rises with k in the baseline."""
    return [_slope(runs["baseline"]) for runs in _raw(evidence)]


def eeg_gain_below_lm(evidence: Evidence) -> list[float]:
    """E4t: reduction of the loss on the toy model minus that on EEG; seeds are paired by number only."""
    return _below(lm_loss_reduction(evidence), evidence)


def eeg_gain_below_smollm2(evidence: Evidence) -> list[float]:
    """E4: the same with SmolLM2 in the toy model's place."""
    return _below(smollm2_loss_reduction(evidence), evidence)


def _below(language_model: list[float], evidence: Evidence) -> list[float]:
    return [lm - eeg for lm, eeg in zip(language_model, eeg_loss_reduction(evidence), strict=False)]


def eeg_coherence_below_lm(evidence: Evidence) -> list[float]:
    """E4st: coherence of baseline dictionaries above that of random ones, on the toy model minus on EEG."""
    return _coherence_below(evidence.get("gpt2"), evidence)


def eeg_coherence_below_smollm2(evidence: Evidence) -> list[float]:
    """E4s: the same with SmolLM2 in the toy model's place."""
    return _coherence_below([one for one in evidence.get("gpt2-smollm2") if "penalty" in one], evidence)


def _coherence_below(language_model: Sequence[Mapping[str, Run]], evidence: Evidence) -> list[float]:
    def above(run: Run) -> float:
        if "coherence" not in run.results:
            raise Untested("The language model's runs were made before coherence was measured.")
        return mean(run, "coherence") - mean(run, "coherence_chance")

    pairs = zip(language_model, evidence.get("eeg"), strict=False)
    found = [above(lm["baseline"]) - above(eeg["baseline"]) for lm, eeg in pairs]
    if not found:
        raise Untested("The archive does not hold the language model's runs yet.")
    return found
