"""Intervals: over seeds, for one more run, of a share and of a correlation; the jackknife; and how they are written."""

from collections.abc import Callable

import numpy as np
import scipy  # its parts, which take long, are imported when they are first used


def interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean and t interval over the first axis (seeds); with one seed, the value itself thrice."""
    values = np.asarray(values, dtype=float)
    middle, n = values.mean(0), len(values)
    if n < 2:
        return middle, middle, middle
    half = scipy.stats.t.ppf((1 + level) / 2, n - 1) * values.std(0, ddof=1) / np.sqrt(n)
    return middle, middle - half, middle + half


def deciding(values: np.ndarray) -> list[float]:
    """Return the column of values `(seed, column)` that decides whether all exceed zero.

    One that is surely below zero or, if none is, the one whose interval reaches down farthest: all exceed zero if that one
    does (intersection-union).
    """
    _, low, high = interval(values)
    return values[:, int(np.argmin(high if (high < 0).any() else low))].tolist()


def prediction_interval(values: np.ndarray) -> tuple[float, float]:
    r"""Return the 95 % interval in which one more value of the same normal distribution lies.

    .. math:: \bar x \pm t_{n-1} \, s \sqrt{1 + 1/n}
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    half = scipy.stats.t.ppf(0.975, n - 1) * values.std(ddof=1) * np.sqrt(1 + 1 / n)
    return float(values.mean() - half), float(values.mean() + half)


def binomial_interval(n_found: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of Clopper and Pearson for a share: `n_found` of `n`."""
    low = scipy.stats.beta.ppf(0.025, n_found, n - n_found + 1) if n_found else 0.0
    high = scipy.stats.beta.ppf(0.975, n_found + 1, n - n_found) if n_found < n else 1.0
    return float(low), float(high)


def as_text(middle: float, low: float, high: float, *, unit: str = "") -> str:
    """Return a value and its interval for readers, such as ``−0.12 [−0.15, −0.09]``; the value alone if they coincide."""
    said = f"{_short(middle)}{unit}" if low == high else f"{_short(middle)}{unit} [{_short(low)}, {_short(high)}]"
    return said.replace("-", "−")


def signed(value: float) -> str:
    """Return a value with its sign for readers, such as ``−6.67``."""
    return f"{value:+g}".replace("-", "−")


def _short(value: float) -> str:
    """Return three digits of a value, or all before the point: no thousand is written as a power."""
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"


def pearson_interval(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Return Pearson's r and its 95 % percentile bootstrap interval, resampling pairs; NaN pairs are left out."""
    pairs = np.stack([np.asarray(a, float), np.asarray(b, float)])
    pairs = pairs[:, np.isfinite(pairs).all(0)]
    picks = np.random.default_rng(seed).integers(pairs.shape[1], size=(2000, pairs.shape[1]))
    x, y = pairs[0][picks], pairs[1][picks]
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    draws = (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(np.corrcoef(pairs)[0, 1]), float(low), float(high)


def pseudo_values(pairs: np.ndarray) -> np.ndarray:
    r"""Return jackknife pseudo-values `(n,)` of a mean over pairs of members, such as the likeness of two seeds' SAEs.

    Pairs that share a member are not independent; an interval over these values accounts for that. Their mean is the
    mean over all pairs.

    .. math:: \theta_i = n \, U - (n - 1) \, U_{-i}

    Parameters
    ----------
    pairs : ndarray (n, n)
        A value for every ordered pair; the diagonal is not looked at. Of two members, the mean alone is returned, of one
        NaN.
    """
    n = len(pairs)
    if n == 1:
        return np.array([np.nan])
    if n == 2:
        return np.array([(pairs[0, 1] + pairs[1, 0]) / 2])
    off = np.where(np.eye(n, dtype=bool), 0.0, pairs)
    total = off.sum()
    without = total - off.sum(0) - off.sum(1)
    return total / (n - 1) - without / (n - 2)


def jackknife(statistic: Callable[[np.ndarray], float], n: int) -> np.ndarray:
    r"""Return pseudo-values `(n,)` of a statistic of n members: an interval over them is one for the statistic.

    .. math:: \theta_i = n \, T - (n - 1) \, T_{-i}

    Parameters
    ----------
    statistic
        From the indices of the members that are in, to a number.
    """
    every = np.arange(n)
    return n * statistic(every) - (n - 1) * np.array([statistic(np.delete(every, i)) for i in every])
