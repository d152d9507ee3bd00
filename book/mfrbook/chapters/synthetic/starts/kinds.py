"""S3, S4 and Q14: baseline SAEs with and without an always-on feature, each SAE by itself."""

import numpy as np

from mfrbook.chapters.synthetic.questions.always_on import has_one
from mfrbook.chapters.synthetic.questions.measures import explained_by_two
from mfrbook.drawing.statistics import jackknife
from mfrbook.experiments.evidence import Evidence, Untested


def cluster_size_with(evidence: Evidence) -> list[float]:
    """S3: features in the cluster of each baseline SAE that has an always-on feature; one value per SAE."""
    return _by_kind(evidence, True)


def cluster_size_without(evidence: Evidence) -> list[float]:
    """S3w: the same of each one that has none."""
    return _by_kind(evidence, False)


def _by_kind(evidence: Evidence, always_on: bool) -> list[float]:
    runs = [one["baseline"] for one in evidence.seeds]
    sizes = [
        float(size)
        for run in runs
        for size, on in zip(run.results["cluster"], has_one(run), strict=True)
        if on == always_on
    ]
    if not sizes:
        raise Untested(f"No baseline SAE {'has an' if always_on else 'lacks an'} always-on feature.")
    return sizes


def cluster_two_sizes(evidence: Evidence) -> list[float]:
    """S4: share of the variance of the cluster's size over baseline SAEs that two sizes explain, by jackknife over runs."""
    sizes = np.array([runs["baseline"].results["cluster"] for runs in evidence.seeds])
    if len(sizes) < 3:
        raise Untested(f"A distribution over three runs or more is needed; there are {len(sizes)}.")
    return jackknife(lambda rows: explained_by_two(sizes[rows].ravel()), len(sizes)).tolist()


def always_on_share(evidence: Evidence) -> list[float]:
    """Q14: whether each baseline SAE has an always-on feature, 1 or 0; one value per SAE."""
    return [float(on) for runs in evidence.seeds for on in has_one(runs["baseline"])]


def always_on_cluster(evidence: Evidence) -> list[float]:
    """Q14: cluster of baseline SAEs with an always-on feature minus that of those without, by jackknife over runs."""
    return _between_kinds(evidence, "cluster")


def always_on_similarity(evidence: Evidence) -> list[float]:
    """Q14: MMCS with true features of baseline SAEs without an always-on feature minus that of those with, by jackknife over runs."""
    return [-one for one in _between_kinds(evidence, "mmcs_input")]


def _between_kinds(evidence: Evidence, name: str) -> list[float]:
    runs = [one["baseline"] for one in evidence.seeds]
    values, on = (np.array(one) for one in ([run.results[name] for run in runs], [has_one(run) for run in runs]))
    if len(runs) < 3 or any(np.delete(on, i, 0).all() or not np.delete(on, i, 0).any() for i in range(len(runs))):
        raise Untested("Needs three runs or more, and SAEs of both kinds among all but any one of them.")
    return jackknife(
        lambda rows: float(values[rows][on[rows]].mean() - values[rows][~on[rows]].mean()), len(runs)
    ).tolist()
