"""What answers the claims of the end-to-end paper, and whether MFR steadies its SAEs."""

import numpy as np
import pandas as pd

from mfrbook.chapters.end_to_end import pareto
from mfrbook.drawing.statistics import jackknife, pseudo_values
from mfrbook.experiments.evidence import Evidence, Untested, mean
from mfrbook.store.runs import Run


def _within_reach(gains: list[float]) -> list[float]:
    if not np.isfinite(gains).all():
        raise Untested("In some seeds no SAE lies within the reach of the local front.")
    return gains


def e2e_ce(evidence: Evidence) -> list[float]:
    """D1: rise of the CE on the local front minus that of end-to-end SAEs, at the same L0."""
    return _within_reach(pareto.ce_at_equal_l0(pareto.points(evidence.get("end-to-end")), "e2e"))


def e2e_narrow_ce(evidence: Evidence) -> list[float]:
    """D1, of SAEs of a quarter of the features."""
    return _within_reach(pareto.ce_at_equal_l0(pareto.points(evidence.get("end-to-end-narrow").seeds), "e2e"))


def e2e_downstream_ce(evidence: Evidence) -> list[float]:
    """D1 for end-to-end + downstream SAEs."""
    return _within_reach(pareto.ce_at_equal_l0(pareto.points(evidence.get("end-to-end")), "downstream"))


def e2e_alive(evidence: Evidence) -> list[float]:
    """D2: share by which fewer features are alive than on the local front, at the same rise of the CE."""
    return _within_reach(pareto.reduction_at_equal_ce(pareto.points(evidence.get("end-to-end")), "alive", "e2e"))


def e2e_l0(evidence: Evidence) -> list[float]:
    """D3: share by which fewer features are active at once than on the local front, at the same rise of the CE."""
    return _within_reach(pareto.reduction_at_equal_ce(pareto.points(evidence.get("end-to-end")), "L0", "e2e"))


def tuned_e2e_ce(evidence: Evidence) -> list[float]:
    """D1r: as D1, with learning rates chosen."""
    return _within_reach(pareto.ce_at_equal_l0(pareto.points(_archived(evidence, "end-to-end-tuned")), "e2e"))


def tuned_downstream_ce(evidence: Evidence) -> list[float]:
    """D1rd: as D1d, with learning rates chosen."""
    return _within_reach(pareto.ce_at_equal_l0(pareto.points(_archived(evidence, "end-to-end-tuned")), "downstream"))


def tuned_e2e_alive(evidence: Evidence) -> list[float]:
    """D2r: as D2, with learning rates chosen."""
    points = pareto.points(_archived(evidence, "end-to-end-tuned"))
    return _within_reach(pareto.reduction_at_equal_ce(points, "alive", "e2e"))


def tuned_e2e_l0(evidence: Evidence) -> list[float]:
    """D3r: as D3, with learning rates chosen."""
    points = pareto.points(_archived(evidence, "end-to-end-tuned"))
    return _within_reach(pareto.reduction_at_equal_ce(points, "L0", "e2e"))


def longer_e2e_ce(evidence: Evidence) -> list[float]:
    """D1t: as D1r, with more tokens."""
    return _within_reach(pareto.ce_at_equal_l0(pareto.points(_archived(evidence, "end-to-end-longer")), "e2e"))


def longer_downstream_ce(evidence: Evidence) -> list[float]:
    """D1td: as D1rd, with more tokens."""
    return _within_reach(pareto.ce_at_equal_l0(pareto.points(_archived(evidence, "end-to-end-longer")), "downstream"))


def longer_gain(evidence: Evidence) -> list[float]:
    """Q20: share of the local front's rise of the CE that end-to-end SAEs save at the same L0, with more tokens minus without, by seed."""
    longer = _archived(evidence, "end-to-end-longer")
    both = _archived(evidence, "end-to-end-tuned")[: len(longer)], longer
    before, after = (_within_reach(pareto.ce_at_equal_l0(pareto.points(one), "e2e", share=True)) for one in both)
    return [new - old for old, new in zip(before, after, strict=True)]


