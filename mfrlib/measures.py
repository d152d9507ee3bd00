"""What answers each claim: a function per measure, from runs to one number per seed, positive on the paper's side."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mfrlib import denoising_tables, pareto, question_measures
from mfrlib.evidence import Evidence, Untested
from mfrlib.experiments.gpt2_controls import loss_change
from mfrlib.runs import Run
from mfrlib.similarity import chance_level
from mfrlib.statistics import interval, pseudo_values

NEVER_REACHED = "Threshold never reached: re-initialisation changed nothing, so this is untested under this reading."


def _mfr(runs: Mapping[str, Run]) -> Run:
    return runs.get("mfr", runs["penalty"])


def _plain(runs: Mapping[str, Run]) -> Run:
    return runs.get("reinit", runs["baseline"])


def _mean(run: Run, name: str) -> float:
    return float(np.mean(run.results[name]))


def similarity_r(evidence: Evidence) -> list[float]:
    """S1: Pearson's r of similarity across SAEs and with input features, baseline, Hungarian."""
    return [runs["baseline"].results["r"] for runs in evidence.seeds]


def similarity_r_gain(evidence: Evidence) -> list[float]:
    """S2: r with re-initialisation minus r without."""
    pairs = [runs for runs in evidence.seeds if "reinit" in runs]
    if not pairs:
        raise Untested(NEVER_REACHED)
    return [runs["reinit"].results["r"] - runs["baseline"].results["r"] for runs in pairs]


def cluster_size(evidence: Evidence) -> list[float]:
    """S3: features in the cluster per baseline SAE."""
    return [_mean(runs["baseline"], "cluster") for runs in evidence.seeds]


def cluster_removed(evidence: Evidence) -> list[float]:
    """S5: baseline cluster minus MFR cluster, features per SAE."""
    return [_mean(runs["baseline"], "cluster") - _mean(_mfr(runs), "cluster") for runs in evidence.seeds]


def metric_choice(evidence: Evidence) -> list[float]:
    """S10: needs runs in which a metric triggers."""
    if not any("reinit" in runs for runs in evidence.seeds):
        raise Untested(NEVER_REACHED)
    raise Untested("Only the paper's own metric has been run at this size.")


def loss_reduction(evidence: Evidence) -> list[float]:
    """S7: relative reduction of the final reconstruction loss by the penalty, same re-initialisation."""
    return [1 - _mean(_mfr(runs), "loss") / _mean(_plain(runs), "loss") for runs in evidence.seeds]


def input_similarity_gain(evidence: Evidence) -> list[float]:
    """S8: MMCS with the input features, MFR minus without penalty."""
    return [_mean(_mfr(runs), "mmcs_input") - _mean(_plain(runs), "mmcs_input") for runs in evidence.seeds]


def recovered_gain(evidence: Evidence) -> list[float]:
    """S11: share of input features recovered, MFR minus baseline."""
    return [_mean(_mfr(runs), "recovered") - _mean(runs["baseline"], "recovered") for runs in evidence.seeds]


def eeg_loss_reduction(evidence: Evidence) -> list[float]:
    """E1: relative reduction of the held-out reconstruction loss, mean over k."""
    return [
        float(np.mean(1 - np.array(_mfr(runs).results["loss"]) / runs["baseline"].results["loss"]))
        for runs in evidence.get("eeg")
    ]


def _distance_gain(evidence: Evidence, name: str) -> list[float]:
    """Mean over k of a distance from the smallest-k SAE, MFR minus baseline."""

    def mean(run: Run) -> float:
        return float(np.mean(run.results[name][1:]))

    return [mean(_mfr(runs)) - mean(runs["baseline"]) for runs in evidence.get("eeg")]


def eeg_distance(evidence: Evidence) -> list[float]:
    """E2: L2 distance as printed, row by row."""
    return _distance_gain(evidence, "distance")


def eeg_distance_matched(evidence: Evidence) -> list[float]:
    """E2 read otherwise (R20): the same distance after a one-to-one match of the rows, which have no order."""
    return _distance_gain(evidence, "distance_matched")


def _slope(run: Run) -> float:
    """Slope in k of the L2 distance from the smallest-k SAE, per active feature."""
    return float(np.polyfit(run.config["k"][1:], run.results["distance"][1:], 1)[0])


