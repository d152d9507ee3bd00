"""S10 and Q14: how well each metric, at each step of many starts, tells which have an always-on feature in the end."""

import numpy as np

from mfrbook.chapters.synthetic.questions.always_on import ALWAYS, auc
from mfrbook.chapters.synthetic.starts.runs import METRICS, Row
from mfrbook.drawing.statistics import jackknife
from mfrbook.experiments.evidence import Evidence, Untested

OF_THE_PAPER = METRICS[:3]  # the statistic's readings (R10); the others are ours
FROM = 100  # steps: about where the paper sees it


def telling(rows: list[Row], metrics: slice = slice(None), steps: slice = slice(None)) -> np.ndarray:
    """Return the AUC `(metric, step)` with which each metric tells the starts that end with an always-on feature: 0.5 is chance."""
    final, statistics = joined(rows)
    on = final > ALWAYS
    if on.all() or not on.any():
        raise Untested("All starts end alike: there is nothing to tell.")
    return np.stack([auc(at[:, on], at[:, ~on]) for at in statistics[metrics, steps]])


def joined(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest rate at the end, `(start,)`, and the statistics `(metric, step, start)` of all stacks."""
    final = np.concatenate([row.run.results["largest_rate"] for row in rows])
    return final, np.concatenate([row.run.arrays["statistics"].astype(np.float32) for row in rows], axis=2)


def _rows(evidence: Evidence, data: str) -> list[Row]:
    return [row for row in evidence.get("starts") if row.data == data]


def _spread(rows: list[Row]) -> list[float]:
    """Jackknife over stacks of what the best reading of the statistic tells better than the worst, mean over steps."""

    def spread(chosen: np.ndarray) -> float:
        by_metric = telling([rows[i] for i in chosen], slice(len(OF_THE_PAPER)), slice(FROM, None)).mean(1)
        return float(by_metric.max() - by_metric.min())

    return jackknife(spread, len(rows)).tolist()


def _tells(rows: list[Row], metric: str) -> list[float]:
    """Jackknife over stacks of the AUC of a metric at step 100, above chance."""
    place = METRICS.index(metric)
    where = slice(place, place + 1), slice(FROM, FROM + 1)
    return jackknife(lambda chosen: telling([rows[i] for i in chosen], *where).item() - 0.5, len(rows)).tolist()


def starts_metric_released(evidence: Evidence) -> list[float]:
    """S10: how much better the best of the statistic's readings tells the final kind than the worst (AUC), released data."""
    return _spread(_rows(evidence, "as-released"))


def starts_metric_printed(evidence: Evidence) -> list[float]:
    """S10: the same on the data as printed."""
    return _spread(_rows(evidence, "as-printed"))


def starts_early_cube(evidence: Evidence) -> list[float]:
    """S6: AUC of the released code's cube at step 100 above chance, released data."""
    return _tells(_rows(evidence, "as-released"), "rates, cube")


def starts_early_printed(evidence: Evidence) -> list[float]:
    """S6: AUC of the printed power at step 100 above chance, data as printed."""
    return _tells(_rows(evidence, "as-printed"), "rates, power 1")