def _archived(evidence: Evidence, name: str) -> pareto.Seeds:
    if found := evidence.get(name):
        return found
    raise Untested("These runs are in the published archive alone.")


def real_e2e_ce(evidence: Evidence) -> list[float]:
    """D1m: as D1, on SmolLM2."""
    return _within_reach(pareto.ce_at_equal_l0(_real_points(evidence), "e2e"))


def real_downstream_ce(evidence: Evidence) -> list[float]:
    """D1md: as D1d, on SmolLM2."""
    return _within_reach(pareto.ce_at_equal_l0(_real_points(evidence), "downstream"))


def real_e2e_alive(evidence: Evidence) -> list[float]:
    """D2m: as D2, on SmolLM2."""
    return _within_reach(pareto.reduction_at_equal_ce(_real_points(evidence), "alive", "e2e"))


def real_e2e_l0(evidence: Evidence) -> list[float]:
    """D3m: as D3, on SmolLM2."""
    return _within_reach(pareto.reduction_at_equal_ce(_real_points(evidence), "L0", "e2e"))


def _real_points(evidence: Evidence) -> pd.DataFrame:
    if found := evidence.get("end-to-end-smollm2"):
        return pareto.points(found)
    raise Untested("The archive does not hold end-to-end SAEs on SmolLM2 yet.")


def _across(compared: Run, first: str, second: str) -> np.ndarray:
    """Return likeness above chance of SAEs of two conditions, for every pair of seeds."""
    found = compared.arrays[f"{first} {second}"]
    if len(found) < 3:
        raise Untested("Needs three seeds or more: each is compared with all others.")
    return found


def e2e_instability(evidence: Evidence) -> list[float]:
    """D5: likeness across seeds, local minus end-to-end."""
    return _instability(evidence.get("end-to-end-likeness").toy)


def real_e2e_instability(evidence: Evidence) -> list[float]:
    """D5m: the same on SmolLM2."""
    if found := evidence.get("end-to-end-likeness").real:
        return _instability(found)
    raise Untested("The archive does not hold two seeds of end-to-end SAEs on SmolLM2 yet.")


def e2e_narrow_instability(evidence: Evidence) -> list[float]:
    """D5, among SAEs of a quarter of the features."""
    return _instability(evidence.get("end-to-end-narrow").compared)


def _instability(compared: Run) -> list[float]:
    return pseudo_values(_across(compared, "local", "local") - _across(compared, "e2e", "e2e")).tolist()


def e2e_downstream_stability(evidence: Evidence) -> list[float]:
    """D5: likeness across seeds, end-to-end + downstream minus end-to-end."""
    compared = evidence.get("end-to-end-likeness").toy
    return pseudo_values(_across(compared, "downstream", "downstream") - _across(compared, "e2e", "e2e")).tolist()


def e2e_difference(evidence: Evidence) -> list[float]:
    """D5: likeness of end-to-end to local SAEs that equal features, found as unsurely, would have, minus that which they have.

    Were both kinds noisy finds of the same features, the likeness between them would be the geometric mean of those within
    them (correction for attenuation); instability alone does not lower it further.
    """
    compared = evidence.get("end-to-end-likeness").toy
    local, mine, cross = (_across(compared, *names) for names in (("local",) * 2, ("e2e",) * 2, ("e2e", "local")))

    def apart(seeds: np.ndarray) -> float:
        others = ~np.eye(len(seeds), dtype=bool)
        within, between, across = (one[np.ix_(seeds, seeds)][others].mean() for one in (local, mine, cross))
        return float(np.sqrt(max(within * between, 0)) - across)

    return jackknife(apart, len(local)).tolist()


def e2e_mfr_stability(evidence: Evidence) -> list[float]:
    """Q3: likeness across independent stacks, with MFR's penalty inside each minus without."""
    return _steadied(evidence.get("end-to-end-likeness").toy)


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