def eeg_distance_falls(evidence: Evidence) -> list[float]:
    """E2: how fast that distance falls with k under MFR."""
    return [-_slope(_mfr(runs)) for runs in evidence.get("eeg")]


def eeg_distance_rises(evidence: Evidence) -> list[float]:
    """E2: how fast it rises with k in the baseline."""
    return [_slope(runs["baseline"]) for runs in evidence.get("eeg")]


def eeg_gain_below_lm(evidence: Evidence) -> list[float]:
    """E4: reduction of the loss on the language model at hand minus that on EEG; seeds are paired by number only."""
    pairs = zip(lm_loss_reduction(evidence), eeg_loss_reduction(evidence), strict=False)
    return [lm - eeg for lm, eeg in pairs]


def eeg_coherence_below_lm(evidence: Evidence) -> list[float]:
    """E4: coherence of baseline dictionaries above that of random ones, on the language model minus on EEG."""

    def above(run: Run) -> float:
        if "coherence" not in run.results:
            raise Untested("The language model's runs were made before coherence was measured.")
        return _mean(run, "coherence") - _mean(run, "coherence_chance")

    pairs = zip(evidence.get("gpt2"), evidence.get("eeg"), strict=False)
    return [above(lm["baseline"]) - above(eeg["baseline"]) for lm, eeg in pairs]


def _reductions(evidence: Evidence, metric: str) -> np.ndarray:
    """Relative reduction of a held-out metric under MFR on a language model's activations: `(seed, sae)`."""
    pairs = [(_mfr(runs).results[metric], runs["baseline"].results[metric]) for runs in evidence.get("gpt2")]
    return np.array([1 - np.array(after) / before for after, before in pairs])


def lm_loss_reduction(evidence: Evidence) -> list[float]:
    """G1s: relative reduction of the reconstruction loss, mean over k."""
    return _reductions(evidence, "loss").mean(1).tolist()


def lm_loss_smallest_k(evidence: Evidence) -> list[float]:
    """G1a: the same for the smallest k."""
    return _reductions(evidence, "loss")[:, 0].tolist()


def lm_loss_largest_k(evidence: Evidence) -> list[float]:
    """G1z: relative rise of the reconstruction loss for the largest k."""
    return (-_reductions(evidence, "loss")[:, -1]).tolist()


def lm_gain_by_k(evidence: Evidence) -> list[float]:
    """G6s: reduction for the smallest k minus that for the largest."""
    found = _reductions(evidence, "loss")
    return (found[:, 0] - found[:, -1]).tolist()


def lm_ce_reduction(evidence: Evidence) -> list[float]:
    """G2s: relative reduction of the cross-entropy with SAE outputs inserted, mean over k."""
    return _reductions(evidence, "ce").mean(1).tolist()


def lm_ce_every_k(evidence: Evidence) -> list[float]:
    """G2k: the same for the k whose interval reaches down farthest: all k gain if this one does (intersection-union)."""
    found = _reductions(evidence, "ce")
    return found[:, int(np.argmin(interval(found)[1]))].tolist()


def lm_zero_ablated(evidence: Evidence) -> list[float]:
    """G3s: cross-entropy with the first MLP zero-ablated minus that of a uniform guess, nats; one value per sequence."""
    run = evidence.get("gpt2")[0]["baseline"]
    return (run.arrays["ce_zero"] - run.results["ce_uniform"]).tolist()


def _control_reduction(evidence: Evidence, name: str, against: str) -> list[float]:
    """Relative reduction of the reconstruction loss from one control to another, mean over k."""
    return (-loss_change(evidence.get("gpt2_controls"), name, against).mean(1)).tolist()


def control_warmup_apart(evidence: Evidence) -> list[float]:
    """G5w: 1 − MMCS at the end of the warm-up, with it minus without, large α."""

    def early(run: Run, step: int) -> float:
        steps, values = run.series("penalty")
        return float(values[np.searchsorted(steps, step)])

    found = evidence.get("gpt2_controls")
    step = found[0]["large α"].config["warmup"]
    return [early(runs["large α"], step) - early(runs["large α, no warm-up"], step) for runs in found]


