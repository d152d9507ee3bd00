"""What a fair opponent of the penalty costs, and how far a run's loss lies from it, in the end and on the way."""

from functools import reduce

import numpy as np

from mfrbook.experiments.conditions import Seeds, treated
from mfrbook.experiments.evidence import Untested
from mfrbook.store.runs import Run
from mfrlib.training.config import TrainingConfig

DENSE = 0.1
"""Share of samples, or tokens, from which on a feature counts as dense."""
ALWAYS = 0.9
"""Share of them from which on it counts as always on."""


def equal_compute(config: TrainingConfig) -> float:
    r"""Return the cost of a step with the penalty over that of one without, in floating-point operations.

    .. math:: 1 + \frac{\binom{N}{2} n^2}{B \sum_i (n + 4 k_i)}

    A step encodes densely, N · B · n · d multiplications; what follows touches k features a sample, in four sparse
    products. The penalty adds the cosines of each pair of dictionaries, n² · d, once. Left out on both sides: the
    optimiser, and a language model's own pass. The one-way, maximum form is meant (R9, R9b).
    """
    n, pairs = config.n_features, config.n_saes * (config.n_saes - 1) // 2
    return 1 + pairs * n * n / (config.batch_size * sum(n + 4 * k for k in config.ks))


def ks_of(run: Run) -> list[int]:
    """Return the k of each SAE of a run."""
    k = run.config["k"]
    return list(k) if isinstance(k, list | tuple) else [k] * run.config["n_saes"]


def loss_change(seeds: Seeds, name: str, against: str, metric: str = "loss") -> np.ndarray:
    """Return the relative change of the held-out loss, or another metric, from one run to another of the same seed, `(seed, sae)`."""
    pairs = [(np.array(one[name].results[metric]), np.array(one[against].results[metric])) for one in seeds]
    return np.array([after / before - 1 for after, before in pairs])


def early_inactivity(run: Run) -> np.ndarray:
    """Return each SAE's largest inactivity in the window after the start `(sae,)`."""
    steps, values = run.series("inactivity")
    return values[steps < run.config["reinit_window"]].max(0)


def dense_correlation(seeds: Seeds) -> list[float]:
    """Return for each seed Pearson's r over the SAEs of the held-out loss's relative change and the dense features taken away.

    A feature is dense that is active on more than `DENSE` of held-out samples; taken away are the baseline's minus those of the
    run with the penalty.
    """
    found = []
    for pair in zip(treated(seeds), (runs["baseline"] for runs in seeds), strict=True):
        after, before = ((run.arrays["rate"] > DENSE).sum(1) for run in pair)
        loss = np.divide(*(run.results["loss"] for run in pair))
        if len(loss) < 3 or (before == after).all():
            raise Untested("Needs three k or more, and dense features that come or go.")
        found.append(float(np.corrcoef(loss - 1, before - after)[0, 1]))
    return found


def change_along(seeds: Seeds, name: str, against: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps, one in `log_every` and the last, and the relative change of the training loss at each.

    The loss is the reconstruction term alone, on the batch of that step. Runs of one seed see the same batches, so that
    the change, `(seed, step, sae)`, is paired by batch.
    """
    apart = max(one[which].config["log_every"] for one in seeds for which in (name, against))
    recorded = [[one[which].series("loss") for which in (name, against)] for one in seeds]
    steps = reduce(np.intersect1d, [at for pair in recorded for at, _ in pair])
    steps = steps[(steps % apart == 0) | (steps == steps[-1])]
    after, before = (
        np.array([pair[which][1][np.isin(pair[which][0], steps)] for pair in recorded]) for which in (0, 1)
    )
    return steps, after / before - 1


def early_and_late(seeds: Seeds, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative change of the training loss from the baseline's, mean over the first fifth of the steps and over the last.

    `(seed, sae)` each. The first step, at which both runs are still the same, is left out where there is another.
    """
    steps, change = change_along(seeds, name, "baseline")
    early, late = steps <= 0.2 * steps[-1], steps >= 0.8 * steps[-1]
    if (early & (steps > 0)).any():
        early &= steps > 0
    return change[:, early].mean(1), change[:, late].mean(1)
