"""S6, S10 and Q14: how well each metric, at each step of many starts, tells how they will end: with a large cluster, an always-on feature."""

from collections.abc import Callable

import numpy as np

from mfrbook.chapters.synthetic.questions.always_on import auc
from mfrbook.chapters.synthetic.starts.runs import METRICS, Row
from mfrbook.drawing.statistics import jackknife
from mfrbook.experiments.controls import ALWAYS
from mfrbook.experiments.evidence import Evidence, Untested

OF_THE_PAPER = METRICS[:2]  # the statistic's readings after TopK, as the paper limits its claim (R10)
FROM, TO = 100, 200  # steps: about where the paper sees it


def always_on(rows: list[Row]) -> np.ndarray:
    """Return which starts of all stacks end with an always-on feature, `(start,)`."""
    return joined(rows)[0] > ALWAYS


def large_cluster(rows: list[Row]) -> np.ndarray:
    """Return which starts of all stacks end with a cluster larger than half of them have, `(start,)`."""
    sizes = np.concatenate([row.run.results["cluster"] for row in rows])
    return sizes > np.median(sizes)


def telling(
    rows: list[Row],
    metrics: slice = slice(None),
    steps: slice = slice(None),
    ends: Callable[[list[Row]], np.ndarray] = always_on,
) -> np.ndarray:
    """Return the AUC `(metric, step)` with which each metric tells the starts that end in one way from the others: 0.5 is chance."""
    on, (_, statistics) = ends(rows), joined(rows)
    if on.all() or not on.any():
        raise Untested("All starts end alike: there is nothing to tell.")
    return np.stack([auc(at[:, on], at[:, ~on]) for at in statistics[metrics, steps]])


def joined(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest rate at the end, `(start,)`, and the statistics `(metric, step, start)` of all stacks."""
    final = np.concatenate([row.run.results["largest_rate"] for row in rows])
    return final, np.concatenate([row.run.arrays["statistics"].astype(np.float32) for row in rows], axis=2)


def _rows(evidence: Evidence, data: str) -> list[Row]:
    found = [row for row in evidence.get("starts") if row.data == data]
    if any(row.run.arrays["statistics"].shape[1] <= FROM for row in found):
        raise Untested(f"These starts were followed for no more than {FROM} steps.")
    return found


def _apart(rows: list[Row], ends: Callable[[list[Row]], np.ndarray]) -> list[float]:
    """Jackknife over stacks of by how much the cube tells better than the printed power (AUC, mean over steps)."""

    def apart(chosen: np.ndarray) -> float:
        printed, cube = telling([rows[i] for i in chosen], slice(len(OF_THE_PAPER)), slice(FROM, TO), ends).mean(1)
        return float(cube - printed)

    return jackknife(apart, len(rows)).tolist()


def _tells(rows: list[Row], metric: str) -> list[float]:
    """Jackknife over stacks of the AUC of a metric at step 100, above chance."""
    place = METRICS.index(metric)
    where = slice(place, place + 1), slice(FROM, FROM + 1)
    return jackknife(lambda chosen: telling([rows[i] for i in chosen], *where).item() - 0.5, len(rows)).tolist()


def starts_metric_released(evidence: Evidence) -> list[float]:
    """S10: by how much the cube tells the larger clusters better than the printed power (AUC), released data."""
    return _apart(_rows(evidence, "as-released"), large_cluster)


def starts_metric_printed(evidence: Evidence) -> list[float]:
    """S10: the same on the data as printed."""
    return _apart(_rows(evidence, "as-printed"), large_cluster)


def starts_metric_kind(evidence: Evidence) -> list[float]:
    """S10a: the same of which starts end with an always-on feature, released data."""
    return _apart(_rows(evidence, "as-released"), always_on)


def starts_early_cube(evidence: Evidence) -> list[float]:
    """Q14e: AUC of the released code's cube at step 100 above chance, released data."""
    return _tells(_rows(evidence, "as-released"), "rates, cube")


def starts_early_printed(evidence: Evidence) -> list[float]:
    """Q14f: AUC of the printed power at step 100 above chance, data as printed."""
    return _tells(_rows(evidence, "as-printed"), "rates, power 1")


def starts_early_cluster(evidence: Evidence) -> list[float]:
    """S6: Fisher's z of the correlation of the released code's cube at step 100 and the cluster at the end, released data."""
    return _foretells(_rows(evidence, "as-released"), "rates, cube")


def starts_early_cluster_printed(evidence: Evidence) -> list[float]:
    """S6-printed: the same of the printed power, data as printed."""
    return _foretells(_rows(evidence, "as-printed"), "rates, power 1")


def _foretells(rows: list[Row], metric: str) -> list[float]:
    """Jackknife over stacks of Fisher's z of the correlation, over starts, of a metric at step 100 and the cluster at the end."""

    def z(chosen: np.ndarray) -> float:
        some = [rows[i] for i in chosen]
        sizes = np.concatenate([row.run.results["cluster"] for row in some])
        return float(np.arctanh(np.corrcoef(joined(some)[1][METRICS.index(metric), FROM], sizes)[0, 1]))

    return jackknife(z, len(rows)).tolist()