def control_warmup_loss(evidence: Evidence) -> list[float]:
    """G5l: relative reduction of the loss by the warm-up, large α."""
    return _control_reduction(evidence, "large α", "large α, no warm-up")


def control_large_alpha(evidence: Evidence) -> list[float]:
    """G5a: relative reduction of the loss by a large α with warm-up, against the baseline."""
    return _control_reduction(evidence, "large α", "baseline")


def control_untrained(evidence: Evidence) -> list[float]:
    """G1u: relative reduction of the loss by the penalty on an untrained block (R14)."""
    return _control_reduction(evidence, "penalty, untrained block", "baseline, untrained block")


def control_longer(evidence: Evidence) -> list[float]:
    """G1t: relative reduction of the loss by the penalty, against a baseline of the same compute in more steps."""
    return _control_reduction(evidence, "penalty", "baseline, longer")


def control_wider(evidence: Evidence) -> list[float]:
    """G1f: the same against a baseline of the same compute in more features."""
    return _control_reduction(evidence, "penalty", "baseline, wider")


def _within_reach(gains: list[float]) -> list[float]:
    if not np.isfinite(gains).all():
        raise Untested("In some seeds no SAE lies within the reach of the local front.")
    return gains


def e2e_ce(evidence: Evidence) -> list[float]:
    """D1: rise of the CE on the local front minus that of end-to-end SAEs, at the same L0."""
    return _within_reach(pareto.ce_at_equal_l0(pareto.points(evidence.get("end_to_end")), "e2e"))


def e2e_downstream_ce(evidence: Evidence) -> list[float]:
    """D1 for end-to-end + downstream SAEs."""
    return _within_reach(pareto.ce_at_equal_l0(pareto.points(evidence.get("end_to_end")), "downstream"))


def e2e_alive(evidence: Evidence) -> list[float]:
    """D2: share by which fewer features are alive than on the local front, at the same rise of the CE."""
    return _within_reach(pareto.reduction_at_equal_ce(pareto.points(evidence.get("end_to_end")), "alive", "e2e"))


def e2e_l0(evidence: Evidence) -> list[float]:
    """D3: share by which fewer features are active at once than on the local front, at the same rise of the CE."""
    return _within_reach(pareto.reduction_at_equal_ce(pareto.points(evidence.get("end_to_end")), "L0", "e2e"))


def _across(evidence: Evidence, first: str, second: str) -> np.ndarray:
    """Return likeness above chance of SAEs of two conditions, for every pair of seeds."""
    found = evidence.get("end_to_end_likeness").arrays[f"{first} {second}"]
    if len(found) < 3:
        raise Untested("Needs three seeds or more: each is compared with all others.")
    return found


def e2e_instability(evidence: Evidence) -> list[float]:
    """D5: likeness across seeds, local minus end-to-end."""
    return pseudo_values(_across(evidence, "local", "local") - _across(evidence, "e2e", "e2e")).tolist()


def e2e_downstream_stability(evidence: Evidence) -> list[float]:
    """D5: likeness across seeds, end-to-end + downstream minus end-to-end."""
    return pseudo_values(_across(evidence, "downstream", "downstream") - _across(evidence, "e2e", "e2e")).tolist()


def e2e_difference(evidence: Evidence) -> list[float]:
    """D5: likeness of local SAEs to each other minus that to end-to-end SAEs, across seeds."""
    return pseudo_values(_across(evidence, "local", "local") - _across(evidence, "e2e", "local")).tolist()


def e2e_mfr_stability(evidence: Evidence) -> list[float]:
    """Q3: likeness across independent stacks, with MFR's penalty inside each minus without."""
    return pseudo_values(_across(evidence, "e2e-mfr", "e2e-mfr") - _across(evidence, "e2e", "e2e")).tolist()


def e2e_mfr_cost(evidence: Evidence) -> list[float]:
    """Q3: rise of the CE with the penalty minus without, same λ, mean over the stack."""
    return [
        _mean(runs["e2e-mfr"], "ce_increase") - _mean(runs["e2e"], "ce_increase") for runs in evidence.get("end_to_end")
    ]


