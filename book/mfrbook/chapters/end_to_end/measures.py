"""What answers the claims of the end-to-end paper, and whether MFR steadies its SAEs."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from mfrbook.chapters.end_to_end import looking, pareto
from mfrbook.drawing.statistics import jackknife, pseudo_values
from mfrbook.experiments.evidence import Evidence, Untested, mean
from mfrbook.store.runs import Run


def _within_reach(gains: list[float]) -> list[float]:
    if not np.isfinite(gains).all():
        raise Untested("In some seeds no SAE lies within the reach of the local front.")
    return gains


def _gain(evidence: Evidence, plan: str, treated: str, of: str = "CE") -> list[float]:
    """Return what SAEs gain over the local front: less rise of the CE at the same L0, or fewer of `of` (L0, alive) at the same rise."""
    points = pareto.points(_seeds(evidence, plan))
    gains = pareto.ce_at_equal_l0(points, treated) if of == "CE" else pareto.reduction_at_equal_ce(points, of, treated)
    return _within_reach(gains)


def _seeds(evidence: Evidence, plan: str) -> pareto.Seeds:
    found = evidence.get(plan)
    if seeds := getattr(found, "seeds", found):  # the narrow runs come with their comparison
        return seeds
    raise Untested("These runs are in the published archive alone.")


MEASURES: Mapping[str, Callable[[Evidence], list[float]]] = {
    "e2e_ce": partial(_gain, plan="end-to-end", treated="e2e"),
    "e2e_downstream_ce": partial(_gain, plan="end-to-end", treated="downstream"),
    "e2e_alive": partial(_gain, plan="end-to-end", treated="e2e", of="alive"),
    "e2e_l0": partial(_gain, plan="end-to-end", treated="e2e", of="L0"),
    "e2e_narrow_ce": partial(_gain, plan="end-to-end-narrow", treated="e2e"),
    "tuned_e2e_ce": partial(_gain, plan="end-to-end-tuned", treated="e2e"),
    "tuned_downstream_ce": partial(_gain, plan="end-to-end-tuned", treated="downstream"),
    "tuned_e2e_alive": partial(_gain, plan="end-to-end-tuned", treated="e2e", of="alive"),
    "tuned_e2e_l0": partial(_gain, plan="end-to-end-tuned", treated="e2e", of="L0"),
    "longer_e2e_ce": partial(_gain, plan="end-to-end-longer", treated="e2e"),
    "longer_e2e_l0": partial(_gain, plan="end-to-end-longer", treated="e2e", of="L0"),
    "longer_e2e_alive": partial(_gain, plan="end-to-end-longer", treated="e2e", of="alive"),
    "longer_downstream_ce": partial(_gain, plan="end-to-end-longer", treated="downstream"),
    "real_e2e_ce": partial(_gain, plan="end-to-end-smollm2", treated="e2e"),
    "real_downstream_ce": partial(_gain, plan="end-to-end-smollm2", treated="downstream"),
    "real_e2e_alive": partial(_gain, plan="end-to-end-smollm2", treated="e2e", of="alive"),
    "real_e2e_l0": partial(_gain, plan="end-to-end-smollm2", treated="e2e", of="L0"),
}
"""D1 (CE), D2 (alive) and D3 (L0): on the chapter's runs, with fewer features, at rates chosen, with more tokens, and on SmolLM2."""


def longer_gain(evidence: Evidence) -> list[float]:
    """Q20: share of the local front's rise of the CE that end-to-end SAEs save at the same L0, with more tokens minus without, by seed."""
    longer = _seeds(evidence, "end-to-end-longer")
    both = _seeds(evidence, "end-to-end-tuned")[: len(longer)], longer
    before, after = (_within_reach(pareto.ce_at_equal_l0(pareto.points(one), "e2e", share=True)) for one in both)
    return [new - old for old, new in zip(before, after, strict=True)]


def _across(compared: Run, first: str, second: str) -> np.ndarray:
    """Return likeness above chance of SAEs of two conditions, for every pair of seeds."""
    found = compared.arrays[f"{first} {second}"]
    if len(found) < 3:
        raise Untested("Needs three seeds or more: each is compared with all others.")
    return found


def e2e_instability(evidence: Evidence) -> list[float]:
    """D5: likeness across seeds, local minus end-to-end."""
    return _instability(evidence.get("end-to-end-likeness").own)


