"""Q1: what answers the questions on groups of SAEs that were trained apart."""

import numpy as np

from mfrbook.chapters.synthetic.questions import tables as question_tables
from mfrbook.experiments.evidence import Evidence


def _groups(evidence: Evidence, metric: str, choice: str, against: str) -> list[float]:
    """Difference of two conditions of the groups, for each seed."""
    rows = {(row.condition, row.seed): row.run.results[metric] for row in evidence.get("groups")}
    seeds = sorted({seed for _, seed in rows})
    return [rows[choice, seed] - rows[against, seed] for seed in seeds]


def groups_between(evidence: Evidence) -> list[float]:
    """Q1: MMCS between independent groups, with the penalty minus without."""
    return _groups(evidence, "mmcs_between", "penalty", "baseline")


def groups_within(evidence: Evidence) -> list[float]:
    """Q1: MMCS within groups, with the penalty minus without."""
    return _groups(evidence, "mmcs_within", "penalty", "baseline")


def groups_hungarian(evidence: Evidence) -> list[float]:
    """Q1: MMCS between independent groups, with one-to-one matching in the penalty minus without a penalty."""
    return _groups(evidence, "mmcs_between", "penalty, Hungarian", "baseline")


def groups_sum(evidence: Evidence) -> list[float]:
    """Q1: MMCS between independent groups, with the penalty beside the sum over dimensions (R12) minus without a penalty."""
    return _groups(evidence, "mmcs_between", "penalty as printed", "baseline")


def groups_centring(evidence: Evidence) -> list[float]:
    """Q1: MMCS between independent groups on centred data minus on the data as they are, without a penalty."""
    return _groups(evidence, "mmcs_between", "centred data", "baseline")


def groups_input(evidence: Evidence) -> list[float]:
    """Q1: MMCS with the input features, the penalty minus a baseline of more compute."""
    return _groups(evidence, "mmcs_input", "penalty", "baseline, longer")


def _found_by_groups(evidence: Evidence, choice: str, name: str) -> np.ndarray:
    """Return what `mfrbook.chapters.synthetic.questions.tables.found_by_groups` gives for a condition, in the order of its seeds."""
    rows = [row for row in evidence.get("groups") if row.condition == choice]
    return np.array([question_tables.found_by_groups(row.run)[name] for row in sorted(rows, key=lambda row: row.seed)])


def groups_together(evidence: Evidence) -> list[float]:
    """Q1: what the SAEs of a group recover together, with the penalty minus without."""
    return (_found_by_groups(evidence, "penalty", "any") - _found_by_groups(evidence, "baseline", "any")).tolist()


def groups_together_hungarian(evidence: Evidence) -> list[float]:
    """Q1: the same with one-to-one matching in the penalty."""
    treated = _found_by_groups(evidence, "penalty, Hungarian", "any")
    return (treated - _found_by_groups(evidence, "baseline", "any")).tolist()


def _truer_between(evidence: Evidence, choice: str) -> list[float]:
    """Share of what groups share with each other that is the input's, minus that of what they share within themselves."""
    between, within = (_found_by_groups(evidence, choice, f"{where}_true") for where in ("between", "within"))
    return (between - within).tolist()


def groups_truer(evidence: Evidence) -> list[float]:
    """Q1: how much truer what independent groups share is than what one shares within itself, with the penalty."""
    return _truer_between(evidence, "penalty")


def groups_truer_hungarian(evidence: Evidence) -> list[float]:
    """Q1: the same with one-to-one matching in the penalty."""
    return _truer_between(evidence, "penalty, Hungarian")