def _correlated(evidence: Evidence, methods: Sequence[str]) -> list[float]:
    found = denoising_tables.correlation(denoising_tables.single_saes(evidence.get("denoising")), methods)
    if not np.isfinite(found).all():
        raise Untested("Needs three SAEs or more a seed, whose losses differ.")
    return found


def denoise_loss_r(evidence: Evidence) -> list[float]:
    """Q6: Pearson's r of reconstruction loss and error of denoising over SAEs that learnt reconstruction, all k."""
    return _correlated(evidence, denoising_tables.SAES[2:])


def denoise_loss_r_all(evidence: Evidence) -> list[float]:
    """Q6: the same over all SAEs, those taught noisy to clean with them."""
    return _correlated(evidence, denoising_tables.SAES)


def _denoised(evidence: Evidence, method: str, measure: str, kind: str | None = None) -> np.ndarray:
    return denoising_tables.mean_of(denoising_tables.measures(evidence.get("denoising")), method, measure, kind)


def denoise_mfr(evidence: Evidence) -> list[float]:
    """Q6: relative reduction of the error of denoising by MFR, SAEs taught noisy to clean."""
    treated, plain = (_denoised(evidence, name, "rrmse_t") for name in ("denoising-mfr", "denoising"))
    return (1 - treated / plain).tolist()


def denoise_gain(evidence: Evidence) -> list[float]:
    """Q6: gain in SNR over doing nothing, SAEs taught noisy to clean, dB."""
    return _denoised(evidence, "denoising", "snr_gain").tolist()


def denoise_gain_reconstruction(evidence: Evidence) -> list[float]:
    """Q6: the same for SAEs that learnt reconstruction, as the paper's."""
    return _denoised(evidence, "reconstruction", "snr_gain").tolist()


def denoise_ica(evidence: Evidence) -> list[float]:
    """Q6: gain in SNR on eye movements, SAEs taught noisy to clean minus ICA, dB."""
    saes, ica = (_denoised(evidence, name, "snr_gain", "eye") for name in ("denoising", "ica"))
    if len(saes) != len(ica):
        raise Untested("Needs runs with eye movements.")
    return (saes - ica).tolist()


def chance_mmcs(evidence: Evidence) -> list[float]:
    """Q2: MMCS of two random dictionaries of the synthetic section's size."""
    config = evidence.seeds[0]["baseline"].config
    return [
        chance_level(config["n_features"], config["n_features"], config["d_in"], n_draws=1, seed=i) for i in range(5)
    ]


def coherence_rise(evidence: Evidence) -> list[float]:
    """Q7: within-SAE coherence, penalty minus baseline."""
    return [_mean(runs["penalty"], "coherence") - _mean(runs["baseline"], "coherence") for runs in evidence.seeds]


def crowding(evidence: Evidence) -> list[float]:
    """Q8: share of distinct best matches of SAE 1 in SAE 2, baseline minus penalty."""
    return [
        runs["baseline"].results["unique_across"][0] - runs["penalty"].results["unique_across"][0]
        for runs in evidence.seeds
    ]


MEASURES: Mapping[str, Callable[[Evidence], list[float]]] = question_measures.MEASURES | {
    one.__name__: one
    for one in (
        similarity_r, similarity_r_gain, cluster_size, cluster_removed, metric_choice,
        loss_reduction, input_similarity_gain, recovered_gain, eeg_loss_reduction, eeg_distance, eeg_distance_matched, eeg_distance_falls, eeg_distance_rises,
        eeg_gain_below_lm, eeg_coherence_below_lm,
        lm_loss_reduction, lm_loss_smallest_k, lm_loss_largest_k, lm_gain_by_k, lm_ce_reduction, lm_ce_every_k, lm_zero_ablated,
        control_warmup_apart, control_warmup_loss, control_large_alpha, control_untrained, control_longer, control_wider,
        e2e_ce, e2e_downstream_ce, e2e_alive, e2e_l0, e2e_instability, e2e_downstream_stability, e2e_difference,
        e2e_mfr_stability, e2e_mfr_cost, denoise_loss_r, denoise_loss_r_all, denoise_mfr, denoise_gain,
        denoise_gain_reconstruction, denoise_ica, chance_mmcs, coherence_rise, crowding,
    )
}  # fmt: skip