def real_e2e_instability(evidence: Evidence) -> list[float]:
    """D5m: the same on SmolLM2."""
    return _instability(_other(evidence, "smollm2"))


def real_token_auc(evidence: Evidence) -> list[float]:
    """Q21: median over features of how well a token alone predicts them, end-to-end minus local, at equal L0 on SmolLM2."""
    compared, seeds = _other(evidence, "equal"), _seeds(evidence, "end-to-end-equal")
    both = (looking.known(compared, name, seeds) for name in ("e2e", "local"))
    return [float(np.median(mine) - np.median(local)) for mine, local in zip(*both, strict=True)]


def e2e_narrow_instability(evidence: Evidence) -> list[float]:
    """D5, among SAEs of a quarter of the features."""
    return _instability(evidence.get("end-to-end-narrow").compared)


def tuned_e2e_instability(evidence: Evidence) -> list[float]:
    """D5r: the same at learning rates that suit each objective."""
    return _instability(_other(evidence, "tuned"))


def longer_e2e_instability(evidence: Evidence) -> list[float]:
    """D5t: the same with four times the tokens, at rates chosen for that length."""
    return _instability(_other(evidence, "longer"))


def _other(evidence: Evidence, name: str) -> Run:
    found: Mapping[str, Run] = evidence.get("end-to-end-likeness").others
    if name not in found:
        raise Untested("These runs are in the published archive alone.")
    return found[name]


def _instability(compared: Run) -> list[float]:
    return pseudo_values(_across(compared, "local", "local") - _across(compared, "e2e", "e2e")).tolist()


def e2e_downstream_stability(evidence: Evidence) -> list[float]:
    """D5: likeness across seeds, end-to-end + downstream minus end-to-end."""
    compared = evidence.get("end-to-end-likeness").own
    return pseudo_values(_across(compared, "downstream", "downstream") - _across(compared, "e2e", "e2e")).tolist()


def e2e_difference(evidence: Evidence) -> list[float]:
    """D5: likeness of end-to-end to local SAEs that equal features, found as unsurely, would have, minus that which they have.

    Were both kinds noisy finds of the same features, the likeness between them would be the geometric mean of those within
    them (correction for attenuation); instability alone does not lower it further.
    """
    compared = evidence.get("end-to-end-likeness").own
    local, mine, cross = (_across(compared, *names) for names in (("local",) * 2, ("e2e",) * 2, ("e2e", "local")))

    def apart(seeds: np.ndarray) -> float:
        others = ~np.eye(len(seeds), dtype=bool)
        within, between, across = (one[np.ix_(seeds, seeds)][others].mean() for one in (local, mine, cross))
        return float(np.sqrt(max(within * between, 0)) - across)

    return jackknife(apart, len(local)).tolist()


def e2e_mfr_stability(evidence: Evidence) -> list[float]:
    """Q3: likeness across independent stacks, with MFR's penalty inside each minus without."""
    return _steadied(evidence.get("end-to-end-likeness").own)


def e2e_narrow_mfr_stability(evidence: Evidence) -> list[float]:
    """Q3n: the same with a quarter of the features."""
    return _steadied(evidence.get("end-to-end-narrow").compared)


def e2e_narrow_mfr_gap(evidence: Evidence) -> list[float]:
    """Q3ng: likeness across seeds of local SAEs minus that of end-to-end ones with MFR's penalty, with a quarter of the features."""
    compared = evidence.get("end-to-end-narrow").compared
    return pseudo_values(_across(compared, "local", "local") - _across(compared, "e2e-mfr", "e2e-mfr")).tolist()


def _steadied(compared: Run) -> list[float]:
    return pseudo_values(_across(compared, "e2e-mfr", "e2e-mfr") - _across(compared, "e2e", "e2e")).tolist()


def e2e_mfr_cost(evidence: Evidence) -> list[float]:
    """Q3c: rise of the CE with the penalty minus without, same λ, mean over the stack."""
    return _cost(evidence.get("end-to-end"))


def e2e_narrow_mfr_cost(evidence: Evidence) -> list[float]:
    """Q3nc: the same with a quarter of the features."""
    return _cost(evidence.get("end-to-end-narrow").seeds)


def _cost(seeds: pareto.Seeds) -> list[float]:
    return [mean(runs["e2e-mfr"], "ce_increase") - mean(runs["e2e"], "ce_increase") for runs in seeds]
