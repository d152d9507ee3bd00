"""S3, S4, Q14 and Q15: SAEs with and without an always-on feature, each SAE by itself, on the data as printed and as released."""

from collections.abc import Callable, Sequence

import numpy as np

from mfrbook.chapters.synthetic.questions import released
from mfrbook.chapters.synthetic.questions.always_on import has_one
from mfrbook.chapters.synthetic.questions.measures import explained_by_two
from mfrbook.chapters.synthetic.runs import ALIKE_ACROSS, UNLIKE_INPUT
from mfrbook.drawing.statistics import jackknife
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.store.runs import Run


def cluster_size_with(evidence: Evidence) -> list[float]:
    """S3-printed: features in the cluster of each baseline SAE that has an always-on feature; one value per SAE."""
    return _by_kind(_printed(evidence), True)


def cluster_size_without(evidence: Evidence) -> list[float]:
    """S3w-printed: the same of each one that has none."""
    return _by_kind(_printed(evidence), False)


def released_cluster_with(evidence: Evidence) -> list[float]:
    """S3: the same as `cluster_size_with` on the released data."""
    return _by_kind(_released(evidence), True)


def released_cluster_without(evidence: Evidence) -> list[float]:
    """S3w: the same as `cluster_size_without` on the released data."""
    return _by_kind(_released(evidence), False)


def cluster_pairs_with(evidence: Evidence) -> list[float]:
    """S3p: as `cluster_size_with` where features are paired one to one, across SAEs and with the input (R9c)."""
    return _by_kind(_printed(evidence), True, _in_pairs)


def cluster_pairs_without(evidence: Evidence) -> list[float]:
    """S3pw: as `cluster_size_without`, paired likewise."""
    return _by_kind(_printed(evidence), False, _in_pairs)


def _printed(evidence: Evidence) -> list[Run]:
    return [runs["baseline"] for runs in evidence.seeds]


def _released(evidence: Evidence, cell: str = "baseline") -> list[Run]:
    return [runs[cell] for runs in released.by_seed(evidence.get("released"))]


def _sizes(run: Run) -> list[float]:
    return [float(one) for one in run.results["cluster"]]


def _in_pairs(run: Run) -> list[float]:
    inside = (run.arrays["across"] > ALIKE_ACROSS) & (run.arrays["input"] < UNLIKE_INPUT)
    return [float(one) for one in inside.sum(1)]


def _by_kind(runs: Sequence[Run], always_on: bool, sizes: Callable[[Run], list[float]] = _sizes) -> list[float]:
    found = [size for run in runs for size, on in zip(sizes(run), has_one(run), strict=True) if on == always_on]
    if not found:
        raise Untested(f"No baseline SAE {'has an' if always_on else 'lacks an'} always-on feature.")
    return found


def cluster_two_sizes(evidence: Evidence) -> list[float]:
    """S4-printed: share of the variance of the cluster's size over baseline SAEs that two sizes explain, by jackknife over runs."""
    return _two_sizes(_printed(evidence))


def released_two_sizes(evidence: Evidence) -> list[float]:
    """S4: the same on the released data."""
    return _two_sizes(_released(evidence))


def _two_sizes(runs: Sequence[Run]) -> list[float]:
    sizes = np.array([_sizes(run) for run in runs])
    if len(sizes) < 3:
        raise Untested(f"A distribution over three runs or more is needed; there are {len(sizes)}.")
    return jackknife(lambda rows: explained_by_two(sizes[rows].ravel()), len(sizes)).tolist()


def released_always_on(evidence: Evidence) -> list[float]:
    """Q15a: whether each baseline SAE has an always-on feature, 1 or 0, on the released data; one value per SAE."""
    return _always_on(_released(evidence))


def released_always_on_reinit(evidence: Evidence) -> list[float]:
    """Q15ar: the same with re-initialisation alone."""
    return _always_on(_released(evidence, "reinit"))


def always_on_share(evidence: Evidence) -> list[float]:
    """Q14: whether each baseline SAE has an always-on feature, 1 or 0; one value per SAE."""
    return _always_on(_printed(evidence))


def _always_on(runs: Sequence[Run]) -> list[float]:
    return [float(on) for run in runs for on in has_one(run)]


def always_on_cluster(evidence: Evidence) -> list[float]:
    """Q14: cluster of baseline SAEs with an always-on feature minus that of those without, by jackknife over runs."""
    return _between_kinds(evidence, "cluster")


def always_on_similarity(evidence: Evidence) -> list[float]:
    """Q14: MMCS with true features of baseline SAEs without an always-on feature minus that of those with, by jackknife over runs."""
    return [-one for one in _between_kinds(evidence, "mmcs_input")]


def _between_kinds(evidence: Evidence, name: str) -> list[float]:
    runs = _printed(evidence)
    values, on = (np.array(one) for one in ([run.results[name] for run in runs], [has_one(run) for run in runs]))
    if len(runs) < 3 or any(np.delete(on, i, 0).all() or not np.delete(on, i, 0).any() for i in range(len(runs))):
        raise Untested("Needs three runs or more, and SAEs of both kinds among all but any one of them.")
    return jackknife(
        lambda rows: float(values[rows][on[rows]].mean() - values[rows][~on[rows]].mean()), len(runs)
    ).tolist()
