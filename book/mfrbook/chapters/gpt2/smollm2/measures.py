"""Section 4.1 on SmolLM2: changes by k, paired by seed, and what they answer."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from mfrbook.drawing.statistics import deciding
from mfrbook.experiments.conditions import Seeds
from mfrbook.experiments.controls import ALWAYS, DENSE, early_and_late, ks_of
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.store.runs import Run


def by_k(run: Run, metric: str) -> dict[int, float]:
    """Return a metric for each k, the smallest first: the mean over the SAEs that have it.

    `dense` and `always_on` are numbers of features, active on more than a tenth or nine tenths of the held-out tokens.
    """
    least, ks = {"dense": DENSE, "always_on": ALWAYS}.get(metric), ks_of(run)
    values = run.results[metric] if least is None else (run.arrays["rate"] > least).sum(1).tolist()
    return {
        k: float(np.mean([value for value, own in zip(values, ks, strict=True) if own == k])) for k in sorted({*ks})
    }


def pairs(seeds: Seeds, name: str, against: str) -> list[tuple[Run, Run]]:
    """Return both runs of each seed that has both."""
    return [(one[name], one[against]) for one in seeds if name in one and against in one]


def changes(seeds: Seeds, name: str, against: str, metric: str = "loss") -> np.ndarray:
    """Return the relative change of a metric `(seed, k)` for the k that both have; of no seeds, `(0, 0)`."""
    found = []
    for run, other in pairs(seeds, name, against):
        after, before = by_k(run, metric), by_k(other, metric)
        found.append([after[k] / before[k] - 1 for k in after if k in before])
    return np.array(found) if found else np.empty((0, 0))


def _reductions(evidence: Evidence, name: str, against: str, metric: str = "loss") -> np.ndarray:
    found = -changes(evidence.get("gpt2-smollm2"), name, against, metric)
    if not len(found):
        raise Untested(f"The archive does not hold SmolLM2's runs of {name!r} and {against!r} yet.")
    return found


def _mean_reduction(evidence: Evidence, name: str, against: str, metric: str = "loss") -> list[float]:
    return _reductions(evidence, name, against, metric).mean(1).tolist()


def _fall_at_smallest_k(evidence: Evidence, name: str) -> list[float]:
    return _reductions(evidence, name, "baseline")[:, 0].tolist()


def _rise_at_largest_k(evidence: Evidence, name: str) -> list[float]:
    return (-_reductions(evidence, name, "baseline")[:, -1]).tolist()


def smollm2_loss_reduction(evidence: Evidence) -> list[float]:
    """G1m: relative reduction of the reconstruction loss, mean over k."""
    return _mean_reduction(evidence, "penalty", "baseline")


def smollm2_gain_by_k(evidence: Evidence) -> list[float]:
    """G6m: reduction for the smallest k minus that for the largest."""
    found = _reductions(evidence, "penalty", "baseline")
    return (found[:, 0] - found[:, -1]).tolist()


def smollm2_ce_increase(evidence: Evidence) -> list[float]:
    """G2mi: relative reduction of what inserted SAE outputs add to the model's own cross-entropy, mean over k."""
    _reductions(evidence, "penalty", "baseline", "ce")  # says so where there is none
    added = [
        [np.array(run.results["ce"]) - run.results["ce_unmodified"] for run in both]
        for both in pairs(evidence.get("gpt2-smollm2"), "penalty", "baseline")
    ]
    return [float((1 - after / before).mean()) for after, before in added]


def smollm2_ce_every_k(evidence: Evidence) -> list[float]:
    """G2mk: as G2m for the k that decides: all k gain if that one does; see `deciding`."""
    return deciding(_reductions(evidence, "penalty", "baseline", "ce"))


def smollm2_zero_ablated(evidence: Evidence) -> list[float]:
    """G3m: cross-entropy with the first MLP zero-ablated minus that of a uniform guess, nats; one value per sequence."""
    for runs in evidence.get("gpt2-smollm2"):
        return (runs["baseline"].arrays["ce_zero"] - runs["baseline"].results["ce_uniform"]).tolist()
    raise Untested("The archive does not hold SmolLM2's runs yet.")


def smollm2_gain_lost(evidence: Evidence) -> list[float]:
    """G1me: reduction of the training loss in the first fifth of training minus that in the last, mean over k."""
    _reductions(evidence, "penalty", "baseline")
    early, late = early_and_late([one for one in evidence.get("gpt2-smollm2") if "penalty" in one], "penalty")
    return (late - early).mean(1).tolist()


def smollm2_dense(evidence: Evidence) -> list[float]:
    """Q18m: dense features of an SAE with the penalty minus without, mean over k."""
    _reductions(evidence, "penalty", "baseline")
    found = pairs(evidence.get("gpt2-smollm2"), "penalty", "baseline")
    return [
        float(np.mean([*by_k(run, "dense").values()]) - np.mean([*by_k(one, "dense").values()])) for run, one in found
    ]


COMPARED: Mapping[str, tuple[str, str]] = {
    "smollm2_against_longer": ("penalty", "baseline, longer"),
    "smollm2_against_wider": ("penalty", "baseline, wider"),
    "smollm2_against_revival": ("penalty", "revival"),
    "smollm2_revival": ("revival", "baseline"),
    "smollm2_against_frozen": ("penalty", "frozen dictionary"),
    "smollm2_warm_start": ("warm start", "baseline"),
    "smollm2_against_warm_start": ("penalty", "warm start"),
    "smollm2_one_k": ("one k", "baseline"),
    "smollm2_reverse": ("reverse maximum", "baseline"),
    "smollm2_released_alpha": ("α as released", "baseline"),
    "smollm2_released": ("as released", "baseline"),
    "smollm2_centring": ("baseline, centred", "baseline"),
    "smollm2_against_centring": ("penalty", "baseline, centred"),
    "smollm2_centred": ("penalty, centred", "baseline, centred"),
    "smollm2_untrained": ("penalty, untrained block", "baseline, untrained block"),
    "smollm2_middle": ("penalty, middle layer", "baseline, middle layer"),
}
"""For each question the two rows: relative reduction of the loss by the first against the second, mean over k."""

MEASURES: Mapping[str, Callable[[Evidence], list[float]]] = {
    name: partial(_mean_reduction, name=row, against=other) for name, (row, other) in COMPARED.items()
} | {
    # G1ma and G1mz, relative fall of the loss for the smallest k and rise for the largest; G2m, mean fall of the cross-entropy.
    "smollm2_loss_smallest_k": partial(_fall_at_smallest_k, name="penalty"),
    "smollm2_loss_largest_k": partial(_rise_at_largest_k, name="penalty"),
    "smollm2_ce_reduction": partial(_mean_reduction, name="penalty", against="baseline", metric="ce"),
    "smollm2_released_smallest_k": partial(_fall_at_smallest_k, name="as released"),
    "smollm2_released_largest_k": partial(_rise_at_largest_k, name="as released"),
    "smollm2_released_ce": partial(_mean_reduction, name="as released", against="baseline", metric="ce"),
    "smollm2_reverse_largest_k": partial(_rise_at_largest_k, name="reverse maximum"),
}
