"""Section 4.1: what answers the claims on a language model's activations, and their controls."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from mfrbook.drawing.statistics import deciding
from mfrbook.experiments.conditions import treated, treated_name
from mfrbook.experiments.controls import dense_correlation, early_and_late, loss_change
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.store.runs import Run


def _reductions(evidence: Evidence, metric: str) -> np.ndarray:
    """Relative reduction of a held-out metric under MFR on a language model's activations: `(seed, sae)`."""
    found = evidence.get("gpt2")
    return -loss_change(found, treated_name(found), "baseline", metric)


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


def lm_gain_lost(evidence: Evidence) -> list[float]:
    """G1e: reduction of the training loss in the first fifth of training minus that in the last, mean over k."""
    found = evidence.get("gpt2")
    early, late = early_and_late(found, treated_name(found))
    return (late - early).mean(1).tolist()


def lm_ce_reduction(evidence: Evidence) -> list[float]:
    """G2s: relative reduction of the cross-entropy with SAE outputs inserted, mean over k."""
    return _reductions(evidence, "ce").mean(1).tolist()


def lm_ce_increase(evidence: Evidence) -> list[float]:
    """G2i: relative reduction of what inserted SAE outputs add to the model's own cross-entropy, mean over k."""

    def added(run: Run) -> np.ndarray:
        return np.array(run.results["ce"]) - run.results["ce_unmodified"]

    found = evidence.get("gpt2")
    pairs = zip(treated(found), found, strict=True)
    return [float((1 - added(one) / added(runs["baseline"])).mean()) for one, runs in pairs]


def lm_ce_every_k(evidence: Evidence) -> list[float]:
    """G2k: the same for the k that decides: all k gain if that one does; see `deciding`."""
    return deciding(_reductions(evidence, "ce"))


def lm_zero_ablated(evidence: Evidence) -> list[float]:
    """G3s: cross-entropy with the first MLP zero-ablated minus that of a uniform guess, nats; one value per sequence."""
    run = evidence.get("gpt2")[0]["baseline"]
    return (run.arrays["ce_zero"] - run.results["ce_uniform"]).tolist()


def lm_dense(evidence: Evidence) -> list[float]:
    """Q18: Pearson's r over k of the loss's relative change under MFR and the number of dense features it takes away."""
    return dense_correlation(evidence.get("gpt2"))


def _control_reduction(evidence: Evidence, name: str, against: str) -> list[float]:
    """Relative reduction of the reconstruction loss from one control to another, mean over k."""
    return (-loss_change(evidence.get("gpt2-controls"), name, against).mean(1)).tolist()


def warmup_apart(evidence: Evidence) -> list[float]:
    """G5w: 1 − MMCS during the warm-up, with it minus without, large α: mean over its recorded steps after the first."""
    return _apart(evidence, "large α", "large α, no warm-up")


def warmup_apart_calibrated(evidence: Evidence) -> list[float]:
    """G5c: the same at the calibrated α."""
    return _apart(evidence, "penalty", "no warm-up")


def _apart(evidence: Evidence, name: str, against: str) -> list[float]:
    found = evidence.get("gpt2-warm-up")
    end = found[0][name].config["warmup"]

    def early(run: Run) -> float:
        steps, values = run.series("penalty")
        during = (steps > 0) & (steps < end)
        if during.sum() < 3:
            raise Untested("Fewer than three steps of the warm-up were recorded.")
        return float(values[during].mean())

    return [early(runs[name]) - early(runs[against]) for runs in found]


def control_warmup_loss(evidence: Evidence) -> list[float]:
    """G5l: relative reduction of the loss by the warm-up, large α."""
    return _control_reduction(evidence, "large α", "large α, no warm-up")


def control_large_alpha(evidence: Evidence) -> list[float]:
    """G5a: relative reduction of the loss by a large α with warm-up, against the baseline."""
    return _control_reduction(evidence, "large α", "baseline")


def control_larger_alpha(evidence: Evidence) -> list[float]:
    """G5b: relative reduction of the loss by a large α with warm-up, against the calibrated α with it."""
    return _control_reduction(evidence, "large α", "penalty")


def control_untrained(evidence: Evidence) -> list[float]:
    """G1u: relative reduction of the loss by the penalty on an untrained block (R14)."""
    return _control_reduction(evidence, "penalty, untrained block", "baseline, untrained block")


def control_penalty(evidence: Evidence) -> list[float]:
    """G1p: relative reduction of the loss by the penalty, at the controls' number of features."""
    return _control_reduction(evidence, "penalty", "baseline")


def control_longer(evidence: Evidence) -> list[float]:
    """G1t: relative reduction of the loss by the penalty, against a baseline of the same compute in more steps."""
    return _control_reduction(evidence, "penalty", "baseline, longer")


def control_wider(evidence: Evidence) -> list[float]:
    """G1f: the same against a baseline of the same compute in more features."""
    return _control_reduction(evidence, "penalty", "baseline, wider")


def _released_reduction(evidence: Evidence, name: str, against: str) -> list[float]:
    if found := evidence.get("gpt2-released"):
        return (-loss_change(found, name, against).mean(1)).tolist()
    raise Untested("These runs are in the published archive alone.")


MEASURES: Mapping[str, Callable[[Evidence], list[float]]] = {
    "toy_reverse": partial(_released_reduction, name="reverse maximum", against="baseline"),
    "toy_released": partial(_released_reduction, name="as released", against="baseline"),
    "toy_centring": partial(_released_reduction, name="baseline, centred", against="baseline"),
    "toy_centred": partial(_released_reduction, name="penalty, centred", against="baseline, centred"),
}
"""G1sr, G1sa, Q9mt, G1sc: relative reduction of the loss on the toy model as the authors ran it and on centred activations, mean over k."""
